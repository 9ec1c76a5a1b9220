//! Judging: facts and figures in, [`result::RunResult`] out. A pure function.
//!
//! Precedence inside a scenario: a void experiment is inconclusive and its checks are not judged; else a
//! failure seen while the fault held is a fail; else anything not established is inconclusive; else pass.
//! Nothing passes by default: every check names what it rests on.

mod checks;
mod events;
mod requirements;
pub mod result;
mod run;
mod scenario;
mod story;
mod streams;
mod turns;

pub use run::judge;
pub use scenario::samples;

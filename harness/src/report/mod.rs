//! Rendering: a judged run in, text out.
//!
//! Every renderer is a pure function of [`RunResult`]: no clock, no environment, no paths of the
//! machine, so the same run gives the same bytes wherever and whenever it is rendered. Nothing here
//! judges: a verdict that the result does not hold is never made up. Only [`write`](fn@write) touches
//! the disk.

mod escape;
mod figures;
mod files;
mod histograms;
mod json;
mod junit;
mod markdown;
mod terminal;
mod words;

pub use crate::verdict::result::RouteSamples;
pub use files::write;
pub use histograms::histograms;
pub use json::{json, schema};
pub use junit::junit;
pub use markdown::markdown;
pub use terminal::{TerminalStyle, terminal};

#[cfg(doc)]
use crate::verdict::result::RunResult;

//! Judging: analysis and expectations in, [`result::RunResult`] out.

pub mod result;

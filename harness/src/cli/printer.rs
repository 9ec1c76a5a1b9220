//! Where words go: data to stdout, everything else to stderr.

use std::io::{IsTerminal, Write};

use super::exit::ExitStatus;
use crate::input::{Problem, Problems, Style};

/// Print data. A reader that closed its end (`| head`) is no error of ours.
pub(super) fn data(text: &str) -> ExitStatus {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    ExitStatus::Pass
}

/// Tell a person something.
pub(super) fn tell(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Say what is wrong and what to do; bad usage or file.
pub(super) fn usage_error(text: &str) -> ExitStatus {
    tell(&format!("error: {text}"));
    ExitStatus::Usage
}

/// Show everything that is wrong with files.
pub(super) fn problems(problems: &Problems) -> ExitStatus {
    tell(problems.render(Style::for_stderr()).trim_end());
    ExitStatus::Usage
}

/// Show one thing that is wrong with a file, or doubtful.
pub(super) fn problem(problem: &Problem) -> ExitStatus {
    tell(problem.render(Style::for_stderr()).trim_end());
    ExitStatus::Usage
}

/// Colour is for terminals whose owner did not say no.
pub(super) fn color_on_stderr() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::io::stderr().is_terminal()
}

/// The same for stdout.
pub(super) fn color_on_stdout() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::io::stdout().is_terminal()
}

//! Collects everything that is wrong with one file.

use super::at::{At, Scalar, Text};
use super::problem::{Place, Problem};
use crate::units::Period;

/// Longer than any mode, wait or restart makes sense.
const PERIOD_MAX: Period = Period::from_secs(24 * 3600);

/// Nobody reads more at once, and drawing each takes time that a hostile file could multiply.
const PROBLEMS_MAX: usize = 100;

/// Problems and warnings of one file so far.
pub(crate) struct Checker<'a> {
    file: &'a str,
    text: &'a str,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// Found when there were already [`PROBLEMS_MAX`].
    more: usize,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, problems: Vec::new(), warnings: Vec::new(), more: 0 }
    }

    /// Something is wrong at a place.
    pub(crate) fn problem(&mut self, place: Place, message: &str, hint: impl Into<String>) {
        if !self.is_full() {
            self.problems.push(Problem::at(self.file, self.text, place, message, Some(hint.into())));
        }
    }

    /// Something is wrong with a value that may be a secret, which is not shown.
    pub(crate) fn secret_problem(&mut self, place: Place, message: &str, hint: &str) {
        if !self.is_full() {
            let problem = Problem::at(self.file, self.text, place, message, Some(hint.to_owned()));
            self.problems.push(problem.hiding_the_value());
        }
    }

    /// Counts what is not kept.
    fn is_full(&mut self) -> bool {
        let full = self.problems.len() >= PROBLEMS_MAX;
        self.more += usize::from(full);
        full
    }

    /// Something is doubtful at a place.
    pub(crate) fn warning(&mut self, place: Place, message: &str, hint: impl Into<String>) {
        self.warnings
            .push(Problem::at(self.file, self.text, place, message, Some(hint.into())).into_warning());
    }

    /// Reads a scalar, noting what is wrong with it.
    pub(crate) fn scalar<T: Scalar>(&mut self, written: &At<Text<T>>) -> Option<T> {
        match T::read(&written.value.text) {
            Ok(value) => Some(value),
            Err((message, hint)) => {
                self.problem(written.place, &message, hint);
                None
            }
        }
    }

    /// Reads a period longer than nothing and no longer than a day.
    pub(crate) fn period(&mut self, what: &str, written: &At<Text<Period>>) -> Option<Period> {
        let period = self.scalar(written)?;
        if period.0.is_zero() {
            self.problem(written.place, &format!("`{what}` cannot be zero"), "write a period like `5s`");
            return None;
        }
        if period > PERIOD_MAX {
            self.problem(written.place, &format!("`{what}` is longer than 24h"), "write at most `24h`");
            return None;
        }
        Some(period)
    }

    /// Checks a name: `[a-z0-9-]+`, at most 63 characters.
    pub(crate) fn name(&mut self, what: &str, written: &At<String>) -> bool {
        let good = is_name(&written.value);
        if !good {
            self.problem(
                written.place,
                &format!("`{}` cannot be {what}", written.value),
                "use lower-case letters, digits and hyphens, at most 63 of them",
            );
        }
        good
    }

    /// Notes an unknown name, with the nearest of those that exist.
    pub(crate) fn unknown<'n>(
        &mut self,
        what: &str,
        written: &At<String>,
        known: impl IntoIterator<Item = &'n str>,
    ) {
        let hint = nearest_of(what, &written.value, known);
        self.problem(written.place, &format!("unknown {what} `{}`", written.value), hint);
    }

    /// Notes every repetition in a list.
    pub(crate) fn no_repeats<'n>(&mut self, what: &str, written: impl IntoIterator<Item = (&'n str, Place)>) {
        let mut seen = std::collections::BTreeSet::new();
        for (name, place) in written {
            if !seen.insert(name) {
                self.problem(place, &format!("{what} `{name}` is written twice"), "keep one of the two");
            }
        }
    }

    /// All that was found, problems and warnings, in the order of lines.
    pub(crate) fn finish(mut self) -> (Vec<Problem>, Vec<Problem>) {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        self.warnings.sort_by_key(|problem| (problem.line, problem.column));
        if self.more > 0 {
            let message = format!("{} more problems in this file", self.more);
            self.problems.push(Problem::of_file(self.file, message, "repair those above first"));
        }
        (self.problems, self.warnings)
    }
}

/// `[a-z0-9-]+`, at most 63 characters.
pub(crate) fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(allowed)
}

/// Help for a name that is not known: the nearest one, and all of them.
pub(crate) fn nearest_of<'n>(what: &str, written: &str, known: impl IntoIterator<Item = &'n str>) -> String {
    let mut known: Vec<&str> = known.into_iter().collect();
    let mut seen = std::collections::BTreeSet::new();
    known.retain(|name| seen.insert(*name));
    let list = known.iter().take(50).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    // Comparing takes the product of both lengths.
    let nearest = known
        .iter()
        .filter(|name| written.len() <= 100 && name.len() <= 100)
        .map(|name| (strsim::jaro_winkler(&written.to_lowercase(), &name.to_lowercase()), name))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .filter(|(similarity, _)| *similarity >= 0.75);
    match (nearest, known.is_empty()) {
        (_, true) => format!("there is no {what} to choose from"),
        (Some((_, name)), _) => format!("did you mean `{name}`? possible: {list}"),
        (None, _) => format!("possible: {list}"),
    }
}

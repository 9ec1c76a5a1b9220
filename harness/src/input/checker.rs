//! Collects everything that is wrong with one file.

use std::collections::BTreeMap;

use super::at::{At, FromText, Text};
use super::problem::{Hidden, Place, Problem};
use super::tree::{Content, Node};
use crate::units::Period;

/// Longer than any mode, wait or restart makes sense.
const PERIOD_MAX: Period = Period::from_secs(24 * 3600);

/// Nobody reads more at once, and drawing each takes time that a hostile file could multiply.
const FINDINGS_MAX: usize = 100;

/// Comparing more names than this takes time that a hostile file could multiply.
const COMPARED_MAX: usize = 500;

/// Problems and warnings of one file so far.
pub(crate) struct Checker<'a> {
    file: &'a str,
    text: &'a str,
    problems: Findings,
    warnings: Findings,
    /// Line -> column from which on nothing of it is shown.
    hidden: BTreeMap<usize, usize>,
    /// The text could not be parsed to its end.
    broken: bool,
    words_for_key: fn(&str) -> Option<(String, String)>,
    /// What is being read, in the words of a person.
    subject: String,
}

#[derive(Default)]
struct Findings {
    kept: Vec<(Place, String, String)>,
    /// Found when there were already [`FINDINGS_MAX`].
    more: usize,
}

impl Findings {
    fn add(&mut self, place: Place, message: &str, hint: String) {
        if self.kept.len() < FINDINGS_MAX {
            self.kept.push((place, message.to_owned(), hint));
        } else {
            self.more += 1;
        }
    }
}

impl<'a> Checker<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        Self {
            file,
            text,
            problems: Findings::default(),
            warnings: Findings::default(),
            hidden: BTreeMap::new(),
            broken: false,
            words_for_key: |_| None,
            subject: "the file".to_owned(),
        }
    }

    /// With more to say about some unknown keys than that they are unknown.
    pub(crate) fn set_words_for_keys(&mut self, words: fn(&str) -> Option<(String, String)>) {
        self.words_for_key = words;
    }

    pub(super) fn words_for_key(&self, key: &str) -> Option<(String, String)> {
        (self.words_for_key)(key)
    }

    /// Reads a part of what is being read, which is called `subject` in messages.
    pub(crate) fn part<T>(&mut self, subject: String, read: impl FnOnce(&mut Self) -> T) -> T {
        let whole = std::mem::replace(&mut self.subject, subject);
        let value = read(self);
        self.subject = whole;
        value
    }

    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// Something is wrong at a place.
    pub(crate) fn problem(&mut self, place: Place, message: &str, hint: impl Into<String>) {
        self.problems.add(place, message, hint.into());
    }

    /// Something is wrong with the file as a whole.
    pub(crate) fn whole(&mut self, message: &str, hint: &str) {
        self.problem(Place::default(), message, hint);
    }

    /// Something is wrong with a value that may be a secret, which is not shown.
    pub(crate) fn secret_problem(&mut self, place: Place, message: &str, hint: &str) {
        self.hide(place);
        self.problem(place, message, hint);
    }

    /// What stands here may be a secret: no problem of this file shows it.
    pub(crate) fn hide(&mut self, place: Place) {
        let column = self.hidden.entry(place.line).or_insert(place.column);
        *column = place.column.min(*column);
    }

    /// The text cannot be parsed: of its lines only what is known to be harmless is shown.
    pub(super) fn hide_unknown(&mut self) {
        self.broken = true;
    }

    /// [`Self::hide`] for all that stands in a value.
    pub(crate) fn hide_all(&mut self, node: &Node) {
        match &node.content {
            Content::Scalar(_) | Content::Broken => self.hide(node.place),
            Content::List(items) => items.iter().for_each(|item| self.hide_all(item)),
            Content::Mapping(entries) => entries.iter().for_each(|entry| self.hide_all(&entry.value)),
        }
    }

    /// Something is doubtful at a place.
    pub(crate) fn warning(&mut self, place: Place, message: &str, hint: impl Into<String>) {
        self.warnings.add(place, message, hint.into());
    }

    /// Nothing is wrong so far.
    pub(crate) fn is_clean(&self) -> bool {
        self.problems.kept.is_empty()
    }

    /// Reads a scalar, noting what is wrong with it.
    pub(crate) fn value<T: FromText>(&mut self, written: &At<Text<T>>) -> Option<T> {
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
        let period = self.value(written)?;
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
    pub(crate) fn name(&mut self, what: &str, written: &At<String>) {
        if !is_name(&written.value) {
            self.problem(
                written.place,
                &format!("`{}` cannot be {what}", written.value),
                "use lower-case letters, digits and hyphens, at most 63 of them",
            );
        }
    }

    /// [`nearest_of`], as long as anybody is to read it: a hostile file could multiply the time that it takes.
    pub(crate) fn hint<'n>(
        &self,
        what: &str,
        written: &str,
        known: impl IntoIterator<Item = &'n str>,
    ) -> String {
        let full = self.problems.kept.len() >= FINDINGS_MAX;
        if full { String::new() } else { nearest_of(what, written, known) }
    }

    /// Notes an unknown name, with the nearest of those that exist.
    pub(crate) fn unknown<'n>(
        &mut self,
        what: &str,
        written: &At<String>,
        known: impl IntoIterator<Item = &'n str>,
    ) {
        let hint = self.hint(what, &written.value, known);
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
    pub(crate) fn finish(self) -> Vec<Problem> {
        let lines = super::problem::Lines::new(self.text);
        let drawn = |(place, message, hint): &(Place, String, String)| {
            let hidden = match self.hidden.get(&place.line) {
                _ if self.broken => Hidden::Unknown,
                Some(column) => Hidden::From(*column),
                None => Hidden::Nothing,
            };
            Problem::at(self.file, &lines, *place, message, hint, hidden)
        };
        let mut all: Vec<Problem> = self.problems.kept.iter().map(drawn).collect();
        all.extend(self.warnings.kept.iter().map(|finding| drawn(finding).into_warning()));
        all.sort_by_key(|problem| (problem.line, problem.column));
        if self.warnings.more > 0 {
            let message = format!("{} more warnings about this file", self.warnings.more);
            all.push(Problem::of_file(self.file, message, "look at those above first").into_warning());
        }
        if self.problems.more > 0 {
            let message = format!("{} more problems in this file", self.problems.more);
            all.push(Problem::of_file(self.file, message, "repair those above first"));
        }
        all
    }
}

/// `[a-z0-9-]+`, at most 63 characters.
pub(crate) fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(allowed)
}

/// The name that is most like what is written, if one is.
pub(crate) fn nearest<'n>(
    written: &str,
    known: impl IntoIterator<Item = &'n str>,
    least: f64,
) -> Option<&'n str> {
    let written = written.to_lowercase();
    // Comparing takes the product of both lengths.
    known
        .into_iter()
        .take(COMPARED_MAX)
        .filter(|name| written.len() <= 100 && name.len() <= 100)
        .map(|name| (similarity(&written, &name.to_lowercase()), name))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .filter(|(similarity, _)| *similarity >= least)
        .map(|(_, name)| name)
}

/// Names at least this much alike may be the same one misspelt.
pub(crate) const SIMILAR: f64 = 0.75;
/// Names at least this much alike are.
pub(crate) const MISSPELT: f64 = 0.87;

fn similarity(a: &str, b: &str) -> f64 {
    let alike = strsim::jaro_winkler(a, b);
    // Two letters in the wrong order weigh too much in a short word.
    let one_slip = a.len().min(b.len()) >= 3 && strsim::osa_distance(a, b) == 1;
    if one_slip { alike.max(0.9) } else { alike }
}

/// Help for a name that is not known: the nearest one, and all of them.
pub(crate) fn nearest_of<'n>(what: &str, written: &str, known: impl IntoIterator<Item = &'n str>) -> String {
    let known: Vec<&str> = known.into_iter().take(COMPARED_MAX).collect();
    if known.is_empty() {
        return format!("there is no {what} to choose from");
    }
    let list = known.iter().take(50).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match nearest(written, known.iter().copied(), SIMILAR) {
        Some(name) => format!("did you mean `{name}`? possible: {list}"),
        None => format!("possible: {list}"),
    }
}

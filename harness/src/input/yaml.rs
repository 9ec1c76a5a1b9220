//! YAML text to values, with limits for hostile input and problems in the words of this program.

use serde::de::DeserializeOwned;
use serde_saphyr::{DuplicateKeyPolicy, Error, MessageFormatter as _, Options, UserMessageFormatter};

use super::at::place_of;
use super::checker::nearest_of;
use super::problem::{Place, Problem};

/// A kind of file that the program reads.
pub(crate) trait Document: DeserializeOwned {
    /// What to say about a key that this kind of file does not know, where there is more to say than a list.
    fn unknown_key(_key: &str) -> Option<(String, String)> {
        None
    }
    /// What to write at a choice that carries data it does not take.
    const CHOICE_HINT: &'static str = "see docs/scenario-format.md";
}

/// Any YAML as JSON, for files of other programs.
impl Document for serde_json::Value {}

/// Limits far above any honest file and far below what hurts.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 64,
            flow_nesting_limit: 64,
            max_nodes: 50_000,
            max_events: 200_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            // One more than is accepted: it has a message of its own.
            max_documents: 2,
            max_merge_keys: 100,
            max_total_scalar_bytes: super::files::MAX_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 50_000,
            max_replay_stack_depth: 16,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    }
}

/// Reads one document.
pub(crate) fn parse<T: Document>(file: &str, text: &str) -> Result<T, Problem> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| explain::<T>(file, text, &error))
}

/// The parser's error in the words of this program.
fn explain<T: Document>(file: &str, text: &str, error: &Error) -> Problem {
    let mut error = error.without_snippet();
    while let Error::AliasError { error: inner, .. } = error {
        error = inner;
    }
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Problem::of_file(
            file,
            "the file is empty",
            "see docs/scenario-format.md for what belongs here",
        );
    }
    let place = error.location().map(place_of).filter(|place| place.line > 0);
    let place = place.unwrap_or(Place { line: 1, column: 1, chars: 1 });
    let (message, hint) = words::<T>(error);
    Problem::at(file, text, place, &message, Some(hint))
}

const SHAPE_HINT: &str = "see docs/scenario-format.md for the shape";

/// Message and help for an error of the parser.
fn words<T: Document>(error: &Error) -> (String, String) {
    match error {
        Error::SerdeUnknownField { field, expected, .. } => T::unknown_key(field).unwrap_or_else(|| {
            (format!("unknown key `{field}`"), nearest_of("key", field, expected.iter().copied()))
        }),
        Error::SerdeUnknownVariant { variant, expected, .. } => (
            format!("`{variant}` is not possible here"),
            nearest_of("choice", variant, expected.iter().copied()),
        ),
        Error::SerdeMissingField { field, .. } => (
            format!("this mapping has no key `{field}`"),
            format!("add `{field}: ...` to it; see docs/scenario-format.md"),
        ),
        Error::DuplicateMappingKey { key, .. } => (
            format!("key `{}` is written twice", key.as_deref().unwrap_or("?")),
            "keep one of the two".to_owned(),
        ),
        Error::SerdeInvalidType { unexpected, expected, .. }
        | Error::SerdeInvalidValue { unexpected, expected, .. } => {
            // The value itself may be a secret: only its kind is repeated.
            let kind: String =
                unexpected.split(['`', '"', '\'']).next().unwrap_or_default().trim().to_owned();
            (format!("found {kind}, expected {}", plain_kind(expected)), SHAPE_HINT.to_owned())
        }
        Error::NullIntoString { .. } => {
            ("the value is empty".to_owned(), "write a value, or leave the key out".to_owned())
        }
        Error::InvalidBooleanStrict { .. } => {
            ("this is not `true` or `false`".to_owned(), "write `true` or `false`".to_owned())
        }
        Error::MultipleDocuments { .. } => (
            "more than one document in a file".to_owned(),
            "give each its own file, without `---` between them".to_owned(),
        ),
        Error::UnexpectedValueForUnitEnumVariant { .. }
        | Error::ExpectedMappingEndAfterEnumVariantValue { .. } => {
            ("this choice takes no value of its own".to_owned(), T::CHOICE_HINT.to_owned())
        }
        Error::ExternallyTaggedEnumExpectedScalarOrMapping { .. }
        | Error::ExpectedStringKeyForExternallyTaggedEnum { .. } => {
            ("expected a choice: a word, or a mapping with one key".to_owned(), T::CHOICE_HINT.to_owned())
        }
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => (
            "more than this program reads: too deep, too many values, or too many aliases".to_owned(),
            "write it with less nesting, fewer anchors and aliases".to_owned(),
        ),
        Error::Message { msg, .. } if msg.contains("recursion limit") => {
            ("more than this program reads: too deep".to_owned(), "write it with less nesting".to_owned())
        }
        Error::Unexpected { expected, .. } => {
            (format!("expected {}", plain_kind(expected)), SHAPE_HINT.to_owned())
        }
        other => (
            UserMessageFormatter.format_message(other).into_owned(),
            "check the YAML here and just above".to_owned(),
        ),
    }
}

/// The words of serde for what is expected, in those of YAML.
fn plain_kind(expected: &str) -> String {
    match expected {
        text if ["struct ", "a map", "mapping"].iter().any(|start| text.starts_with(start)) => {
            "a mapping (`key: value`)".to_owned()
        }
        text if text.starts_with("a sequence") || text.starts_with("sequence") => {
            "a list (`[a, b]`)".to_owned()
        }
        "string scalar" | "scalar" => "a single value".to_owned(),
        text => text.to_owned(),
    }
}

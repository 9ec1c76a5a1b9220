//! The YAML parser's errors in the words of this program.

use granit_parser::{ErrorKind, ScanError};

use super::compose::Stop;
use super::problem::Lines;
use super::problem::Place;

/// What is wrong with a text that is no YAML, and what to do about it.
pub(super) fn explain(error: &ScanError, text: &str) -> Stop {
    let marker = error.marker();
    let mut place = Place { line: marker.line().max(1), column: marker.col() + 1, chars: 1 };
    // The parser notices a tab when it is past it.
    let before = marker.col().checked_sub(1).and_then(|at| Lines::new(text).line(place.line).chars().nth(at));
    if is_about_tabs(error.kind()) && before == Some('\t') {
        place.column -= 1;
    }
    let (message, hint) = words(error.kind());
    Stop { place, message, hint: hint.to_owned() }
}

fn is_about_tabs(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation
            | ErrorKind::TabAtBlockScalarStart
            | ErrorKind::TabInPlainScalar
    )
}

/// Message and help. What is not named here cannot be made by mistake, or not easily.
fn words(kind: &ErrorKind) -> (String, &'static str) {
    use ErrorKind as Kind;
    let (message, hint) = match kind {
        kind if is_about_tabs(kind) => ("there is a tab where YAML wants blanks", "indent with blanks only"),
        Kind::UnclosedQuotedScalar | Kind::DocumentIndicatorInQuotedScalar => {
            ("this quote is never closed", "add the closing quote")
        }
        Kind::UnclosedFlowCollection { open } => {
            let close = if *open == '{' { '}' } else { ']' };
            return (
                format!("this `{open}` is never closed"),
                if close == '}' { "add `}`" } else { "add `]`" },
            );
        }
        Kind::MismatchedFlowCollectionEnd { open, close } => {
            return (format!("`{close}` cannot close `{open}`"), "close each bracket with its own kind");
        }
        Kind::MisplacedFlowCollectionEnd => {
            ("this bracket closes nothing", "remove it, or add the opening one")
        }
        Kind::UnexpectedEofFlowSequence
        | Kind::UnexpectedEofFlowMapping
        | Kind::UnexpectedEofImplicitFlowMapping => {
            ("the file ends inside of brackets", "add the closing bracket")
        }
        Kind::ExpectedFlowMappingSeparator | Kind::ExpectedFlowSequenceSeparator => (
            "there should be a comma or a closing bracket here",
            "check commas, brackets and quotes here and just before",
        ),
        Kind::SimpleKeyExpected | Kind::InvalidSimpleKey => {
            ("there should be `key: value` here", "check that the line has its colon and a blank after it")
        }
        Kind::ExpectedBlockMappingKey => (
            "this line does not go with those above it",
            "give keys that belong together the same indentation, and check the line for its colon",
        ),
        Kind::MappingValueNotAllowed | Kind::MappingKeyNotAllowed | Kind::InvalidColonPlacement => (
            "a colon is not possible here",
            "put text that holds `: ` in quotes; check the indentation, and that brackets above are closed",
        ),
        Kind::InvalidMappingValueWhitespace | Kind::FlowMappingValueAdjacentCollection => {
            ("there is no blank after the colon", "write `key: value`")
        }
        Kind::InvalidIndentation
        | Kind::InvalidFlowScalarIndent
        | Kind::InvalidBlockScalarIndent
        | Kind::InvalidQuotedScalarIndent
        | Kind::ExpectedBlockSequenceEntry => (
            "the indentation of this line fits none of the lines above it",
            "give keys that belong together the same indentation",
        ),
        Kind::BlockSequenceEntryNotAllowed
        | Kind::BlockEntryInFlowCollection
        | Kind::InvalidBlockEntryWhitespace
        | Kind::PlainScalarStartsWithDashFlowIndicator => (
            "a list entry (`- `) is not possible here",
            "begin the list on a line of its own, or write it in brackets: `[a, b]`",
        ),
        Kind::UnexpectedCharacter { character } => {
            let shown = character.escape_default();
            return (format!("a word cannot begin with `{shown}`"), "put the word in quotes");
        }
        Kind::InvalidTrailingSingleQuotedScalar | Kind::InvalidTrailingDoubleQuotedScalar => {
            ("there is something behind the closing quote", "put all of the text between the quotes")
        }
        Kind::UnknownQuotedScalarEscape
        | Kind::InvalidQuotedScalarHexEscape
        | Kind::InvalidLowSurrogateHexEscape
        | Kind::InvalidLowSurrogate
        | Kind::MissingLowSurrogate
        | Kind::UnpairedLowSurrogate
        | Kind::InvalidUnicodeEscape => {
            ("this backslash begins nothing that YAML knows", "write two backslashes, or use single quotes")
        }
        Kind::CommentNotSeparated | Kind::CommentInterceptedScalar => {
            ("a comment is not possible here", "put a blank in front of `#`, or the text in quotes")
        }
        Kind::MissingAnchorOrAliasName => {
            ("`&` or `*` stands without a name", "put text that begins with `*` or `&` in quotes")
        }
        Kind::BomInsideDocument => (
            "there is a byte order mark inside of the file",
            "remove it: only the first character may be one",
        ),
        Kind::RecursionLimitExceeded => {
            ("more than this program reads: too deep", "write it with less nesting")
        }
        Kind::InvalidDocumentEnd => ("there is something behind the end of the document", "remove it"),
        _ => ("this is not YAML", "check the YAML here and just above"),
    };
    (message.to_owned(), hint)
}

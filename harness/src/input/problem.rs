//! What is wrong with a file, where, and what to do about it; drawn by miette.

use std::fmt::{self, Write as _};
use std::io::IsTerminal as _;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteHandlerOpts,
    MietteSpanContents, ReportHandler as _, Severity, SourceCode, SourceSpan, SpanContents,
};

use super::secret;

/// A longer line is shown as a window around the fault.
const SHOWN_CHARS: usize = 160;
/// A longer message or hint is cut.
const WORDS_CHARS: usize = 600;
/// A longer name in them too.
const NAME_CHARS: usize = 100;
/// Stands for what may be a secret.
const HIDDEN: &str = "***";

/// One thing that is wrong in one file (or, in `Loaded::warnings`, doubtful).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as the person named it.
    pub file: String,
    /// From 1; `None` where the file as a whole is meant.
    pub line: Option<u32>,
    /// From 1, in characters.
    pub column: Option<u32>,
    /// What is wrong, one line.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The line itself as it may be shown: secrets and control characters replaced, long lines cropped.
    pub source_line: Option<String>,
    /// Drawn as a warning.
    severity: Severity,
    /// Start and length in bytes within `source_line`, which is short; small so that errors stay small.
    caret: (u16, u16),
}

/// A position in a text, with the extent of what is meant there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// From 1; 0 is "not known".
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
    /// Extent in characters.
    pub(crate) chars: usize,
}

/// What of a line is not shown, besides what looks like a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hidden {
    /// All of it may be shown.
    Nothing,
    /// What stands from this column on.
    From(usize),
    /// All that is not known to be harmless: the file cannot be parsed, so that no key tells what a value is.
    Unknown,
}

impl Problem {
    /// A problem with a file as a whole.
    #[must_use]
    pub fn of_file(file: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            file: printable(file),
            line: None,
            column: None,
            message: short(&message.into()),
            hint: Some(short(&hint.into())),
            source_line: None,
            severity: Severity::Error,
            caret: (0, 0),
        }
    }

    /// A problem at a place of a text, of whose line no more is shown than `hidden` says.
    pub(crate) fn at(
        file: &str,
        lines: &Lines<'_>,
        place: Place,
        message: &str,
        hint: &str,
        hidden: Hidden,
    ) -> Self {
        let mut problem = Self::of_file(file, message, hint);
        if place.line > 0 {
            let (line, caret) = shown_line(lines.line(place.line), place, hidden);
            let counted = |n: usize| u32::try_from(n.max(1)).unwrap_or(u32::MAX);
            let small = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
            problem.line = Some(counted(place.line));
            problem.column = Some(counted(place.column));
            problem.caret = (small(caret.0), small(caret.1));
            problem.source_line = Some(line);
        }
        problem
    }

    /// The same as a warning.
    pub(crate) fn into_warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }

    /// True for a doubt that does not keep the file from being used.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        self.severity == Severity::Warning
    }

    /// The problem with its line, caret and help, as shown to a person; ends in a line feed.
    #[must_use]
    pub fn render(&self, style: Style) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail, and the source below answers every span.
        let _ = match style {
            Style::Plain => GraphicalReportHandler::new_themed(GraphicalTheme::none())
                .with_wrap_lines(false)
                .with_context_lines(0)
                .render_report(&mut out, &Drawn(self)),
            Style::Terminal => write!(out, "{}", OnTerminal(self)),
        };
        // miette ends header, caret and empty lines in blanks.
        let mut trimmed: String = out.lines().flat_map(|line| [line.trim_end(), "\n"]).collect();
        trimmed.truncate(trimmed.trim_end().len());
        trimmed.push('\n');
        trimmed
    }
}

/// How problems are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// ASCII without colour, lines not wrapped: logs, pipes, `NO_COLOR`.
    Plain,
    /// As the terminal on stderr can: its width, colours, Unicode frames.
    Terminal,
}

impl Style {
    /// What suits stderr: plain unless it is a terminal and `NO_COLOR` is unset.
    #[must_use]
    pub fn for_stderr() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if no_color || dumb || !std::io::stderr().is_terminal() { Self::Plain } else { Self::Terminal }
    }
}

/// miette draws for terminals through a formatter only.
struct OnTerminal<'a>(&'a Problem);

impl fmt::Display for OnTerminal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        MietteHandlerOpts::new().force_graphical(true).context_lines(0).build().debug(&Drawn(self.0), f)
    }
}

impl fmt::Display for Problem {
    /// One line: `file:line:column: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, "{}:{line}:{column}: {}", self.file, self.message),
            _ => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for Problem {}

/// A problem as miette draws it: the position is in the frame around the line, not in the message.
#[derive(Debug)]
struct Drawn<'a>(&'a Problem);

impl fmt::Display for Drawn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.source_line.is_some() { f.write_str(&self.0.message) } else { self.0.fmt(f) }
    }
}

impl std::error::Error for Drawn<'_> {}

impl Diagnostic for Drawn<'_> {
    fn severity(&self) -> Option<Severity> {
        Some(self.0.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.0.source_line.is_some().then_some(self.0 as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.0.source_line.as_ref()?;
        let (start, length) = self.0.caret;
        let span = (usize::from(start), usize::from(length));
        Some(Box::new(std::iter::once(LabeledSpan::new_primary_with_span(None, span))))
    }
}

/// A problem carries its own line, so that nothing keeps whole files in memory.
impl SourceCode for Problem {
    fn read_span<'a>(
        &'a self,
        _span: &SourceSpan,
        _lines_before: usize,
        _lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let line = self.source_line.as_deref().unwrap_or_default();
        Ok(Box::new(MietteSpanContents::new_named(
            self.file.clone(),
            line.as_bytes(),
            (0, line.len()).into(),
            zero_based(self.line),
            zero_based(self.column),
            1,
        )))
    }
}

fn zero_based(position: Option<u32>) -> usize {
    position.and_then(|position| usize::try_from(position.saturating_sub(1)).ok()).unwrap_or(0)
}

/// Everything that is wrong, in the order of files and lines; never empty as an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// All problems, drawn one below the other.
    #[must_use]
    pub fn render(&self, style: Style) -> String {
        self.0.iter().map(|problem| problem.render(style)).collect::<Vec<_>>().join("\n")
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_char('\n')?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// Characters that could drive the terminal (control characters, changes of direction) replaced.
fn printable(text: &str) -> String {
    let drives = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if drives(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Printable, and cut where a file put far too much into a name.
fn short(text: &str) -> String {
    // What is quoted stands in every second part.
    let parts = text.split('`').enumerate();
    let parts: Vec<String> = parts
        .map(|(index, part)| if index % 2 == 1 { cut(part, NAME_CHARS) } else { printable(part) })
        .collect();
    cut(&parts.join("`"), WORDS_CHARS)
}

fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((at, _)) => printable(&text[..at]) + "...",
        None => printable(text),
    }
}

/// The lines of a text, as YAML counts them: they end in LF, CRLF or CR.
pub(crate) struct Lines<'a> {
    text: &'a str,
    starts: Vec<u32>,
}

impl<'a> Lines<'a> {
    /// Of a text that is far shorter than 4 GiB.
    pub(crate) fn new(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        let ends = (0..bytes.len()).filter(|&at| match bytes[at] {
            b'\n' => true,
            b'\r' => bytes.get(at + 1) != Some(&b'\n'),
            _ => false,
        });
        let starts = std::iter::once(0).chain(ends.map(|at| at + 1));
        Self { text, starts: starts.filter_map(|at| u32::try_from(at).ok()).collect() }
    }

    /// Line and column of the end of the text.
    pub(crate) fn end(&self) -> (usize, usize) {
        let number = self.starts.len();
        (number, self.line(number).chars().count() + 1)
    }

    /// A line by its number from 1, without its end.
    pub(super) fn line(&self, number: usize) -> &'a str {
        let start = |number: usize| {
            let at = self.starts.get(number.checked_sub(1)?)?;
            usize::try_from(*at).ok()
        };
        let from = start(number).unwrap_or(self.text.len());
        let to = start(number + 1).unwrap_or(self.text.len());
        self.text[from..to].trim_end_matches(['\r', '\n'])
    }
}

/// A line as it may be shown, and the byte range of the caret in it.
fn shown_line(line: &str, place: Place, hidden: Hidden) -> (String, (usize, usize)) {
    let chars: Vec<char> = line.chars().map(|c| if c == '\t' { ' ' } else { c }).collect();
    let mut start = place.column.saturating_sub(1).min(chars.len());
    let mut length = place.chars.max(1);
    let from = if chars.len() > SHOWN_CHARS { start.saturating_sub(SHOWN_CHARS / 2) } else { 0 };
    let to = chars.len().min(from + SHOWN_CHARS);
    let mut shown = printable(&chars[from..to].iter().collect::<String>());
    // Counted in characters, since what is replaced may change its length.
    let column = |at: usize| line[..at].chars().count();
    let named = secret::in_line(line).map(column);
    let hidden = match hidden {
        Hidden::Nothing => None,
        Hidden::From(column) => Some(column.saturating_sub(1)),
        Hidden::Unknown => secret::in_broken_line(line).map(column),
    };
    if let Some(keep) = named.into_iter().chain(hidden).min()
        && keep < to
    {
        let keep = keep.max(from);
        if let Some((at, _)) = shown.char_indices().nth(keep - from) {
            shown.truncate(at);
        }
        shown.push_str(HIDDEN);
        if start >= keep {
            start = keep;
            length = HIDDEN.len();
        }
    }
    if shown.is_empty() {
        shown.push(' ');
    }
    let offsets: Vec<usize> = shown.char_indices().map(|(at, _)| at).chain([shown.len()]).collect();
    let last = offsets.len() - 1;
    let first = start.saturating_sub(from).min(last);
    let end = first.saturating_add(length).min(last);
    (shown, (offsets[first], offsets[end].saturating_sub(offsets[first]).max(1)))
}

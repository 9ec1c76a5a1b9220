//! The end of a log, for error messages.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::gateway::secret::Secret;

/// Lines of a log that an error quotes.
const LINES: usize = 20;
/// Bytes from the end of a log that are looked at.
const BYTES: u64 = 16 * 1024;

/// The last lines of the log at `path`, without colours and without these secrets; empty if it cannot be read.
pub(crate) fn log_tail(path: &Path, secrets: &[Secret]) -> String {
    read_end(path).map(|bytes| last_lines(&bytes, secrets)).unwrap_or_default()
}

/// Whether the end of the log at `path` contains `text`.
pub(crate) fn log_mentions(path: &Path, text: &str) -> bool {
    read_end(path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
}

fn read_end(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
    let mut bytes = Vec::new();
    file.take(BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn last_lines(bytes: &[u8], secrets: &[Secret]) -> String {
    let text = plain(&String::from_utf8_lossy(bytes));
    // The longest first: what is left of one that holds another would be shown.
    let mut secrets: Vec<&Secret> = secrets.iter().collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
    let text = secrets.into_iter().fold(text, |text, secret| secret.redact(&text));
    let lines: Vec<_> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// One line of output as a person should see it.
pub(super) fn plain_line(line: &[u8]) -> String {
    plain(&String::from_utf8_lossy(line)).trim().to_owned()
}

/// `text` without ANSI colour sequences and other control characters, line breaks apart.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        if char == '\u{1b}' && chars.next_if_eq(&'[').is_some() {
            // A control sequence ends at its first character from `@` on.
            while chars.next().is_some_and(|next| !('\u{40}'..='\u{7e}').contains(&next)) {}
        } else if char == '\n' || char == '\t' || !char.is_control() {
            plain.push(char);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::{last_lines, plain};
    use crate::gateway::secret::Secret;

    #[test]
    fn colours_and_keys_are_left_out() {
        assert_eq!(plain("\u{1b}[1;31mred\u{1b}[0m\r\nnext\u{7}"), "red\nnext");
        let secrets = ["sk-1", "", "sk-1-of-another"].map(Secret::new);
        let text = b"a\n\nkey sk-1 here\nsk-1-of-another\n";
        assert_eq!(last_lines(text, &secrets), "a\nkey *** here\n***");
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let text: String = (0..50).map(|line| format!("{line}\n")).collect();
        let tail = last_lines(text.as_bytes(), &[Secret::new("sk-1")]);
        assert_eq!(tail.lines().next(), Some("30"));
        assert_eq!(tail.lines().count(), 20);
    }
}

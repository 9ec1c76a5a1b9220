//! Text from outside (error bodies, names, details) made safe for where it is shown.

/// One line of visible text: white space is folded to single spaces and trimmed, and characters that
/// could drive a terminal, turn the reading direction or break XML become U+FFFD.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(word.chars().map(|c| if hidden(c) { char::REPLACEMENT_CHARACTER } else { c }));
    }
    out
}

fn hidden(c: char) -> bool {
    let noncharacter = (c as u32) & 0xFFFE == 0xFFFE || ('\u{FDD0}'..='\u{FDEF}').contains(&c);
    let direction = matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    let zero_width = matches!(c, '\u{200B}' | '\u{2060}' | '\u{FEFF}');
    c.is_control() || noncharacter || direction || zero_width
}

/// Text from outside as one line of Markdown that shows exactly these characters: it opens no markup,
/// ends no table cell and starts no block. Empty text becomes `(none)`.
pub(super) fn markdown(text: &str) -> String {
    let line = plain(text);
    if line.is_empty() {
        return "(none)".to_owned();
    }
    let chars: Vec<char> = line.chars().collect();
    let list_mark = numbered_list_mark(&chars);
    let mut out = String::with_capacity(line.len() + 8);
    for (i, &c) in chars.iter().enumerate() {
        let inside_word = i > 0
            && chars[i - 1].is_alphanumeric()
            && chars.get(i + 1).is_some_and(|next| next.is_alphanumeric());
        let escaped = match c {
            '\\' | '`' | '*' | '[' | ']' | '<' | '|' | '~' | '$' | '&' => true,
            '_' => !inside_word,
            '#' | '>' | '+' | '-' | '=' | ':' => i == 0,
            '.' | ')' => list_mark == Some(i),
            _ => false,
        };
        if escaped {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Where the dot or bracket of a numbered list item stands, if the text would start one.
fn numbered_list_mark(chars: &[char]) -> Option<usize> {
    let digits = chars.iter().take_while(|c| c.is_ascii_digit()).count();
    let marked = digits > 0 && matches!(chars.get(digits), Some('.' | ')'));
    let ends = chars.get(digits + 1).is_none_or(|c| *c == ' ');
    (marked && ends).then_some(digits)
}

/// A command to copy, as a code span where every character is harmless there.
pub(super) fn command(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || " ._/-".contains(c);
    if text.chars().all(harmless) { format!("`{text}`") } else { markdown(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_shown_and_not_obeyed() {
        for (text, shown) in [
            ("", "(none)"),
            ("cloud-kimi", "cloud-kimi"),
            ("a|b", "a\\|b"),
            ("a\\|b", "a\\\\\\|b"),
            ("two\nlines\u{2028}more", "two lines more"),
            ("<b>`x`</b>", "\\<b>\\`x\\`\\</b>"),
            ("[x](http://y)", "\\[x\\](http://y)"),
            ("max_tokens _now_", "max_tokens \\_now\\_"),
            ("# big", "\\# big"),
            ("- item", "\\- item"),
            ("1. one", "1\\. one"),
            ("3.85 s", "3.85 s"),
            ("&lt;", "\\&lt;"),
            ("\u{1b}[31mred", "\u{FFFD}\\[31mred"),
        ] {
            assert_eq!(markdown(text), shown, "{text:?}");
        }
    }

    #[test]
    fn a_command_is_code_only_where_that_is_safe() {
        assert_eq!(command("harness restore --env home-cluster"), "`harness restore --env home-cluster`");
        assert_eq!(command("--env a`b|c"), "\\--env a\\`b\\|c");
    }
}

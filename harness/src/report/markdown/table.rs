//! The pieces that a Markdown page is made of.

use tabled::builder::Builder;
use tabled::settings::Style;

/// A table with as many columns in every row as in its header. Cells must be escaped already.
pub(super) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let mut builder = Builder::default();
    builder.push_record(header);
    for row in rows {
        builder.push_record(row);
    }
    builder.build().with(Style::markdown()).to_string()
}

/// A page under construction: blocks with one empty line between them.
#[derive(Default)]
pub(super) struct Page {
    text: String,
}

impl Page {
    /// A line that is a block by itself.
    pub(super) fn line(&mut self, line: impl AsRef<str>) {
        self.block(line.as_ref());
    }

    pub(super) fn heading(&mut self, level: usize, title: impl AsRef<str>) {
        self.block(&format!("{} {}", "#".repeat(level), title.as_ref()));
    }

    pub(super) fn paragraph(&mut self, sentence: impl AsRef<str>) {
        self.block(sentence.as_ref());
    }

    /// A list of one-line items; nothing where there is none.
    pub(super) fn list(&mut self, items: impl Iterator<Item = String>) {
        let lines: Vec<_> = items.map(|item| format!("- {item}")).collect();
        if !lines.is_empty() {
            self.block(&lines.join("\n"));
        }
    }

    pub(super) fn block(&mut self, block: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(block);
        self.text.push('\n');
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::escape::markdown;

    /// Cells of a table row as GitHub splits it: at pipes that no backslash escapes.
    fn cells(line: &str) -> usize {
        let mut bars = 0;
        let mut escaped = false;
        for c in line.chars() {
            match c {
                '\\' if !escaped => escaped = true,
                '|' if !escaped => bars += 1,
                _ => escaped = false,
            }
        }
        bars - 1
    }

    proptest! {
        #[test]
        fn any_text_keeps_the_shape_of_the_table(
            texts in proptest::collection::vec(("\\PC*", any::<String>(), "[|\\\\`\r\n<\\[a]{0,9}"), 1..4)
        ) {
            let rows: Vec<_> = texts.iter().map(|(a, b, c)| [a, b, c].map(|t| markdown(t))).collect();
            let rendered = table(["one", "two", "three"], &rows);
            let lines: Vec<_> = rendered.split('\n').collect();
            prop_assert_eq!(lines.len(), rows.len() + 2);
            for line in lines {
                prop_assert_eq!(cells(line), 3, "{}", line);
                prop_assert!(line.starts_with('|') && line.ends_with('|'), "{}", line);
            }
        }

        #[test]
        fn escaped_text_reads_back_as_the_plain_text(text in any::<String>()) {
            let mut shown = String::new();
            let escaped = markdown(&text);
            let mut rest = escaped.chars();
            while let Some(c) = rest.next() {
                shown.push(if c == '\\' { rest.next().unwrap() } else { c });
            }
            let plain = crate::report::escape::plain(&text);
            prop_assert_eq!(shown, if plain.is_empty() { "(none)".to_owned() } else { plain });
        }
    }
}

//! Why a text is not JSON, in the words of the parser that LiteLLM uses.

/// What is expected next inside the innermost container.
#[derive(Clone, Copy)]
enum Next {
    Value,
    /// A value, or the end of an array that is empty so far.
    FirstValue,
    Key,
    /// A key, or the end of an object that is empty so far.
    FirstKey,
    CommaOrEnd,
}

struct Wrong {
    at: usize,
    what: &'static str,
}

const END: &str = "unexpected end of data";
const NO_VALUE: &str = "unexpected character, expected a JSON value";
const NO_KEY: &str = "unexpected character, expected a string key";
const TRAILING_COMMA: &str = "trailing comma is not allowed";

/// The reason with its place; `None` where the text is JSON after all.
pub(super) fn reason(bytes: &[u8]) -> Option<String> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Some("str is not valid UTF-8: surrogates not allowed: line 1 column 1 (char 0)".to_owned());
    };
    let wrong = if text.starts_with('\u{feff}') {
        Wrong { at: 0, what: "UTF-8 byte order mark (BOM) is not supported" }
    } else {
        Scan { bytes, at: 0 }.document().err()?
    };
    // The scan stops before a character or at the end.
    let before = text.get(..wrong.at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let what = wrong.what;
    Some(format!("{what}: line {line} column {column} (char {})", before.chars().count()))
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn wrong<T>(&self, what: &'static str) -> Result<T, Wrong> {
        let what = if self.at >= self.bytes.len() { END } else { what };
        Err(Wrong { at: self.at, what })
    }

    fn document(&mut self) -> Result<(), Wrong> {
        self.space();
        if self.peek().is_none() {
            return Err(Wrong { at: 0, what: "input data is empty" });
        }
        // What encloses the value under way: `{` or `[`.
        let mut open: Vec<u8> = Vec::new();
        let mut next = Next::Value;
        let mut comma = 0;
        loop {
            self.space();
            let done = match next {
                Next::FirstValue if self.peek() == Some(b']') => self.close(&mut open),
                Next::FirstKey if self.peek() == Some(b'}') => self.close(&mut open),
                Next::Value if self.peek() == Some(b']') && open.last() == Some(&b'[') => {
                    return Err(Wrong { at: comma, what: TRAILING_COMMA });
                }
                Next::Value | Next::FirstValue => match self.value()? {
                    Some(container) => {
                        open.push(container);
                        next = if container == b'{' { Next::FirstKey } else { Next::FirstValue };
                        false
                    }
                    None => true,
                },
                Next::Key if self.peek() == Some(b'}') => {
                    return Err(Wrong { at: comma, what: TRAILING_COMMA });
                }
                Next::Key | Next::FirstKey => {
                    self.key()?;
                    next = Next::Value;
                    false
                }
                Next::CommaOrEnd => {
                    let array = open.last() == Some(&b'[');
                    match self.peek() {
                        Some(b',') => {
                            comma = self.at;
                            self.at += 1;
                            next = if array { Next::Value } else { Next::Key };
                            false
                        }
                        Some(b']') if array => self.close(&mut open),
                        Some(b'}') if !array => self.close(&mut open),
                        _ if array => return self.wrong("unexpected character, expected ',' or ']'"),
                        _ => return self.wrong("unexpected character, expected ',' or '}'"),
                    }
                }
            };
            if done {
                if open.is_empty() {
                    self.space();
                    return match self.peek() {
                        None => Ok(()),
                        Some(_) => self.wrong("unexpected content after document"),
                    };
                }
                next = Next::CommaOrEnd;
            }
        }
    }

    fn close(&mut self, open: &mut Vec<u8>) -> bool {
        open.pop();
        self.at += 1;
        true
    }

    fn key(&mut self) -> Result<(), Wrong> {
        if self.peek() != Some(b'"') {
            return self.wrong(NO_KEY);
        }
        self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return self.wrong("unexpected character, expected ':' after key");
        }
        self.at += 1;
        Ok(())
    }

    /// Passes a scalar, or the opening of a container, which it returns.
    fn value(&mut self) -> Result<Option<u8>, Wrong> {
        match self.peek() {
            Some(open @ (b'{' | b'[')) => {
                self.at += 1;
                return Ok(Some(open));
            }
            Some(b'"') => self.string()?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.literal(b"true", "invalid literal, expected 'true'")?,
            Some(b'f') => self.literal(b"false", "invalid literal, expected 'false'")?,
            Some(b'n') => self.literal(b"null", "invalid literal, expected 'null'")?,
            _ => return self.wrong(NO_VALUE),
        }
        Ok(None)
    }

    fn literal(&mut self, word: &[u8], what: &'static str) -> Result<(), Wrong> {
        let rest = &self.bytes[self.at..];
        if rest.starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        if word.starts_with(rest) {
            self.at = self.bytes.len();
        }
        self.wrong(what)
    }

    fn digits(&mut self, what: &'static str) -> Result<(), Wrong> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return self.wrong(what);
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Wrong> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') && self.bytes.get(self.at + 1).is_some_and(u8::is_ascii_digit) {
            return self.wrong("number with leading zero is not allowed");
        }
        self.digits("no digit after sign")?;
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("no digit after decimal point")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("no digit after exponent sign")?;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), Wrong> {
        self.at += 1;
        loop {
            match self.peek() {
                None => return self.wrong(END),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(0..=0x1f) => return self.wrong("unexpected control character in string"),
                Some(b'\\') => self.escape()?,
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<(), Wrong> {
        let length = match self.bytes.get(self.at + 1) {
            None => {
                self.at += 1;
                return self.wrong(END);
            }
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') => {
                let four = self.bytes.get(self.at + 2..self.at + 6).unwrap_or_default();
                if four.len() < 4 || !four.iter().all(u8::is_ascii_hexdigit) {
                    return self.wrong("invalid escaped sequence in string");
                }
                6
            }
            Some(_) => return self.wrong("invalid escaped sequence in string"),
        };
        self.at += length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reasons_are_those_of_the_real_parser() {
        for (text, expected) in [
            ("{nope", "unexpected character, expected a string key: line 1 column 2 (char 1)"),
            ("{} x", "unexpected content after document: line 1 column 4 (char 3)"),
            (r#"{"a":1,}"#, "trailing comma is not allowed: line 1 column 7 (char 6)"),
            ("[1,]", "trailing comma is not allowed: line 1 column 3 (char 2)"),
            ("[,]", "unexpected character, expected a JSON value: line 1 column 2 (char 1)"),
            (r#"{"a":1,,}"#, "unexpected character, expected a string key: line 1 column 8 (char 7)"),
            (r#"{"a" 1}"#, "unexpected character, expected ':' after key: line 1 column 6 (char 5)"),
            (r#"{"a":"#, "unexpected end of data: line 1 column 6 (char 5)"),
            (r#"{"a":"x"#, "unexpected end of data: line 1 column 8 (char 7)"),
            ("\n\n  {\"a\": nul}", "invalid literal, expected 'null': line 3 column 9 (char 10)"),
            (r#"{"a": nul"#, "unexpected end of data: line 1 column 10 (char 9)"),
            ("[1 2]", "unexpected character, expected ',' or ']': line 1 column 4 (char 3)"),
            (r#"{"a":1 "b"}"#, "unexpected character, expected ',' or '}': line 1 column 8 (char 7)"),
            (r#"{"a":01}"#, "number with leading zero is not allowed: line 1 column 6 (char 5)"),
            ("-x", "no digit after sign: line 1 column 2 (char 1)"),
            ("1.x", "no digit after decimal point: line 1 column 3 (char 2)"),
            ("1e", "unexpected end of data: line 1 column 3 (char 2)"),
            (r#""\x""#, "invalid escaped sequence in string: line 1 column 2 (char 1)"),
            ("\"a\nb\"", "unexpected control character in string: line 1 column 3 (char 2)"),
            (" ", "input data is empty: line 1 column 1 (char 0)"),
            ("{\"\u{e9}\":x}", "unexpected character, expected a JSON value: line 1 column 6 (char 5)"),
        ] {
            assert_eq!(reason(text.as_bytes()).as_deref(), Some(expected), "{text}");
        }
        assert!(reason(b"\"\xff\"").unwrap().contains("UTF-8"));
    }

    proptest! {
        #[test]
        fn whatever_is_json_has_no_reason_and_nothing_panics(
            text in r#"[\[\]{}:,"\\ntf01.e\-+ aé\n]{0,24}"#,
        ) {
            let parses = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            // A number too large for it is the one thing that serde_json alone refuses.
            prop_assert!(!parses || reason(text.as_bytes()).is_none(), "{}", text);
        }
    }
}

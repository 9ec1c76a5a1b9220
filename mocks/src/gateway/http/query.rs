//! What stands percent-encoded in a request's target.

use std::collections::HashMap;

/// The parameters of a query, the last of each name.
#[derive(Debug, Default)]
pub(super) struct Query(HashMap<String, String>);

impl Query {
    /// Reads what follows the `?`.
    pub(super) fn read(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(name, value)| (decoded(&name.replace('+', " ")), decoded(&value.replace('+', " "))))
                .collect(),
        )
    }

    /// The value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of a parameter that says more than nothing.
    pub(super) fn some(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }
}

/// The text with each `%XX` replaced; what is no such triple stays.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let triple = (*first == b'%').then(|| Some((hex(*tail.first()?)?, hex(*tail.get(1)?)?))).flatten();
        match triple {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn triples_and_plus_signs_are_decoded() {
        assert_eq!(decoded("a%2Fb%2f%"), "a/b/%");
        assert_eq!(decoded("100%zz%4"), "100%zz%4");
        let query = Query::read(Some("model=a%20b+c&x&model_id="));
        assert_eq!((query.get("model"), query.get("x")), (Some("a b c"), Some("")));
        assert_eq!((query.some("model_id"), query.get("none")), (None, None));
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_read_back(text in ".{0,20}") {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(decoded(&encoded), text);
        }
    }
}

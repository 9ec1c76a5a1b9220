//! A key that cannot be printed by accident.

use std::fmt;

use rand::distr::{Alphanumeric, SampleString};

/// Alphanumeric characters of a random key after its prefix: about 190 bits.
const RANDOM_LEN: usize = 32;

/// A key. `Debug` and `Display` show `***`, and it deliberately does not implement `Serialize`: the only way to
/// its text is [`Secret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a key.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The key in an environment variable of this program; `None` where that is not set, or empty.
    pub fn of_variable(name: &str) -> Option<Self> {
        std::env::var(name).ok().filter(|key| !key.is_empty()).map(Self)
    }

    /// A fresh key for one run: `sk-` and 32 random letters and digits.
    pub fn random() -> Self {
        Self(format!("sk-{}", Alphanumeric.sample_string(&mut rand::rng(), RANDOM_LEN)))
    }

    /// A text of someone else's, with every occurrence of this key replaced.
    pub fn redact(&self, text: &str) -> String {
        if self.0.is_empty() { text.to_owned() } else { text.replace(&self.0, "***") }
    }

    /// The key itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn printing_shows_no_character_of_the_key() {
        let key = Secret::new("sk-abc");
        assert_eq!(format!("{key} {key:?} {:?}", Some(&key)), "*** *** Some(***)");
        assert_eq!(key.expose(), "sk-abc");
    }

    #[test]
    fn random_keys_are_long_and_differ() {
        let (one, other) = (Secret::random(), Secret::random());
        assert_ne!(one, other);
        let body = one.expose().strip_prefix("sk-").expect("prefix");
        assert_eq!(body.len(), 32);
        assert!(body.chars().all(|c| c.is_ascii_alphanumeric()));
    }
}

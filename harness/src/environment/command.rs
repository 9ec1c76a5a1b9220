//! What a person types about an environment.

use super::{Environment, Reach};

impl Environment {
    /// What undoes what runs have left in it.
    ///
    /// The file of an environment that says that it is inside its cluster is of no use anywhere else: whoever types needs
    /// one of the same with a context.
    #[must_use]
    pub fn restore_command(&self) -> String {
        let is_inside = self.cluster().is_some_and(|cluster| matches!(cluster.reach, Reach::InCluster));
        let file = if is_inside { "FILE" } else { &self.source.name };
        format!("harness restore --env {}", quoted(file))
    }
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/=@,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_stay_one_word_in_a_shell() {
        assert_eq!(quoted("home"), "home");
        assert_eq!(quoted("my home"), "'my home'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("$(rm)"), "'$(rm)'");
    }
}

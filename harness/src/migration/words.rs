//! What may be shown of texts that others wrote, and which of them speak of Anthropic.

/// Longer names are cut.
const NAME_CHARS: usize = 80;
/// What is longer is prose, and names no model.
const MODEL_CHARS: usize = 300;
/// How many of a list are told.
const TOLD: usize = 5;

/// The name of a model, a key or a variable, so that no value of a secret and nothing that drives a terminal is shown.
pub(super) fn shown(name: &str) -> String {
    if is_key(name) {
        return "(a key)".to_owned();
    }
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.:/@*${}[]".contains(c);
    let mut text: String = name.chars().take(NAME_CHARS).map(|c| if known(c) { c } else { '?' }).collect();
    if name.chars().count() > NAME_CHARS {
        text.push_str("...");
    }
    text
}

/// A text that is a key by how it begins, wherever it stands.
pub(super) fn is_key(text: &str) -> bool {
    text.trim_start().starts_with("sk-")
}

/// A text about Anthropic that is the name of a model, a provider or a profile, and no URL or token that holds it.
pub(super) fn is_model(text: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    let begins = ["anthropic", "claude"].iter().any(|word| text.starts_with(word));
    let spoken = text.split('/').next_back().is_some_and(|last| last.starts_with("claude"));
    (begins || spoken) && !text.contains("://") && text.chars().all(known)
}

/// The name of a model, a provider, a profile or a variable speaks of Anthropic. Prose does not count.
pub(super) fn is_anthropic(text: &str) -> bool {
    if text.len() > MODEL_CHARS || text.contains(char::is_whitespace) {
        return false;
    }
    let lower = text.to_ascii_lowercase();
    lower.contains("anthropic") || lower.contains("claude") || lower.starts_with("sk-ant-")
}

/// The first of a list, and how many more there are.
pub(super) fn told(names: &[String]) -> String {
    let first: Vec<&str> = names.iter().take(TOLD).map(String::as_str).collect();
    let more = names.len().saturating_sub(TOLD);
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{rest}", first.join(", "))
}

/// The names in `${NAME}`, as openclaw replaces them: capitals only, and `$${NAME}` stands for itself.
pub(super) fn variables(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let escaped = rest[..at].ends_with('$');
        let inner = &rest[at + 2..];
        let Some(end) = inner.find('}') else { return names };
        let name = &inner[..end];
        if is_variable(name) && !escaped {
            names.push(name);
        }
        rest = &inner[end + 1..];
    }
    names
}

/// A name that openclaw replaces.
pub(super) fn is_variable(name: &str) -> bool {
    let known = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() && name.bytes().all(known)
}

#[cfg(test)]
mod tests {
    use super::{is_anthropic, shown, told, variables};

    #[test]
    fn only_capitals_are_variables_and_two_dollars_are_none() {
        assert_eq!(variables("${A_1}/x${B}"), ["A_1", "B"]);
        assert_eq!(variables("$${A} ${a} ${1} ${} ${A"), Vec::<&str>::new());
    }

    #[test]
    fn models_of_anthropic_are_known_behind_other_providers_and_prose_is_not() {
        for text in [
            "anthropic/claude-opus-4",
            "anthropic:default",
            "openrouter/anthropic/x",
            "claude-cli",
            "ANTHROPIC_API_KEY",
            "https://api.anthropic.com",
            "sk-ant-oat01",
        ] {
            assert!(is_anthropic(text), "{text}");
        }
        for text in ["litellm/cloud-kimi", "you are not Claude", "", "sk-1"] {
            assert!(!is_anthropic(text), "{text}");
        }
    }

    #[test]
    fn nothing_that_is_a_key_or_drives_a_terminal_is_shown() {
        assert_eq!(shown("sk-secret"), "(a key)");
        assert_eq!(shown("a\u{1b}[2J b"), "a?[2J?b");
        assert_eq!(shown(&"x".repeat(100)).len(), 83);
        assert_eq!(told(&["a".into(), "b".into()]), "a, b");
        assert_eq!(told(&vec!["a".to_owned(); 7]), "a, a, a, a, a and 2 more");
    }
}

//! The gateway's own log: counts over a window, since its lines carry no call id.
//!
//! At its usual level LiteLLM prints one access line a request and no model. With `LITELLM_LOG=INFO` it prints a line for
//! each attempt that was answered, with the model, also inside JSON and with colours between.

use std::collections::BTreeMap;

use super::Names;

/// The model of an attempt that this line says was answered, like `ollama_chat/kimi-k2.5`.
#[must_use]
pub fn answered(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("litellm.acompletion(model=")?;
    let (model, after) = rest.split_once(')')?;
    let is_name = !model.is_empty() && !model.contains(|c: char| c.is_whitespace() || c.is_control());
    (is_name && after.contains(" 200 OK")).then_some(model)
}

/// Answers by alias; those of models that stand for none are counted under the model's name.
#[must_use]
pub fn by_alias(answers: &BTreeMap<String, u64>, names: &Names) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for (model, count) in answers {
        let own = all.entry(names.of_text(model).unwrap_or(model).to_owned()).or_insert(0_u64);
        *own = own.saturating_add(*count);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::answered;

    #[test]
    fn an_attempt_that_was_answered_names_its_model() {
        for line in [
            "12:00:00 - LiteLLM Router:INFO: router.py:1 - litellm.acompletion(model=ollama_chat/kimi-k2.5)\u{1b}[32m 200 OK\u{1b}[0m",
            r#"{"message": "litellm.acompletion(model=ollama_chat/kimi-k2.5)\u001b[32m 200 OK\u001b[0m", "level": "INFO"}"#,
        ] {
            assert_eq!(answered(line), Some("ollama_chat/kimi-k2.5"), "{line}");
        }
        for line in [
            "litellm.acompletion(model=ollama_chat/kimi-k2.5) Exception litellm.InternalServerError: 200 no",
            "INFO: 10.0.0.7:1 - \"POST /v1/chat/completions HTTP/1.1\" 200 OK",
            "litellm.acompletion(model=) 200 OK",
            "litellm.acompletion(model=a b) 200 OK",
            "litellm.acompletion(model=",
        ] {
            assert_eq!(answered(line), None, "{line}");
        }
    }
}

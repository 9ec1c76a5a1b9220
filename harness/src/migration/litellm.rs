//! LiteLLM's models and fallbacks: none of Anthropic.

use serde_json::Value;

use super::container::none;
use super::words::{is_anthropic, shown, told};
use super::{Fact, Finding};
use crate::verdict::result::MigrationLine;

/// What LiteLLM routes to, as far as it names Anthropic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayModels {
    models: usize,
    anthropic: Vec<String>,
    /// Groups that take whatever model is asked for.
    any: Vec<String>,
    settings: Vec<String>,
}

impl GatewayModels {
    /// By a configuration file of LiteLLM; `None` where it has no list of models.
    #[must_use]
    pub fn of_file(file: &Value) -> Option<Self> {
        let mut seen = Self::default();
        seen.models(file["model_list"].as_array()?);
        for (key, part) in file.as_object()?.iter().filter(|(key, _)| *key != "model_list") {
            if is_anthropic(key) {
                seen.settings.push(shown(key));
            }
            collect(part, &shown(key), &mut seen.settings);
        }
        Some(seen)
    }

    /// By what a running LiteLLM answers to `/model/info` and `/router/settings`; `None` where the first is no list.
    #[must_use]
    pub fn of_pages(info: &Value, settings: &Value) -> Option<Self> {
        let mut seen = Self::default();
        seen.models(info["data"].as_array()?);
        // Beside what is in effect the page holds the documentation of all settings.
        let current = &settings["current_values"];
        for (key, part) in current.as_object()?.iter().filter(|(key, _)| key.ends_with("fallbacks")) {
            collect(part, &shown(key), &mut seen.settings);
        }
        Some(seen)
    }

    fn models(&mut self, list: &[Value]) {
        self.models = list.len();
        for entry in list {
            let group = entry["model_name"].as_str().unwrap_or("a model without a name");
            let params = &entry["litellm_params"];
            let texts = [&entry["model_name"], &params["model"], &params["custom_llm_provider"]];
            let mut texts: Vec<&str> = texts.iter().filter_map(|text| text.as_str()).collect();
            texts.extend(["api_base", "base_url", "api_key"].iter().filter_map(|key| params[*key].as_str()));
            if texts.iter().any(|text| is_anthropic(text)) {
                self.anthropic.push(shown(group));
            } else if params["model"].as_str().is_some_and(|model| model == "*") {
                self.any.push(shown(group));
            }
        }
    }
}

/// Where a part of the settings names Anthropic.
fn collect(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::String(text) if is_anthropic(text) => found.push(path.to_owned()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, path, found)),
        Value::Object(entries) => {
            for (key, entry) in entries {
                let path = format!("{path}.{}", shown(key));
                if is_anthropic(key) {
                    found.push(path);
                } else {
                    collect(entry, &path, found);
                }
            }
        }
        _ => {}
    }
}

/// What LiteLLM has, or why that is not known.
#[must_use]
pub fn gateway_models(read: Result<&GatewayModels, &str>) -> Vec<MigrationLine> {
    vec![
        Fact::fr222(
            "Anthropic in LiteLLM's model list",
            "none",
            "take those models out of `model_list`, and restart LiteLLM",
        )
        .of(read, |seen| {
            if seen.anthropic.is_empty() && !seen.any.is_empty() {
                let names = told(&seen.any);
                return Finding::NotKnown(format!(
                    "{names} takes any model, also one of Anthropic with a key for it"
                ));
            }
            match none(&seen.anthropic) {
                Finding::Holds(_) => Finding::Holds(format!("none of {} models", seen.models)),
                other => other,
            }
        }),
        Fact::fr222(
            "Anthropic in LiteLLM's fallbacks and settings",
            "none",
            "take it out of LiteLLM's configuration, and restart LiteLLM",
        )
        .of(read, |seen| none(&seen.settings)),
    ]
}

//! Labels, and whom a selector means.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Whether a selector means an object with these labels. One without requirements means all; one that cannot be
/// understood means all too: whoever asks wants to know who might be meant.
#[must_use]
pub fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let by_value = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    by_value
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let value = labels.get(&requirement.key);
            let named = |value: &String| requirement.values.iter().flatten().any(|one| one == value);
            match requirement.operator.as_str() {
                "In" => value.is_some_and(named),
                "NotIn" => !value.is_some_and(named),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => true,
            }
        })
}

/// `key=value` pairs with commas between them, as an environment file has them.
#[must_use]
pub fn parse_labels(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split(',').filter_map(|pair| pair.trim().split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::{parse_labels, selects};

    #[test]
    fn selectors_mean_what_the_api_says() {
        let labels = parse_labels("app=vllm, tier=gpu");
        for (selector, expected) in [
            (serde_json::json!({}), true),
            (serde_json::json!({ "matchLabels": { "app": "vllm" } }), true),
            (serde_json::json!({ "matchLabels": { "app": "vllm", "tier": "cpu" } }), false),
            (
                serde_json::json!({ "matchExpressions": [{ "key": "tier", "operator": "In", "values": ["gpu", "cpu"] }] }),
                true,
            ),
            (
                serde_json::json!({ "matchExpressions": [{ "key": "tier", "operator": "NotIn", "values": ["gpu"] }] }),
                false,
            ),
            (
                serde_json::json!({ "matchExpressions": [{ "key": "zone", "operator": "NotIn", "values": ["a"] }] }),
                true,
            ),
            (serde_json::json!({ "matchExpressions": [{ "key": "zone", "operator": "Exists" }] }), false),
            (
                serde_json::json!({ "matchExpressions": [{ "key": "zone", "operator": "DoesNotExist" }] }),
                true,
            ),
        ] {
            let parsed = serde_json::from_value(selector.clone()).unwrap();
            assert_eq!(selects(&parsed, &labels), expected, "{selector}");
        }
    }
}

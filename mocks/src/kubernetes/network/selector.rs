//! Label selectors, as objects write them.

use serde_json::Value;

/// Whether an object's labels satisfy a `LabelSelector`. An empty one matches everything; an operator that does not
/// exist matches nothing.
pub(crate) fn matches(selector: &Value, object: &Value) -> bool {
    let label = |key: &str| object["metadata"]["labels"][key].as_str();
    let pairs = selector["matchLabels"].as_object();
    let all_equal = pairs.is_none_or(|pairs| {
        pairs.iter().all(|(key, value)| value.as_str().is_some() && value.as_str() == label(key))
    });
    let mut expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    all_equal
        && expressions.all(|expression| {
            let found = label(expression["key"].as_str().unwrap_or_default());
            let values = expression["values"].as_array();
            let is_listed = found.is_some_and(|found| {
                values.is_some_and(|values| values.iter().any(|value| value.as_str() == Some(found)))
            });
            match expression["operator"].as_str() {
                Some("In") => is_listed,
                Some("NotIn") => !is_listed,
                Some("Exists") => found.is_some(),
                Some("DoesNotExist") => found.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_and_expressions_must_all_hold() {
        let pod = json!({ "metadata": { "labels": { "app": "vllm", "tier": "gpu" } } });
        let holds = |selector: Value| matches(&selector, &pod);
        assert!(holds(json!({})));
        assert!(holds(json!({ "matchLabels": { "app": "vllm" } })));
        assert!(!holds(json!({ "matchLabels": { "app": "vllm", "zone": "a" } })));
        let expression = |key: &str, operator: &str, values: Value| json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] });
        assert!(holds(expression("tier", "In", json!(["cpu", "gpu"]))));
        assert!(!holds(expression("tier", "NotIn", json!(["gpu"]))));
        assert!(holds(expression("zone", "NotIn", json!(["a"]))));
        assert!(holds(expression("app", "Exists", Value::Null)));
        assert!(holds(expression("zone", "DoesNotExist", Value::Null)));
        assert!(!holds(expression("app", "Near", json!(["vllm"]))));
    }
}

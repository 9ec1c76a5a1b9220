//! Which groups a request can come to, by the fallback lists of a LiteLLM configuration.

use std::collections::BTreeSet;

use serde_json::Value;

/// Settings that hold fallback lists: `{group: [targets]}` entries, or for the default a list of targets.
const LISTS: [&str; 4] =
    ["fallbacks", "default_fallbacks", "context_window_fallbacks", "content_policy_fallbacks"];

/// `model` and every group that a request for it may fall back to, over any number of hops. A list for `*` is
/// everybody's. Whether LiteLLM would go there at last (depth, kind of error) is not asked.
#[must_use]
pub fn reachable(config: &Value, model: &str) -> BTreeSet<String> {
    let lists = ["router_settings", "litellm_settings"]
        .into_iter()
        .flat_map(|section| LISTS.into_iter().filter_map(move |list| config[section][list].as_array()));
    let mut hops: Vec<(Option<&str>, Vec<&str>)> = Vec::new();
    for entry in lists.flatten() {
        if let Some(target) = entry.as_str() {
            hops.push((None, vec![target]));
        }
        for (group, targets) in entry.as_object().into_iter().flatten() {
            let targets = targets.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            hops.push(((group != "*").then_some(group), targets));
        }
    }
    let mut reached = BTreeSet::from([model.to_owned()]);
    let mut open = vec![model.to_owned()];
    while let Some(group) = open.pop() {
        for (_, targets) in hops.iter().filter(|(of, _)| of.is_none_or(|of| of == group)) {
            let fresh = targets.iter().filter(|target| reached.insert((**target).to_owned()));
            open.extend(fresh.map(|target| (*target).to_owned()));
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reach(config: &Value, model: &str) -> Vec<String> {
        reachable(config, model).into_iter().collect()
    }

    #[test]
    fn follows_lists_over_hops_and_cycles() {
        let config = json!({ "router_settings": { "fallbacks": [
            { "a": ["b", "c"] }, { "c": ["a", "d"] }, { "e": ["f"] } ] } });
        assert_eq!(reach(&config, "a"), ["a", "b", "c", "d"]);
        assert_eq!(reach(&config, "b"), ["b"]);
        assert_eq!(reach(&config, "e"), ["e", "f"]);
    }

    #[test]
    fn default_lists_are_everybodys_wherever_they_stand() {
        let config = json!({
            "router_settings": { "default_fallbacks": ["x"], "fallbacks": [{ "*": ["y"] }] },
            "litellm_settings": { "context_window_fallbacks": [{ "x": ["z"] }] },
        });
        assert_eq!(reach(&config, "a"), ["a", "x", "y", "z"]);
    }

    #[test]
    fn other_shapes_lead_nowhere() {
        for odd in [json!(null), json!([]), json!({ "router_settings": { "fallbacks": { "a": ["b"] } } })] {
            assert_eq!(reach(&odd, "a"), ["a"]);
        }
    }
}

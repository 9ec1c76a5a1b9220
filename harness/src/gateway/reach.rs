//! Which groups a request can come to, by the fallback lists of a LiteLLM configuration.

use std::collections::BTreeSet;

use serde_json::Value;

/// Settings that hold fallback lists: `{group: [targets]}` entries, or for the default a list of targets.
const LISTS: [&str; 4] =
    ["fallbacks", "default_fallbacks", "context_window_fallbacks", "content_policy_fallbacks"];

/// `model` and every group that a request for it may fall back to, over any number of hops. A list for `*` is
/// everybody's. Whether LiteLLM would go there at last (depth, kind of error) is not asked. A target may also be an
/// alias of a group, or a deployment's id or model string; one that is nothing of these may be any group.
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
    while let Some(name) = open.pop() {
        // A model string has the list of its bare name, too.
        let bare = name.split_once('/').map(|(_, model)| model);
        let is_its = |of: &str| of == name || Some(of) == bare;
        let targets = hops.iter().filter(|(of, _)| of.is_none_or(is_its)).flat_map(|(_, to)| to.clone());
        for next in targets.chain(groups_of(config, &name)) {
            if reached.insert(next.to_owned()) {
                open.push(next.to_owned());
            }
        }
    }
    reached
}

/// The groups that a name stands for.
fn groups_of<'a>(config: &'a Value, name: &str) -> Vec<&'a str> {
    let alias = &config["router_settings"]["model_group_alias"][name];
    if let Some(group) = alias.as_str().or_else(|| alias["model"].as_str()) {
        return vec![group];
    }
    let deployments = config["model_list"].as_array().map_or(&[][..], Vec::as_slice);
    let group = |deployment: &'a Value| deployment["model_name"].as_str();
    if deployments.iter().any(|deployment| group(deployment) == Some(name)) {
        return Vec::new();
    }
    let is_named = |deployment: &&Value| {
        [&deployment["model_info"]["id"], &deployment["litellm_params"]["model"]]
            .iter()
            .any(|own| *own == name)
    };
    let named: Vec<&str> = deployments.iter().filter(is_named).filter_map(group).collect();
    if named.is_empty() { deployments.iter().filter_map(group).collect() } else { named }
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
    fn a_target_may_stand_for_a_group_under_another_name() {
        let model = |group: &str, id: &str| {
            json!({ "model_name": group, "litellm_params": { "model": format!("ollama_chat/{group}-model") },
                    "model_info": { "id": id } })
        };
        let models = [model("a", "1"), model("b", "2"), model("c", "3"), model("d", "4")];
        let with = |target: &str| {
            json!({ "model_list": models, "router_settings": {
                "model_group_alias": { "other-b": "b", "hidden-b": { "model": "b", "hidden": true } },
                "fallbacks": [{ "a": [target] }, { "b": ["c"] }] } })
        };
        assert_eq!(reach(&with("other-b"), "a"), ["a", "b", "c", "other-b"]);
        assert_eq!(reach(&with("hidden-b"), "a"), ["a", "b", "c", "hidden-b"]);
        assert_eq!(reach(&with("2"), "a"), ["2", "a", "b", "c"]);
        assert_eq!(reach(&with("ollama_chat/d-model"), "a"), ["a", "d", "ollama_chat/d-model"]);
        assert_eq!(reach(&with("who-knows"), "a"), ["a", "b", "c", "d", "who-knows"]);
    }

    #[test]
    fn a_model_string_has_the_list_of_its_bare_name() {
        let config = json!({ "router_settings": { "fallbacks": [
            { "a": ["ollama_chat/m"] }, { "m": ["b"] }, { "ollama_chat": ["c"] } ] } });
        assert_eq!(reach(&config, "a"), ["a", "b", "ollama_chat/m"]);
    }

    #[test]
    fn other_shapes_lead_nowhere() {
        for odd in [json!(null), json!([]), json!({ "router_settings": { "fallbacks": { "a": ["b"] } } })] {
            assert_eq!(reach(&odd, "a"), ["a"]);
        }
    }
}

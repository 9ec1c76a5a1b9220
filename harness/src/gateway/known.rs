//! What a configuration says that helps to read what its gateway does.

use std::collections::BTreeMap;

use mocks::gateway::config::{GatewayConfig, RequestOverrides};

use super::config::{LocalConfig, resolve_environment};

/// What is known of the deployments of a gateway that a run starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Alias by deployment id.
    pub ids: BTreeMap<String, String>,
    /// By alias, how long one attempt waits, in milliseconds: whole and streamed. Only where all its deployments agree.
    pub timeouts: BTreeMap<String, (u64, u64)>,
}

impl Known {
    /// Read it from a configuration; nothing of one that only the real program reads.
    #[must_use]
    pub fn of(config: &LocalConfig) -> Self {
        let value = resolve_environment(&config.value, &|name| std::env::var(name).ok());
        let Ok(config) = GatewayConfig::from_value(&value) else { return Self::default() };
        let mut known = Self::default();
        let mut differing = Vec::new();
        for (index, deployment) in config.deployments.iter().enumerate() {
            known.ids.insert(deployment.id.clone(), deployment.group.clone());
            let limit_ms = |streaming| {
                let limit = config.attempt_timeout(index, streaming, &RequestOverrides::default());
                u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
            };
            let limits = (limit_ms(false), limit_ms(true));
            if *known.timeouts.entry(deployment.group.clone()).or_insert(limits) != limits {
                differing.push(deployment.group.clone());
            }
        }
        known.timeouts.retain(|alias, _| !differing.contains(alias));
        known
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::Known;
    use crate::gateway::config::{Upstream, localize};

    #[test]
    fn timeouts_are_those_of_a_group_whose_deployments_agree() {
        let model = |alias: &str, id: &str, timeout: f64| {
            json!({ "model_name": alias, "model_info": { "id": id },
                    "litellm_params": { "model": "ollama_chat/x", "timeout": timeout } })
        };
        let source = json!({
            "model_list": [model("a", "1", 2.0), model("b", "2", 2.0), model("b", "3", 3.0)],
            "router_settings": { "stream_timeout": 1.5 },
        });
        let at = |base: &str| Upstream { component: "c".into(), base_url: base.into() };
        let upstreams =
            BTreeMap::from([("a".into(), at("http://127.0.0.1:1")), ("b".into(), at("http://127.0.0.1:1"))]);
        let known = Known::of(&localize(&source, &upstreams).unwrap());
        assert_eq!(known.timeouts, BTreeMap::from([("a".to_owned(), (2000, 1500))]));
        let ids = [("1", "a"), ("2", "b"), ("3", "b")].map(|(id, alias)| (id.to_owned(), alias.to_owned()));
        assert_eq!(known.ids, BTreeMap::from(ids));
    }
}

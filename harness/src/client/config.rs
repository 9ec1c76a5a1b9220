//! openclaw's configuration for one run: the household's, with everything off that calls out.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::environment::{Environment, Via};

/// How openclaw retries what its provider did not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retries {
    /// As it ships: up to eight retries in 90 s on each of its models, beside LiteLLM's own fallbacks.
    #[default]
    Stock,
    /// One request a turn, and a bound on it: LiteLLM has the chain.
    Bounded,
}

/// How long one request to LiteLLM may take with bounded retries, in seconds: longer than LiteLLM takes to walk its chain,
/// and what a LiteLLM that hangs costs the person.
const REQUEST_BOUND_S: u64 = 20;

impl Retries {
    /// As in the journal.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Bounded => "bounded",
        }
    }

    /// What is set that differs from how openclaw ships, in the words of its files.
    #[must_use]
    pub fn settings(self) -> Vec<String> {
        match self {
            Self::Stock => Vec::new(),
            Self::Bounded => vec![
                "agent/settings.json: retry.provider.maxRetries: 0".to_owned(),
                "openclaw.json: agents.defaults.model.fallbacks: []".to_owned(),
                format!("openclaw.json: models.providers.litellm.timeoutSeconds: {REQUEST_BOUND_S}"),
            ],
        }
    }
}

/// Which models openclaw's agents use, by the routes of an environment that go through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agents {
    /// Of the agent that people talk to.
    primary: String,
    /// What openclaw itself would ask next.
    fallbacks: Vec<String>,
    /// Of sub-agents.
    subagent: String,
    /// All that the gateway offers.
    aliases: BTreeSet<String>,
    /// People write over Telegram.
    pub telegram: bool,
}

impl Agents {
    /// `None` where no route of the environment goes through openclaw.
    #[must_use]
    pub fn of(environment: &Environment) -> Option<Self> {
        let routes: Vec<_> = environment.routes.values().filter(|route| route.via != Via::Gateway).collect();
        let person = routes.iter().find(|route| route.via != Via::OpenclawSubagent);
        let child = routes.iter().find(|route| route.via == Via::OpenclawSubagent);
        let first = person.or(child)?;
        let aliases = environment.components.values().flat_map(|component| component.aliases.clone());
        Some(Self {
            primary: first.model.clone(),
            fallbacks: first.fallbacks.clone(),
            subagent: child.unwrap_or(first).model.clone(),
            aliases: aliases.collect(),
            telegram: routes.iter().any(|route| route.via == Via::Telegram),
        })
    }

    /// `openclaw.json`. Secrets and what differs from run to run stand in it as names of variables.
    pub(super) fn openclaw_json(
        &self,
        port: u16,
        log: &str,
        telegram: Option<&str>,
        retries: Retries,
    ) -> Value {
        let model = |alias: &String| json!({ "id": alias, "name": alias, "contextWindow": 131_072, "maxTokens": 8192 });
        let mut provider = json!({
            "baseUrl": "${LITELLM_BASE_URL}", "apiKey": "${LITELLM_MASTER_KEY}", "api": "openai-completions",
            "models": self.aliases.iter().map(model).collect::<Vec<_>>(),
        });
        let fallbacks: Vec<String> = match retries {
            Retries::Stock => self.fallbacks.iter().map(|alias| format!("litellm/{alias}")).collect(),
            Retries::Bounded => Vec::new(),
        };
        if retries == Retries::Bounded {
            provider["timeoutSeconds"] = json!(REQUEST_BOUND_S);
        }
        let mut config = json!({
            "gateway": {
                "mode": "local", "bind": "loopback", "port": port,
                "auth": { "mode": "token", "token": "${OPENCLAW_GATEWAY_TOKEN}" },
                "http": { "endpoints": { "chatCompletions": { "enabled": true } } },
                "controlUi": { "enabled": false },
            },
            "hooks": { "enabled": true, "token": "${OPENCLAW_HOOKS_TOKEN}" },
            "update": { "checkOnStart": false },
            "logging": { "file": log },
            // Each person in a session of their own, so that no turn holds another's prompt.
            "session": { "dmScope": "per-peer" },
            "models": {
                "mode": "replace", "catalogRefresh": { "enabled": false },
                "providers": { "litellm": provider },
            },
            "agents": { "defaults": {
                "model": { "primary": format!("litellm/{}", self.primary), "fallbacks": fallbacks },
                "subagents": { "model": format!("litellm/{}", self.subagent) },
                // No turn that nobody asked for.
                "heartbeat": { "every": "0m" },
            } },
        });
        if let Some(api_root) = telegram {
            config["channels"] = json!({ "telegram": {
                "enabled": true, "botToken": "${TELEGRAM_BOT_TOKEN}", "apiRoot": api_root,
                "dmPolicy": "open", "allowFrom": ["*"],
                // The first message of a turn is its answer, and no draft of one.
                "streaming": { "mode": "off" },
            } });
        }
        config
    }

    /// `settings.json` of its agent; `None` where openclaw's own values hold.
    pub(super) fn settings_json(retries: Retries) -> Option<Value> {
        (retries == Retries::Bounded).then(|| json!({ "retry": { "provider": { "maxRetries": 0 } } }))
    }
}

#[cfg(test)]
mod tests;

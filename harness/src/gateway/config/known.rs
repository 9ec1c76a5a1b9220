//! What LiteLLM 1.106.2 knows in its configuration, as far as it bears on routing.

use mocks::gateway::config::ROUTER_SETTINGS;

use super::GENERAL_SETTINGS;
use super::values::{Reader, misspelt};
use crate::input::tree::{Entry, Node};

/// Sections that LiteLLM reads besides those that say how requests are routed.
pub(super) const OTHER_SECTIONS: [&str; 24] = [
    "agent_list",
    "assistant_settings",
    "callback_settings",
    "credential_list",
    "default_vertex_config",
    "environment_variables",
    "files_settings",
    "finetune_settings",
    "guardrails",
    "include",
    "mcp_aliases",
    "mcp_servers",
    "mcp_tools",
    "pass_through_endpoints",
    "plugins",
    "policies",
    "policy_attachments",
    "prompts",
    "sandbox_tools",
    "search_tools",
    "vector_store_registry",
    "worker_registry",
    "websearch_interception_params",
    "tool_permissions",
];

/// Keys of the other mappings that bear on routing, for whoever misspells one.
pub(super) const MODEL_KEYS: [&str; 3] = ["model_name", "litellm_params", "model_info"];
pub(super) const PARAMS: [&str; 14] = [
    "model",
    "custom_llm_provider",
    "api_base",
    "base_url",
    "api_key",
    "timeout",
    "stream_timeout",
    "request_timeout",
    "num_retries",
    "max_retries",
    "cooldown_time",
    "weight",
    "order",
    "max_tokens",
];
pub(super) const MODEL_INFO: [&str; 4] = ["id", "allowed_fails", "allowed_fails_policy", "cooldown_time"];
/// `callbacks` bears on nothing, and is not `fallbacks` misspelt.
pub(super) const LITELLM_SETTINGS: [&str; 8] = [
    "callbacks",
    "num_retries",
    "request_timeout",
    "fallbacks",
    "default_fallbacks",
    "context_window_fallbacks",
    "content_policy_fallbacks",
    "drop_params",
];

/// Router settings that LiteLLM also takes from `litellm_settings`.
const ROUTER_SETTINGS_OF_LITELLM: [&str; 3] = ["allowed_fails", "max_fallbacks", "set_verbose"];
/// General settings that no list of those that bear on requests has.
const MORE_GENERAL_SETTINGS: [&str; 3] = ["database_url", "master_key", "plugins"];

/// Ways of choosing among the deployments of a group; LiteLLM does not start with any other.
pub(super) const STRATEGIES: [&str; 8] = [
    "simple-shuffle",
    "lar1",
    "least-busy",
    "latency-based-routing",
    "cost-based-routing",
    "usage-based-routing-v2",
    "usage-based-routing",
    "provider-budget-routing",
];

/// The section that a key belongs to, where LiteLLM does not read it in `section`.
pub(super) fn right_section(key: &str, section: &str) -> Option<&'static str> {
    let of_litellm = LITELLM_SETTINGS.contains(&key) || ROUTER_SETTINGS_OF_LITELLM.contains(&key);
    let of_general = GENERAL_SETTINGS.contains(&key) || MORE_GENERAL_SETTINGS.contains(&key);
    let sections = [
        ("router_settings", ROUTER_SETTINGS.contains(&key)),
        ("litellm_settings", of_litellm),
        ("general_settings", of_general),
    ];
    let is_here = sections.iter().any(|(name, has)| *name == section && *has);
    sections.iter().find(|(_, has)| *has && !is_here).map(|(name, _)| *name)
}

/// Classes of errors that either policy can name, before `Retries` or `AllowedFails`.
pub(super) const CLASSES: [&str; 8] = [
    "AuthenticationError",
    "BadRequestError",
    "ContentPolicyViolationError",
    "InternalServerError",
    "NotFoundError",
    "RateLimitError",
    "ServiceUnavailableError",
    "TimeoutError",
];

/// Providers that a local run speaks, and of these the ones that the mock gateway does not.
pub(super) const PROVIDERS: [&str; 3] = ["ollama_chat", "hosted_vllm", "openai"];
pub(super) const NOT_OF_THE_MOCK: &str = "openai";

/// The keys of a mapping that bear on routing. A misspelt one is said, and read as the one that is meant.
pub(super) struct Keys<'n> {
    node: &'n Node,
    pub(super) found: Vec<(&'static str, &'n Node)>,
}

impl<'n> Keys<'n> {
    pub(super) fn open(
        reader: &mut Reader<'_, '_>,
        node: &'n Node,
        known: &[&'static str],
        what: &str,
    ) -> Self {
        let exact = |key: &str| known.iter().copied().find(|name| *name == key);
        let entries = node.entries();
        let mut found: Vec<_> =
            entries.iter().filter_map(|entry| Some((exact(&entry.key.value)?, &entry.value))).collect();
        for entry in entries.iter().filter(|entry| exact(&entry.key.value).is_none()) {
            let absent = known.iter().copied().filter(|name| found.iter().all(|(found, _)| found != name));
            if let Some(meant) = misspelt(&entry.key.value, absent) {
                let message = format!("LiteLLM does not know `{}` in {what}", entry.key.value);
                reader.check.problem(entry.key.place, &message, format!("did you mean `{meant}`?"));
                found.push((meant, &entry.value));
            }
        }
        Self { node, found }
    }

    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        self.found.iter().find(|(name, _)| *name == key).map(|(_, node)| *node)
    }

    /// Whether an entry is one of those found.
    pub(super) fn has(&self, entry: &Entry) -> bool {
        self.found.iter().any(|(_, node)| std::ptr::eq(*node, &entry.value))
    }

    pub(super) fn required(&self, reader: &mut Reader<'_, '_>, key: &str, example: &str) -> Option<&'n Node> {
        let node = self.get(key);
        if node.is_none() && !self.node.is_null() {
            let message = format!("`{key}` is missing here");
            reader.check.problem(self.node.place, &message, format!("add `{example}`"));
        }
        node
    }
}

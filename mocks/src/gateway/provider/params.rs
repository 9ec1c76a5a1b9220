//! Request parameters that an upstream's dialect does not know: LiteLLM refuses them before any call.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::gateway::config::{Deployment, Provider};
use crate::gateway::failure::{ErrorClass, Failure};

/// OpenAI's parameters without a meaning for Ollama, in the order of the message about them.
const UNKNOWN_TO_OLLAMA: [&str; 19] = [
    "function_call",
    "n",
    "modalities",
    "prediction",
    "audio",
    "presence_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "parallel_tool_calls",
    "safety_identifier",
    "service_tier",
    "verbosity",
    "thinking",
    "web_search_options",
    "prompt_cache_key",
    "store",
    "include_server_side_tool_invocations",
    "context_management",
];
/// The same for an OpenAI-compatible server.
const UNKNOWN_TO_VLLM: [&str; 3] =
    ["verbosity", "include_server_side_tool_invocations", "context_management"];

/// The body without what the dialect does not know.
///
/// # Errors
/// The failure (400) that LiteLLM answers with unless `drops` says that such parameters are dropped. The body's own
/// `drop_params` and `allowed_openai_params` count.
pub fn known<'a>(
    deployment: &Deployment,
    body: &'a Map<String, Value>,
    drops: bool,
) -> Result<Cow<'a, Map<String, Value>>, Failure> {
    let list: &[&str] = match deployment.provider {
        Provider::OllamaChat => &UNKNOWN_TO_OLLAMA,
        Provider::HostedVllm => &UNKNOWN_TO_VLLM,
    };
    let allowed: Vec<&str> = body
        .get("allowed_openai_params")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let is_set = |name: &&str| match body.get(*name) {
        None | Some(Value::Null) => false,
        // One answer is what any upstream gives.
        Some(value) => *name != "n" || *value != 1,
    };
    let unknown: Vec<&str> =
        list.iter().copied().filter(is_set).filter(|name| !allowed.contains(name)).collect();
    if unknown.is_empty() {
        return Ok(Cow::Borrowed(body));
    }
    if drops || body.get("drop_params") == Some(&Value::Bool(true)) {
        let mut body = body.clone();
        body.retain(|name, _| !unknown.contains(&name.as_str()));
        return Ok(Cow::Owned(body));
    }
    let names: Vec<String> = unknown.iter().map(|name| format!("'{name}'")).collect();
    let names = names.join(", ");
    let message = format!(
        "litellm.UnsupportedParamsError: {} does not support parameters: [{names}], for model={}. To drop these, set \
         `litellm.drop_params=True` or for proxy:\n\n`litellm_settings:\n drop_params: true`\n. \n If you want to use \
         these params dynamically send allowed_openai_params=[{names}] in your request.",
        deployment.provider.prefix(),
        deployment.upstream_model,
    );
    Err(Failure::new(ErrorClass::BadRequest, 400, message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::gateway::config::GatewayConfig;

    #[test]
    fn what_a_dialect_does_not_know_is_refused_or_dropped() {
        let config = GatewayConfig::from_value(&json!({ "model_list": [
            { "model_name": "o", "litellm_params": { "model": "ollama_chat/m", "api_base": "http://h" } },
            { "model_name": "v", "litellm_params": { "model": "hosted_vllm/m", "api_base": "http://h" } },
        ] }))
        .unwrap();
        let [ollama, vllm] = &config.deployments[..] else { panic!("two") };
        let object = |value: Value| value.as_object().unwrap().clone();
        let both = object(json!({ "presence_penalty": 0, "n": 2, "user": "me", "temperature": 0 }));
        let refused = known(ollama, &both, false).unwrap_err();
        assert!(
            refused.message.contains("parameters: ['n', 'presence_penalty'], for model=m"),
            "{refused:?}"
        );
        assert_eq!(refused.status, 400);
        let kept: Vec<String> = known(ollama, &both, true).unwrap().keys().cloned().collect();
        assert_eq!(kept, ["user", "temperature"]);
        assert_eq!(*known(vllm, &both, false).unwrap(), both);
        let one = object(json!({ "n": 1, "logprobs": null, "verbosity": null }));
        assert_eq!(*known(ollama, &one, false).unwrap(), one);
        let allowed = object(json!({ "n": 2, "allowed_openai_params": ["n"] }));
        assert_eq!(*known(ollama, &allowed, false).unwrap(), allowed);
        assert!(known(vllm, &object(json!({ "verbosity": "low" })), false).is_err());
    }
}

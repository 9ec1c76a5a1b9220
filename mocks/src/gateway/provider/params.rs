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

/// Fields of a chat request that LiteLLM keeps for itself.
const GATEWAYS_OWN: [&str; 30] = [
    "additional_drop_params",
    "allowed_openai_params",
    "cache",
    "caching",
    "content_policy_fallbacks",
    "context_window_fallbacks",
    "disable_fallbacks",
    "drop_params",
    "extra_headers",
    "fallbacks",
    "guardrails",
    "include_fallback_errors",
    "litellm_call_id",
    "litellm_metadata",
    "litellm_session_id",
    "litellm_trace_id",
    "max_fallbacks",
    "max_retries",
    "metadata",
    "mock_response",
    "mock_timeout",
    "no-log",
    "num_retries",
    "order",
    "request_timeout",
    "stream_timeout",
    "tags",
    "timeout",
    "ttl",
    "user",
];
/// OpenAI's parameters that Ollama has a word for, or that LiteLLM drops in silence.
const KNOWN_TO_OLLAMA: [&str; 16] = [
    "model",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "frequency_penalty",
    "seed",
    "stop",
    "tools",
    "tool_choice",
    "functions",
    "response_format",
    "reasoning_effort",
];

/// Whether a field of a chat request never goes upstream.
pub(super) fn is_gateways_own(name: &str) -> bool {
    GATEWAYS_OWN.contains(&name)
}

/// What a request says beyond OpenAI's parameters, and what of those it allows itself: Ollama gets it as options.
pub(super) fn beyond_openai(body: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let allowed = allowed(body);
    body.iter().filter(move |(name, value)| {
        let name = name.as_str();
        let is_openais = KNOWN_TO_OLLAMA.contains(&name) || UNKNOWN_TO_OLLAMA.contains(&name);
        !value.is_null() && !is_gateways_own(name) && (!is_openais || allowed.contains(&name))
    })
}

/// What a request says that its upstream knows after all.
fn allowed(body: &Map<String, Value>) -> Vec<&str> {
    let names = body.get("allowed_openai_params").and_then(Value::as_array);
    names.into_iter().flatten().filter_map(Value::as_str).collect()
}

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
    let allowed = allowed(body);
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
    #[test]
    fn what_is_the_gateways_own_goes_nowhere_and_the_rest_is_passed_on() {
        let config = GatewayConfig::from_value(&json!({ "model_list": [
            { "model_name": "o", "litellm_params": { "model": "ollama_chat/m", "api_base": "http://h" } },
            { "model_name": "v", "litellm_params": { "model": "hosted_vllm/m", "api_base": "http://h" } },
        ] }))
        .unwrap();
        let asked = json!({ "model": "x", "messages": [], "max_fallbacks": 1, "request_timeout": 9, "drop_params": true,
            "context_window_fallbacks": [], "content_policy_fallbacks": [], "allowed_openai_params": ["n"], "user": "me",
            "tags": [], "metadata": {}, "n": 2, "seed": 7, "unknown": { "a": 1 }, "nothing": null });
        let sent = |deployment| {
            let request =
                crate::gateway::provider::request(deployment, asked.as_object().unwrap(), false).unwrap();
            serde_json::from_slice::<Value>(&request.body).unwrap()
        };
        let [ollama, vllm] = &config.deployments[..] else { panic!("two") };
        let options = json!({ "n": 2, "seed": 7, "unknown": { "a": 1 } });
        assert_eq!(
            sent(ollama),
            json!({ "model": "m", "messages": [], "stream": false, "options": options })
        );
        let mut expected = options;
        expected.as_object_mut().unwrap().extend([
            ("model".into(), "m".into()),
            ("messages".into(), json!([])),
            ("stream".into(), false.into()),
        ]);
        assert_eq!(sent(vllm), expected);
    }
}

//! Which deployments LiteLLM finds a price for, if only of nothing: replies then carry its parts (section 5).

use super::{Deployment, Provider};

/// Names of Ollama's in LiteLLM's price list, in lower case.
const LISTED: [&str; 29] = [
    "codegeex4",
    "codegemma",
    "codellama",
    "deepseek-coder-v2-base",
    "deepseek-coder-v2-instruct",
    "deepseek-coder-v2-lite-base",
    "deepseek-coder-v2-lite-instruct",
    "deepseek-v3.1:671b-cloud",
    "gpt-oss:120b-cloud",
    "gpt-oss:20b-cloud",
    "internlm2_5-20b-chat",
    "llama2",
    "llama2-uncensored",
    "llama2:13b",
    "llama2:70b",
    "llama2:7b",
    "llama3",
    "llama3.1",
    "llama3:70b",
    "llama3:8b",
    "mistral",
    "mistral-7b-instruct-v0.1",
    "mistral-7b-instruct-v0.2",
    "mistral-large-instruct-2407",
    "mixtral-8x22b-instruct-v0.1",
    "mixtral-8x7b-instruct-v0.1",
    "orca-mini",
    "qwen3-coder:480b-cloud",
    "vicuna",
];

/// Says of each deployment whether it is priced.
pub(super) fn price(deployments: &mut [Deployment]) {
    let priced: Vec<bool> = deployments.iter().map(|deployment| is_priced(deployment, deployments)).collect();
    deployments.iter_mut().zip(priced).for_each(|(deployment, priced)| deployment.priced = priced);
}

/// A model of an OpenAI-compatible server always is; one of Ollama's if its name is listed, stands in `model_list`
/// more than once (LiteLLM lists the names it meets, and finds them from the second on), or is its own id.
fn is_priced(deployment: &Deployment, all: &[Deployment]) -> bool {
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    deployment.provider == Provider::HostedVllm
        || LISTED.iter().any(|name| same(name, &deployment.upstream_model))
        || all.iter().filter(|other| same(&other.model, &deployment.model)).count() > 1
        || [&deployment.model, &deployment.upstream_model].contains(&&deployment.id)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::gateway::config::GatewayConfig;

    #[test]
    fn a_price_is_found_by_provider_by_list_by_repetition_and_by_id() {
        let cases = [
            ("hosted_vllm/new", "a", true),
            ("ollama_chat/kimi-k2.5", "b", false),
            // A namesake of another provider prices nothing.
            ("ollama_chat/new", "c", false),
            ("ollama_chat/twice", "d", true),
            ("ollama_chat/Twice", "e", true),
            ("ollama_chat/Llama3.1", "f", true),
            ("ollama_chat/own", "own", true),
            ("ollama_chat/whole", "ollama_chat/whole", true),
        ];
        let entry = |(model, id, _): (&str, &str, bool)| {
            json!({ "model_name": id, "model_info": { "id": id },
                "litellm_params": { "model": model, "api_base": "http://h" } })
        };
        let list: Vec<Value> = cases.into_iter().map(entry).collect();
        let config = GatewayConfig::from_value(&json!({ "model_list": list })).unwrap();
        for (deployment, (model, _, priced)) in config.deployments.iter().zip(cases) {
            assert_eq!(deployment.priced, priced, "{model}");
        }
    }
}

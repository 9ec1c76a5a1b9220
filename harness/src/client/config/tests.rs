use serde_json::json;

use super::{Agents, Retries};
use crate::environment::{Environment, Via};

fn environment() -> Environment {
    let text = "environment: test\nembedded: { profile: fast }\n\
        components: { cloud: { aliases: [kimi, coder], down: blackhole }, vllm: { aliases: [qwen], down: refuse } }\n\
        routes:\n  agent: { model: kimi, fallbacks: [qwen] }\n  person: { model: kimi, fallbacks: [qwen], via: openclaw }\n  \
        child: { model: coder, via: openclaw-subagent }\n";
    Environment::of_text("test.yaml", text.to_owned()).expect("an environment")
}

#[test]
fn agents_use_the_models_of_the_routes_that_go_through_openclaw() {
    let mut environment = environment();
    let agents = Agents::of(&environment).expect("two routes go through it");
    let config = agents.openclaw_json(18789, "/run/openclaw.log", None, Retries::Stock);
    let defaults = &config["agents"]["defaults"];
    assert_eq!(defaults["model"], json!({ "primary": "litellm/kimi", "fallbacks": ["litellm/qwen"] }));
    assert_eq!(defaults["subagents"]["model"], "litellm/coder");
    let provider = &config["models"]["providers"]["litellm"];
    assert_eq!(provider["models"].as_array().map(Vec::len), Some(3));
    assert_eq!((provider.get("timeoutSeconds"), config.get("channels")), (None, None));
    assert_eq!((Agents::settings_json(Retries::Stock), agents.telegram), (None, false));
    environment.routes.values_mut().for_each(|route| route.via = Via::Gateway);
    assert_eq!(Agents::of(&environment), None);
}

#[test]
fn nothing_calls_out_and_no_secret_stands_in_the_file() {
    let agents = Agents::of(&environment()).expect("routes");
    let config = agents.openclaw_json(1, "log", Some("http://127.0.0.1:2"), Retries::Bounded);
    assert_eq!(config["gateway"]["bind"], "loopback");
    assert_eq!(config["update"]["checkOnStart"], false);
    assert_eq!(config["models"]["catalogRefresh"]["enabled"], false);
    assert_eq!(config["channels"]["telegram"]["apiRoot"], "http://127.0.0.1:2");
    let secrets = [
        &config["gateway"]["auth"]["token"],
        &config["hooks"]["token"],
        &config["models"]["providers"]["litellm"]["apiKey"],
        &config["channels"]["telegram"]["botToken"],
    ];
    assert!(
        secrets.iter().all(|value| value.as_str().is_some_and(|text| text.starts_with("${"))),
        "{config}"
    );
}

#[test]
fn bounded_retries_are_what_is_said_of_them() {
    let agents = Agents::of(&environment()).expect("routes");
    let config = agents.openclaw_json(1, "log", None, Retries::Bounded);
    assert_eq!(config["agents"]["defaults"]["model"]["fallbacks"], json!([]));
    let settings = Retries::Bounded.settings();
    let bound = &config["models"]["providers"]["litellm"]["timeoutSeconds"];
    assert!(settings[2].ends_with(&format!("timeoutSeconds: {bound}")), "{settings:?}");
    let own = Agents::settings_json(Retries::Bounded).expect("settings");
    assert_eq!(own["retry"]["provider"]["maxRetries"], 0);
    assert!(Retries::Stock.settings().is_empty());
}

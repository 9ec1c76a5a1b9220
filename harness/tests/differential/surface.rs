//! What is not routing: pages, keys, refusals, addressing, and the fields and settings that change where a failure
//! leads. One pair of gateways for each configuration, one request after the other at both.

use harness::gateway::secret::Secret;
use mocks::gateway::config::Provider;
use serde_json::{Map, Value, json};

use crate::ask::{Ask, client};
use crate::compare::{Difference, differences};
use crate::facts::{Facts, Labels, facts, leaves};
use crate::fault::Fault;
use crate::pair::start;
use crate::upstream::{Script, Upstream};
use crate::{litellm, pairs};

/// A deployment: its group, provider, model and fault.
type Member = (&'static str, Provider, &'static str, Fault);

/// What all pairs have.
const GROUPS: [Member; 7] = [
    ("good", Provider::OllamaChat, "model-0", Fault::Healthy),
    ("vllm", Provider::HostedVllm, "model-1", Fault::Healthy),
    ("bad", Provider::OllamaChat, "model-2", Fault::status(500)),
    ("vbad", Provider::HostedVllm, "model-3", Fault::status(500)),
    ("denied", Provider::OllamaChat, "model-4", Fault::status(400)),
    ("duo", Provider::OllamaChat, "model-5", Fault::status(400)),
    ("duo", Provider::OllamaChat, "model-6", Fault::Healthy),
];

/// What only the pair has in which failures lead to cooldowns.
const BREAKING: [Member; 2] = [
    ("breaking", Provider::HostedVllm, "model-7", Fault::ErrorLater),
    ("breaking", Provider::HostedVllm, "model-8", Fault::Healthy),
];

/// What only the pair has that is asked about prices: pages tell more of those than is imitated.
const PRICED: [Member; 7] = [
    ("cut", Provider::OllamaChat, "model-7", Fault::CutBefore),
    ("vcut", Provider::HostedVllm, "model-8", Fault::CutBefore),
    ("namesake", Provider::OllamaChat, "same", Fault::Healthy),
    ("vnamesake", Provider::HostedVllm, "same", Fault::Healthy),
    ("twin", Provider::OllamaChat, "twin", Fault::Healthy),
    ("big-twin", Provider::OllamaChat, "Twin", Fault::Healthy),
    ("listed", Provider::OllamaChat, "llama3.1", Fault::Healthy),
];

/// Facts that are not imitated: path, beginning of the fact, reason. A `*` stands for anything.
const NOT_IMITATED: [(&str, &str, &str); 17] = [
    ("/router/*", "body /fields/*/field_description", "texts for people"),
    ("/router/*", "body (order)", "has the texts"),
    ("/model/info", "body (order)", "has what is unknown of a model"),
    ("/get/config/callbacks", "body /alerts", "alerts that could be set up"),
    ("/get/config/callbacks", "body /available_callbacks", "callbacks that could be set up"),
    ("/get/config/callbacks", "body (order)", "has alerts and callbacks"),
    ("/health/readiness/details", "body (order)", "has the callbacks"),
    ("/router/*", "body /routing_strategy_descriptions", "texts for people"),
    ("/health/readiness/details", "body /success_callbacks", "LiteLLM's own callbacks"),
    ("/health/readiness/details", "header vary", "follows from the length of the body"),
    ("/health?*", "body /unhealthy_endpoints/0/error", "ends in a stack trace"),
    ("/health?*", "body /unhealthy_endpoints/0/raw_request_typed_dict", "one of two questions, at random"),
    ("/health?*", "sent to", "one of two questions, at random"),
    ("/routes", "body", "hundreds of routes"),
    ("/openapi.json", "body", "two megabytes"),
    ("/", "body", "a page for people"),
    ("*", "header content-length", "follows from the body"),
];

fn is_imitated(path: &str, fact: &str) -> bool {
    let covers = |pattern: &str, text: &str, whole: bool| match pattern.split_once('*') {
        Some((start, end)) => text.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)),
        None if whole => text == pattern,
        None => text.starts_with(pattern),
    };
    !NOT_IMITATED.iter().any(|(pattern, start, _)| covers(pattern, path, true) && covers(start, fact, false))
}

fn config(members: &[Member], settings: &Value, upstreams: &[Upstream]) -> Value {
    let models = members.iter().zip(upstreams).enumerate().map(|(number, ((group, provider, model, _), upstream))| {
        let model = format!("{}/{model}", provider.prefix());
        let is_first = members[..number].iter().all(|(other, ..)| other != group);
        let weight = if is_first { 1_000_000_000_000_i64 } else { 1 };
        json!({
            "model_name": group, "model_info": { "id": format!("id-{number}") },
            "litellm_params": { "model": model, "api_base": upstream.api_base(*provider), "weight": weight },
        })
    });
    let mut config = json!({ "model_list": models.collect::<Vec<Value>>() });
    for (key, value) in settings.as_object().expect("an object") {
        config[key] = value.clone();
    }
    config
}

async fn world(members: &[Member]) -> (Vec<Upstream>, Labels) {
    let (mut upstreams, mut labels) = (Vec::new(), Labels::default());
    for (number, (_, provider, _, fault)) in members.iter().copied().enumerate() {
        let script = Script { provider, fault, marker: format!("served by {number}") };
        let upstream = Upstream::start(script).await.expect("an upstream");
        labels.port(upstream.port(), &format!("{number}"));
        upstreams.push(upstream);
    }
    (upstreams, labels)
}

/// Asks both all of `asks`; what they say differently, by request.
async fn apart(name: &str, members: &[Member], settings: Value, asks: Vec<Ask>) -> Vec<String> {
    let found = litellm().await;
    let _pair = pairs().acquire_owned().await.expect("never closed");
    let (real_upstreams, mut real_labels) = world(members).await;
    let (mock_upstreams, mut mock_labels) = world(members).await;
    let key = Secret::random();
    let configs = [&real_upstreams, &mock_upstreams].map(|upstreams| config(members, &settings, upstreams));
    let [for_real, for_mock] = configs;
    let (real, mock, _run_dir) = start(&found.bin, for_real, for_mock, &key, 1).await;
    assert!(mock.unsupported().is_empty(), "{:?}", mock.unsupported());
    let client = client();
    for (url, labels) in [(real.url(), &mut real_labels), (mock.url(), &mut mock_labels)] {
        labels.name(url.rsplit(':').next().expect("a port"), "<port of the gateway>");
    }
    let mut told = Vec::new();
    for (number, ask) in asks.iter().enumerate() {
        let mut real = facts(&ask.send(&client, &real.url(), &key).await, &real_labels);
        add_bodies(&real_upstreams, &mut real);
        let mut mock = facts(&ask.send(&client, &mock.url(), &key).await, &mock_labels);
        add_bodies(&mock_upstreams, &mut mock);
        let is_compared = |d: &Difference| {
            // What LiteLLM lists as unknown of a model.
            let is_unknown =
                d.fact.contains("/model_info/") && d.real.as_deref() == Some("null") && d.mock.is_none();
            !(is_unknown && ask.path == "/model/info") && is_imitated(&ask.path, &d.fact)
        };
        for d in differences(number + 1, &real, &mock).into_iter().filter(is_compared) {
            told.push(format!(
                "{name}: {} {} {}\n  {}\n    real: {:?}\n    mock: {:?}",
                ask.method, ask.path, ask.body, d.fact, d.real, d.mock
            ));
        }
    }
    mock.shutdown().await;
    real.stop().await.expect("LiteLLM is gone");
    told
}

/// Adds what each upstream was sent.
fn add_bodies(upstreams: &[Upstream], facts: &mut Facts) {
    for (number, upstream) in upstreams.iter().enumerate() {
        let bodies = upstream.take_bodies();
        facts.insert(format!("requests to {number}"), bodies.len().to_string());
        for (at, body) in bodies.iter().enumerate() {
            leaves(body, String::new(), &mut |path, leaf| {
                facts.insert(format!("sent to {number}: {at} {path}"), leaf.to_string());
            });
        }
    }
}

fn chat(model: &str, more: Value) -> Ask {
    Ask::chat_with(model, false, more.as_object().unwrap_or(&Map::new()))
}

fn raw(body: &str) -> Ask {
    Ask { body: body.to_owned(), ..chat("good", json!({})) }
}

fn at(path: &str, ask: Ask) -> Ask {
    Ask { path: path.into(), ..ask }
}

fn with_method(method: reqwest::Method, path: &str) -> Ask {
    Ask { method, ..Ask::get(path) }
}

fn without_key(ask: Ask) -> Ask {
    Ask { with_key: false, ..ask }
}

fn pages() -> Vec<Ask> {
    let paths = [
        "/health/liveliness",
        "/health/liveness",
        "/health/readiness",
        "/health/readiness/details",
        "/health/backlog",
        "/health?model=good",
        "/health?model=bad",
        "/health?model=nope",
        "/health?model_id=id-1",
        "/health?model_id=nope",
        "/health?model=",
        "/health?model=ollama_chat/model-0",
        "/v1/models",
        "/models",
        "/v1/models?include_metadata=true",
        "/v1/models?include_metadata=x",
        "/v1/models?include_metadata=1&fallback_type=x",
        "/v1/models/good",
        "/v1/models/nope",
        "/models/vllm",
        "/v1/models/alias",
        "/v1/models/hidden",
        "/model/info",
        "/v1/model/info?litellm_model_id=id-0",
        "/v1/model/info?litellm_model_id=nope",
        "/v2/model/info",
        "/model_group/info",
        "/model_group/info?model_group=good",
        "/model_group/info?model_group=nope",
        "/router/settings",
        "/router/fields",
        "/get/config/callbacks",
        "/fallback/bad",
        "/fallback/good",
        "/fallback/alias",
        "/fallback/bad?fallback_type=context_window",
        "/fallback/bad?fallback_type=x",
        "/fallback/a/b",
        "/cache/ping",
        "/cache/redis/info",
        "/metrics",
        "/metrics/",
        "/config/list",
        "/config/list?config_type=general_settings",
        "/config/field/info?field_name=x",
        "/health/history",
        "/health/latest",
        "/spend/logs",
        "/model/metrics",
        "/get/config/general_settings",
        "/test",
        "/nope",
        "/",
        "/routes",
        "/openapi.json",
        "/v1/models/",
        "/health/",
        "/chat/completions/",
        "/chat/completions",
    ];
    let mut asks: Vec<Ask> = paths.into_iter().map(Ask::get).collect();
    for (method, path) in [
        ("POST", "/health/liveliness"),
        ("HEAD", "/health/liveliness"),
        ("OPTIONS", "/health/liveliness"),
        ("OPTIONS", "/v1/chat/completions"),
        ("DELETE", "/model/info"),
        ("POST", "/v1/models"),
        ("PUT", "/chat/completions"),
        ("POST", "/nope"),
    ] {
        asks.push(with_method(method.parse().expect("a method"), path));
    }
    asks
}

/// Only keys of a form that LiteLLM understands: without the package `prisma`, which an installation for a run has
/// not, it breaks on any other (500 without JSON); the mock answers as one that has it.
fn keys() -> Vec<Ask> {
    let wrong = "sk-wrong";
    let headers = [
        ("authorization", "Bearer sk-wrong"),
        ("authorization", "bearer sk-wrong"),
        ("authorization", "Basic c2s="),
        ("x-litellm-api-key", wrong),
        ("x-litellm-api-key", "Bearer sk-wrong"),
        ("api-key", wrong),
        ("x-api-key", wrong),
        ("x-goog-api-key", wrong),
        ("ocp-apim-subscription-key", wrong),
    ];
    let mut asks: Vec<Ask> = headers
        .into_iter()
        .map(|(name, value)| without_key(Ask::get("/v1/models").header(name, value)))
        .collect();
    asks.push(Ask::get("/v1/models").header("x-litellm-api-key", wrong));
    asks.push(without_key(chat("good", json!({}))).header("authorization", "Bearer sk-wrong"));
    asks.push(without_key(raw("{nope")).header("authorization", "Bearer sk-wrong"));
    asks.push(without_key(Ask::get("/metrics")).header("authorization", "Bearer sk-wrong"));
    for path in ["/health/liveliness", "/health/readiness", "/test", "/nope", "/health/"] {
        asks.push(without_key(Ask::get(path)));
    }
    asks
}

/// A body that is JSON but no object is not here: LiteLLM breaks on it, and how depends on `prisma` as well.
fn refusals() -> Vec<Ask> {
    let bodies = [
        "",
        " ",
        "{nope",
        "{} x",
        r#"{"a":1,}"#,
        r#"{"a" 1}"#,
        r#"{"a":"#,
        "{\"a\":\"x",
        "\n\n {\"a\": nul}",
        "[1 2]",
        r#"{"a":01}"#,
        "{}",
        r#"{"model":"good"}"#,
        r#"{"model":"nope"}"#,
        r#"{"messages":[]}"#,
        r#"{"model":"nope","messages":[]}"#,
        r#"{"model":7,"messages":[]}"#,
        r#"{"model":"","messages":[]}"#,
        r#"{"model":null,"messages":[]}"#,
        r#"{"model":"good","messages":null}"#,
    ];
    let mut asks: Vec<Ask> = bodies.into_iter().map(raw).collect();
    for more in [
        json!({ "mock_testing_fallbacks": false }),
        json!({ "mock_timeout": true, "mock_delay": 1 }),
        json!({ "mock_response": "hi" }),
        json!({ "messages": [] }),
        json!({ "messages": [{ "content": "x" }] }),
        json!({ "unknown": 1 }),
        json!({ "n": 2, "presence_penalty": 1 }),
        json!({ "n": 1 }),
        json!({ "stream": null }),
        json!({ "timeout": "soon" }),
        json!({ "timeout": 0 }),
    ] {
        asks.push(chat("good", more));
    }
    asks.push(chat("vllm", json!({ "verbosity": "low" })));
    asks.push(chat("good", json!({})).header("x-litellm-timeout", "soon"));
    asks.push(chat("good", json!({})).header("x-litellm-num-retries", "1.5"));
    asks.push(chat("good", json!({})).header("x-litellm-call-id", "probe-1"));
    asks
}

fn addresses() -> Vec<Ask> {
    let mut asks = Vec::new();
    for model in ["good", "ollama_chat/model-0", "id-0", "id-1", "hosted_vllm/model-1", "alias", "hidden"] {
        asks.push(chat(model, json!({})));
        asks.push(Ask::chat(model, true));
    }
    for path in [
        "/openai/deployments/good/chat/completions",
        "/engines/good/chat/completions",
        "/chat/completions",
        "/openai/deployments/ollama_chat%2Fmodel-0/chat/completions",
        "/openai/deployments/ollama_chat/model-0/chat/completions",
        "/openai/deployments/nope/chat/completions",
        "/v1/engines/good/chat/completions",
    ] {
        asks.push(at(path, chat("vllm", json!({}))));
        asks.push(at(path, raw(r#"{"messages":[{"role":"user","content":"x"}]}"#)));
    }
    asks
}

fn overrides() -> Vec<Ask> {
    let mut asks = Vec::new();
    for more in [
        json!({}),
        json!({ "disable_fallbacks": true }),
        json!({ "fallbacks": ["vllm"] }),
        json!({ "fallbacks": [{ "bad": ["vllm"] }] }),
        json!({ "fallbacks": [{ "model": "vllm" }] }),
        json!({ "fallbacks": [{ "model": "denied" }, { "model": "vllm", "temperature": 0.5 }] }),
        json!({ "fallbacks": ["nope"] }),
        json!({ "fallbacks": ["nope", "vllm"] }),
        json!({ "fallbacks": [{ "model": "nope" }] }),
        json!({ "fallbacks": [] }),
        json!({ "fallbacks": ["id-1"] }),
        json!({ "fallbacks": ["hosted_vllm/model-1"] }),
        json!({ "fallbacks": [{ "*": ["vllm"] }] }),
        json!({ "fallbacks": ["bad"] }),
        json!({ "fallbacks": ["denied", "vbad"] }),
        json!({ "max_fallbacks": 0 }),
        json!({ "include_fallback_errors": true }),
        json!({ "include_fallback_errors": "yes" }),
        json!({ "include_fallback_errors": true, "fallbacks": ["vbad", "denied", "good"] }),
        json!({ "include_fallback_errors": true, "stream": true }),
        json!({ "timeout": 5, "disable_fallbacks": true }),
        json!({ "timeout": "5", "disable_fallbacks": true }),
        json!({ "request_timeout": 7, "disable_fallbacks": true }),
        json!({ "stream_timeout": 7, "stream": true, "disable_fallbacks": true }),
    ] {
        asks.push(chat("bad", more));
    }
    for model in ["vbad", "denied", "duo", "alias-of-bad", "self", "round"] {
        asks.push(chat(model, json!({})));
        asks.push(chat(model, json!({ "disable_fallbacks": true })));
    }
    asks
}

/// Fields of a request: which of them go upstream.
fn passed_on() -> Vec<Ask> {
    let fields = [
        json!({ "max_fallbacks": 1 }),
        json!({ "fallbacks": ["bad"], "disable_fallbacks": false, "include_fallback_errors": true }),
        json!({ "context_window_fallbacks": [{ "good": ["vllm"] }] }),
        json!({ "content_policy_fallbacks": [{ "good": ["vllm"] }] }),
        json!({ "request_timeout": 20 }),
        json!({ "timeout": 20, "stream_timeout": 20 }),
        json!({ "num_retries": 1, "max_retries": 1 }),
        json!({ "drop_params": true, "n": 2, "verbosity": "low" }),
        json!({ "allowed_openai_params": ["n", "verbosity"], "n": 2, "verbosity": "low" }),
        json!({ "metadata": { "a": "b" }, "user": "me", "tags": ["x"] }),
        json!({ "temperature": 0, "top_p": 0.5, "seed": 7, "stop": ["x"], "max_tokens": 9 }),
        json!({ "max_completion_tokens": 9, "stop": "x", "unknown": { "a": 1 } }),
    ];
    let models = ["good", "vllm"];
    models.into_iter().flat_map(|model| fields.iter().map(move |more| chat(model, more.clone()))).collect()
}

/// The parts of a price depend on who accepted an attempt.
fn prices() -> Vec<Ask> {
    let mut asks = Vec::new();
    for model in ["namesake", "vnamesake", "twin", "big-twin", "listed"] {
        asks.push(chat(model, json!({})));
        asks.push(Ask::chat(model, true));
    }
    for model in ["cut", "vcut"] {
        for fallbacks in
            [json!(["good"]), json!(["vllm"]), json!(["bad", "good"]), json!(["vcut", "good"]), json!([])]
        {
            for stream in [true, false] {
                asks.push(chat(model, json!({ "fallbacks": fallbacks, "stream": stream })));
            }
        }
    }
    asks
}

fn rich() -> Value {
    json!({
        "router_settings": {
            "num_retries": 0, "disable_cooldowns": true, "timeout": 30, "stream_timeout": 20.5, "max_fallbacks": 4,
            "enable_weighted_failover": true,
            "fallbacks": [{ "bad": ["good"] }, { "denied": ["denied"] }, { "vbad": ["duo"] }, { "duo": ["vbad"] }],
            "context_window_fallbacks": [{ "bad": ["vllm"] }],
            "model_group_alias": { "alias": "good", "hidden": { "model": "vllm", "hidden": true },
                "alias-of-bad": "bad" },
        },
        "general_settings": { "expose_fallback_errors_to_caller": true },
    })
}

async fn same(name: &str, settings: Value, asks: Vec<Ask>) {
    same_with(name, &GROUPS, settings, asks).await;
}

async fn same_with(name: &str, members: &[Member], settings: Value, asks: Vec<Ask>) {
    let told = apart(name, members, settings, asks).await;
    assert!(told.is_empty(), "{} differences:\n{}", told.len(), told.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_keys_are_the_same() {
    same("pages", rich(), [pages(), keys()].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_addresses_are_the_same() {
    same_with(
        "refusals",
        &[GROUPS, PRICED].concat(),
        rich(),
        [refusals(), addresses(), prices(), passed_on()].concat(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_overrides_leads_to_the_same() {
    same("overrides", rich(), overrides()).await;
    let bare = json!({ "router_settings": { "num_retries": 0, "disable_cooldowns": true } });
    same("without lists", bare, overrides()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_on_repeats_and_broken_streams_lead_to_the_same() {
    let mut settings = rich();
    settings["litellm_settings"] = json!({ "num_retries_per_request": 1, "drop_params": true });
    settings["router_settings"]["disable_cooldowns"] = false.into();
    settings["router_settings"]["cooldown_time"] = 300.into();
    let mut asks = vec![chat("vbad", json!({})), chat("bad", json!({})), chat("good", json!({ "n": 2 }))];
    // Of five streams that break the fifth puts their deployment into cooldown.
    asks.extend((0..7).map(|_| Ask::chat("breaking", true)));
    same_with("cap", &[&GROUPS[..], &BREAKING].concat(), settings, asks).await;
}

//! Each trap that openclaw's own validation lets pass, by the line that it changes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::*;

const ALIASES: [&str; 5] = ["cloud-kimi", "cloud-minimax", "vllm-qwen", "ollama-qwen", "cloud-qwen3-coder"];

fn expected() -> Expected {
    Expected {
        primary: Some("cloud-kimi".into()),
        fallbacks: ["cloud-minimax", "vllm-qwen", "ollama-qwen"].map(str::to_owned).into(),
        coder: Some("cloud-qwen3-coder".into()),
        urls: vec!["http://litellm.ml.svc:4000".into(), "http://litellm.ml:4000".into()],
    }
}

fn done() -> Value {
    let models: Vec<Value> = ALIASES.iter().map(|alias| json!({ "id": alias, "name": alias })).collect();
    json!({
        "models": { "providers": { "litellm": {
            "baseUrl": "http://litellm.ml.svc:4000/v1", "apiKey": "${LITELLM_MASTER_KEY}",
            "api": "openai-completions", "models": models,
        } } },
        "agents": { "defaults": {
            "model": {
                "primary": "litellm/cloud-kimi",
                "fallbacks": ["litellm/cloud-minimax", "litellm/vllm-qwen", "litellm/ollama-qwen"],
            },
            "subagents": { "model": "litellm/cloud-qwen3-coder" },
        } },
        "plugins": { "entries": { "anthropic": { "enabled": true } } },
    })
}

fn read(value: &Value) -> OpenclawConfig {
    OpenclawConfig::read(&value.to_string()).unwrap_or_else(|error| panic!("{error}"))
}

fn lines_of(value: &Value) -> Vec<MigrationLine> {
    config(Ok(&read(value)), &expected(), None)
}

/// The lines that do not hold, as `standing fact`.
fn amiss(lines: &[MigrationLine]) -> Vec<String> {
    let amiss = lines.iter().filter(|line| line.standing != Standing::Holds);
    amiss.map(|line| format!("{} {}", line.standing.word(), line.fact)).collect()
}

#[track_caller]
fn assert_amiss(change: impl FnOnce(&mut Value), wanted: &[&str]) {
    let mut value = done();
    change(&mut value);
    let lines = lines_of(&value);
    assert_eq!(amiss(&lines), wanted, "{lines:#?}");
    for line in &lines {
        assert_eq!(line.mend.is_some(), line.standing == Standing::Fails, "{line:?}");
    }
}

#[test]
fn a_migration_that_is_done_holds_in_every_line() {
    assert_amiss(|_| {}, &[]);
    let requirements: BTreeSet<String> = lines_of(&done()).into_iter().map(|line| line.requirement).collect();
    assert_eq!(requirements, ["FR222", "FR223"].map(str::to_owned).into());
}

#[test]
fn comments_and_commas_at_ends_are_read() {
    let text = done().to_string();
    let text = format!("// of the household\n{},}} /* end }} */", text.strip_suffix('}').unwrap());
    let config = OpenclawConfig::read(&text).unwrap();
    assert_eq!(amiss(&super::config(Ok(&config), &expected(), None)), Vec::<String>::new());
}

#[test]
fn each_trap_changes_its_own_line_and_no_other() {
    const PRIMARY: &str = "fails agents.defaults.model.primary";
    const FALLBACKS: &str = "fails agents.defaults.model.fallbacks";
    const CODER: &str = "fails agents.defaults.subagents.model";
    const BELOW_AGENTS: &str = "fails models of Anthropic below agents";
    const OWN: &str = "fails agents with a model of their own";
    const URL: &str = "fails models.providers.litellm.baseUrl";
    const KEY: &str = "fails models.providers.litellm.apiKey";
    const MODELS: &str = "fails models.providers.litellm.models";
    type Trap = (&'static str, Value, &'static [&'static str]);
    let traps: Vec<Trap> = vec![
        ("/agents/defaults/model/primary", json!("anthropic/claude-opus-4-5"), &[PRIMARY, BELOW_AGENTS]),
        ("/agents/defaults/model/primary", json!("cloud-kimi"), &[PRIMARY]),
        (
            "/agents/defaults/model/fallbacks/1",
            json!("anthropic/claude-sonnet-4-6"),
            &[FALLBACKS, BELOW_AGENTS],
        ),
        ("/agents/defaults/model/fallbacks/2", json!("litellm/nope"), &[FALLBACKS]),
        ("/agents/defaults/model/fallbacks", json!([]), &[FALLBACKS]),
        ("/agents/defaults/model/fallbacks", json!("litellm/vllm-qwen"), &[PRIMARY, FALLBACKS]),
        // A text is a primary alone.
        ("/agents/defaults/model", json!("litellm/cloud-kimi"), &[FALLBACKS]),
        ("/agents/defaults/model", json!(7), &[PRIMARY, FALLBACKS]),
        ("/agents/defaults/model", Value::Null, &[PRIMARY, FALLBACKS]),
        ("/agents/defaults/subagents/model", json!({ "primary": "litellm/cloud-qwen3-coder" }), &[]),
        ("/agents/defaults/subagents/model", json!("litellm/cloud-kimi"), &[CODER]),
        ("/agents/defaults/subagents/model", json!("anthropic/claude-haiku-4-5"), &[CODER, BELOW_AGENTS]),
        (
            "/agents/defaults/subagents/model",
            json!({ "primary": "litellm/cloud-qwen3-coder", "fallbacks": ["anthropic/claude-opus-4-5"] }),
            &[BELOW_AGENTS],
        ),
        ("/agents/defaults/imageModel", json!("anthropic/claude-opus-4-5"), &[BELOW_AGENTS]),
        ("/agents/defaults/utilityModel", json!("anthropic/claude-opus-4-5"), &[BELOW_AGENTS]),
        ("/agents/defaults/heartbeat", json!({ "model": "anthropic/claude-opus-4-5" }), &[BELOW_AGENTS]),
        (
            "/agents/defaults/models",
            json!({ "anthropic/claude-opus-4-5": { "alias": "opus" } }),
            &[BELOW_AGENTS],
        ),
        ("/agents/defaults/imageModel", json!("openrouter/anthropic/claude-x"), &[BELOW_AGENTS]),
        (
            "/agents/defaults/model/primary",
            json!("${PRIMARY}"),
            &["not known agents.defaults.model.primary", "not known models of Anthropic below agents"],
        ),
        ("/agents/defaults/workspace", json!("${HOME_OF_AGENTS}/work"), &[]),
        (
            "/agents/entries",
            json!({ "helper": { "model": "anthropic/claude-opus-4-5" } }),
            &[OWN, BELOW_AGENTS],
        ),
        ("/agents/entries", json!({ "helper": { "model": "litellm/nope" } }), &[OWN]),
        ("/agents/entries", json!({ "helper": { "model": "litellm/vllm-qwen" } }), &[]),
        // The main agent does not look at the defaults any more.
        ("/agents/entries", json!({ "main": { "model": "litellm/vllm-qwen" } }), &[OWN]),
        ("/agents/entries", json!({ "x": { "default": true, "model": "litellm/vllm-qwen" } }), &[OWN]),
        ("/agents/entries", json!({ "x": { "subagents": { "model": "litellm/vllm-qwen" } } }), &[CODER]),
        // As earlier versions wrote them.
        ("/agents/list", json!([{ "id": "x", "model": "anthropic/claude-opus-4-5" }]), &[OWN, BELOW_AGENTS]),
        (
            "/models/providers/anthropic",
            json!({ "apiKey": "${A}" }),
            &["fails Anthropic in models.providers"],
        ),
        (
            "/models/providers/x",
            json!({ "baseUrl": "https://api.anthropic.com" }),
            &["fails Anthropic in models.providers"],
        ),
        ("/models/providers/x", json!({ "api": "anthropic-messages" }), &[]),
        ("/models/providers/litellm/models/0/name", json!(""), &[MODELS]),
        ("/models/providers/litellm/models/2/id", json!("vllm"), &[MODELS]),
        ("/models/providers/litellm/apiKey", json!("sk-canary"), &[KEY]),
        ("/models/providers/litellm/apiKey", json!("${litellm_master_key}"), &[KEY]),
        ("/models/providers/litellm/apiKey", json!("${OPENAI_API_KEY}"), &[KEY]),
        ("/models/providers/litellm/baseUrl", json!("http://litellm.ml.svc:4000"), &[URL]),
        ("/models/providers/litellm/baseUrl", json!("https://user:canary@other.example/v1"), &[URL]),
        ("/models/providers/litellm/baseUrl", json!("${litellm_url}/v1"), &[URL]),
        ("/models/providers/litellm", Value::Null, &[URL, KEY, MODELS]),
        (
            "/auth/profiles",
            json!({ "anthropic:default": { "mode": "token" } }),
            &["fails Anthropic in auth.profiles"],
        ),
        ("/auth/order", json!({ "anthropic": ["x:default"] }), &["fails Anthropic in auth.order"]),
    ];
    for (pointer, put, wanted) in traps {
        let change = |value: &mut Value| set(value, pointer, put);
        assert_amiss(change, wanted);
    }
    assert_amiss(
        |value| set(value, "/env", json!({ "vars": { "ANTHROPIC_API_KEY": "canary" } })),
        &["fails Anthropic elsewhere in openclaw.json"],
    );
    assert_amiss(
        |value| set(value, "/hooks", json!({ "gmail": { "model": "anthropic/claude-opus-4-5" } })),
        &["fails Anthropic elsewhere in openclaw.json"],
    );
    for (pointer, put) in [("/auth/cooldowns", json!({})), ("/agents/defaults/llm", json!({}))] {
        assert_amiss(|value| set(value, pointer, put), &["not known keys that openclaw 2026.9.6 refuses"]);
    }
}

/// Puts a value where a pointer leads, with whatever is missing on the way.
fn set(value: &mut Value, pointer: &str, put: Value) {
    let mut at = value;
    for key in pointer.split('/').skip(1) {
        at = match (key.parse::<usize>(), at.is_array()) {
            (Ok(index), true) => &mut at[index],
            _ => &mut at[key],
        };
    }
    *at = put;
}

#[test]
fn what_is_in_other_files_is_not_known_to_be_absent() {
    let mut value = done();
    set(&mut value, "/channels", json!({ "$include": "channels.json5" }));
    let lines = lines_of(&value);
    let open = [
        "agents with a model of their own",
        "models of Anthropic below agents",
        "Anthropic in models.providers",
        "Anthropic in auth.profiles",
        "Anthropic in auth.order",
        "Anthropic elsewhere in openclaw.json",
        "keys that openclaw 2026.9.6 refuses",
    ];
    assert_eq!(amiss(&lines), open.map(|fact| format!("not known {fact}")));
}

#[test]
fn what_was_not_read_is_not_known_in_every_line() {
    let lines = config(Err("the pod does not answer"), &expected(), None);
    assert!(
        lines
            .iter()
            .all(|line| line.standing == Standing::NotKnown && line.found == "the pod does not answer")
    );
    assert_eq!(lines.len(), lines_of(&done()).len());
    // Nor is anything expected where no route says what.
    let nobody = Expected { primary: None, fallbacks: Vec::new(), coder: None, ..expected() };
    let lines = config(Ok(&read(&done())), &nobody, None);
    assert_eq!(
        amiss(&lines),
        [
            "not known models.providers.litellm.models",
            "not known agents.defaults.model.primary",
            "not known agents.defaults.model.fallbacks",
            "not known agents.defaults.subagents.model",
        ]
    );
}

#[test]
fn no_text_panics_or_is_shown() {
    let deep = "[".repeat(100_000);
    let texts = ["", "{", "[]", "\"sk-canary", "{ a: 'sk-canary }", "{ \"a\": sk-canary }", deep.as_str()];
    for text in texts {
        let error = OpenclawConfig::read(text).map(drop).unwrap_err();
        assert!(!error.to_string().contains("canary"), "{error}");
    }
    assert_eq!(OpenclawConfig::read(&deep).map(drop), Err(Unreadable::TooDeep));
    assert_eq!(OpenclawConfig::read("[1]").map(drop), Err(Unreadable::NotAMapping));
    let place = OpenclawConfig::read("{\n  a: ,\n}").map(drop).unwrap_err();
    assert_eq!(place.to_string(), "openclaw.json is no JSON5 (line 2, column 6)");
    // Brackets in texts and comments are no nesting.
    let text = format!("{{ a: \"{0}\", /* {0} */ b: '\\'{0}' // {0}\n }}", "[".repeat(200));
    assert_eq!(OpenclawConfig::read(&text).map(drop), Ok(()));
}

#[test]
fn no_value_of_a_key_is_in_a_line() {
    let canary = "canary-4711";
    let mut value = done();
    for pointer in [
        "/models/providers/litellm/apiKey",
        "/gateway/auth/token",
        "/env/vars/LITELLM_MASTER_KEY",
        "/env/ANTHROPIC_API_KEY",
        "/auth/profiles/anthropic:default/token",
        "/models/providers/anthropic/apiKey",
        "/hooks/token",
    ] {
        set(&mut value, pointer, canary.into());
    }
    set(&mut value, "/tools/key", format!("sk-ant-{canary}").into());
    set(
        &mut value,
        "/models/providers/litellm/baseUrl",
        format!("http://u:{canary}@litellm.ml.svc:4000/v1?k={canary}").into(),
    );
    set(
        &mut value,
        "/models/providers/other/baseUrl",
        format!("https://t:{canary}@api.anthropic.com").into(),
    );
    set(&mut value, "/models/providers/proxy/baseUrl", format!("https://p/anthropic?key={canary}").into());
    set(&mut value, "/env/vars/SOME_TOKEN", format!("claude-{canary}").into());
    let lines = lines_of(&value);
    assert!(!format!("{lines:?}").contains(canary), "{lines:#?}");
    assert!(amiss(&lines).contains(&"fails Anthropic elsewhere in openclaw.json".to_owned()));
}

#[test]
fn no_part_of_a_url_that_may_be_a_key_is_in_a_line() {
    for written in [
        "http://u:canary@${LITELLM_HOST}:4000/v1",
        "${LITELLM_BASE_URL}/v1?key=canary",
        "${LITELLM_BASE_URL}-canary",
        "${ canary }/v1",
        "http://litellm.ml.svc:4000/canary/v1",
    ] {
        let mut value = done();
        set(&mut value, "/models/providers/litellm/baseUrl", written.into());
        let lines = lines_of(&value);
        assert!(!format!("{lines:?}").contains("canary"), "{written}: {lines:#?}");
    }
}

#[test]
fn whose_an_address_is_is_not_known() {
    let mut value = done();
    set(&mut value, "/models/providers/litellm/baseUrl", "http://10.43.7.9:4000/v1".into());
    let line = config(Ok(&read(&value)), &expected(), None).remove(0);
    assert_eq!(line.standing, Standing::NotKnown, "{line:?}");
}

fn seen(names: &[&str]) -> ContainerSeen {
    ContainerSeen {
        variables: names.iter().map(|name| ((*name).to_owned(), true)).collect(),
        leads: BTreeMap::from([
            (URL_VARIABLE.to_owned(), Leads::Root),
            ("LITELLM_BASE_URL".to_owned(), Leads::Api),
        ]),
        ..ContainerSeen::default()
    }
}

#[test]
fn a_url_in_a_variable_leads_where_the_container_says() {
    let url = |written: &str, container: Option<&ContainerSeen>| {
        let mut value = done();
        set(&mut value, "/models/providers/litellm/baseUrl", written.into());
        config(Ok(&read(&value)), &expected(), container).remove(0).standing
    };
    let both = seen(&[URL_VARIABLE, "LITELLM_BASE_URL"]);
    assert_eq!(url("${LITELLM_BASE_URL}", Some(&both)), Standing::Holds);
    assert_eq!(url("${LITELLM_FALLBACK_URL}/v1", Some(&both)), Standing::Holds);
    assert_eq!(url("${LITELLM_FALLBACK_URL}", Some(&both)), Standing::Fails, "it has no /v1");
    assert_eq!(url("${LITELLM_BASE_URL}", Some(&seen(&[]))), Standing::Fails, "it is not set");
    assert_eq!(url("${LITELLM_BASE_URL}", None), Standing::NotKnown);
    assert_eq!(url("http://${HOST}:4000/v1", Some(&both)), Standing::NotKnown);
}

fn at(second: i64) -> Option<jiff::Timestamp> {
    Some(jiff::Timestamp::from_second(second).unwrap())
}

fn of_container(seen: &ContainerSeen, started: i64, needed: &[&str]) -> Vec<String> {
    let pod = PodSeen { pod: "openclaw-1".into(), started: at(started), changed: at(100) };
    let needed = needed.iter().map(|name| (*name).to_owned()).collect();
    let clean = Profiles::of(&json!({ "profiles": [] }), &json!({ "auth": { "providers": ["litellm"] } }));
    amiss(&container(Ok(seen), Ok(&pod), Ok(&clean.unwrap()), Ok(&needed), &expected()))
}

#[test]
fn a_container_is_judged_by_the_names_in_its_environment() {
    let whole = seen(&[KEY_VARIABLE, URL_VARIABLE]);
    assert_eq!(of_container(&whole, 101, &[KEY_VARIABLE]), Vec::<String>::new());
    assert_eq!(of_container(&whole, 99, &[]), ["fails openclaw's pod"]);
    assert_eq!(of_container(&whole, 100, &[]), ["not known openclaw's pod"]);
    assert_eq!(of_container(&whole, 101, &["OTHER"]), ["fails variables that openclaw.json names"]);
    for name in ["ANTHROPIC_OAUTH_TOKEN", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"] {
        let left = seen(&[KEY_VARIABLE, URL_VARIABLE, name]);
        assert_eq!(of_container(&left, 101, &[]), ["fails Anthropic in openclaw's environment"]);
    }
    let mut in_file = whole.clone();
    in_file.in_env_file = ["ANTHROPIC_API_KEY".to_owned(), "OTHER".to_owned()].into();
    let wanted =
        ["fails Anthropic in openclaw's environment", "not known variables that openclaw.json names"];
    assert_eq!(of_container(&in_file, 101, &["OTHER"]), wanted);
    let mut empty = whole.clone();
    empty.variables.insert(KEY_VARIABLE.to_owned(), false);
    assert_eq!(of_container(&empty, 101, &[]), ["fails LITELLM_MASTER_KEY in openclaw's environment"]);
    let mut elsewhere = whole;
    elsewhere.leads.insert(URL_VARIABLE.to_owned(), Leads::Elsewhere);
    assert_eq!(of_container(&elsewhere, 101, &[]), ["fails LITELLM_FALLBACK_URL in openclaw's environment"]);
}

#[test]
fn stored_profiles_are_those_that_openclaw_tells() {
    let status = json!({ "auth": { "providers": [{ "provider": "litellm" }] } });
    assert_eq!(Profiles::of(&json!({ "profiles": [] }), &status), Some(Profiles::default()));
    let stored = json!({ "profiles": [{ "id": "anthropic:default", "provider": "anthropic" }] });
    assert_ne!(Profiles::of(&stored, &status), Some(Profiles::default()));
    for name in ["anthropic", "anthropic-openai", "claude-cli"] {
        let status = json!({ "auth": { "providers": [{ "provider": name, "missing": false }] } });
        assert_ne!(Profiles::of(&json!({}), &status), Some(Profiles::default()), "{name}");
    }
    // What is not what it is known to be proves nothing.
    assert_eq!(Profiles::of(&json!({}), &json!({ "auth": {} })), None);
    assert_eq!(Profiles::of(&json!({}), &json!({ "auth": { "providers": [{}] } })), None);
    assert_eq!(Profiles::of(&json!("x"), &status), None);
}

#[test]
fn a_secret_is_judged_by_the_names_of_its_keys() {
    let names = [KEY_VARIABLE, URL_VARIABLE, "OPENAI_API_KEY"];
    let whole = SecretSeen {
        keys: names.iter().map(|name| ((*name).to_owned(), true)).collect(),
        leads: Some(Leads::Root),
        changed: at(100),
    };
    let amiss = |seen: &SecretSeen| amiss(&secret("apps/openclaw-secrets", Ok(seen), &expected()));
    assert_eq!(amiss(&whole), Vec::<String>::new());
    for name in names {
        let mut less = whole.clone();
        less.keys.remove(name);
        assert_eq!(amiss(&less), [format!("fails {name} in the Secret apps/openclaw-secrets")]);
    }
    let mut more = whole.clone();
    more.keys.insert("ANTHROPIC_OAUTH_TOKEN".to_owned(), true);
    assert_eq!(amiss(&more), ["fails Anthropic in the Secret apps/openclaw-secrets"]);
    let elsewhere = SecretSeen { leads: Some(Leads::Elsewhere), ..whole };
    assert_eq!(amiss(&elsewhere), ["fails LITELLM_FALLBACK_URL in the Secret apps/openclaw-secrets"]);
}

#[test]
fn litellm_has_no_model_and_no_fallback_of_anthropic() {
    let amiss = |models: Value, settings: Value| {
        let file = json!({ "model_list": models, "router_settings": settings });
        amiss(&gateway_models(Ok(&GatewayModels::of_file(&file).unwrap())))
    };
    let kimi = json!({ "model_name": "cloud-kimi", "litellm_params": { "model": "ollama_chat/kimi-k2.5" } });
    assert_eq!(amiss(json!([kimi]), json!({})), Vec::<String>::new());
    const LIST: &str = "Anthropic in LiteLLM's model list";
    let list = format!("fails {LIST}");
    for entry in [
        json!({ "model_name": "claude", "litellm_params": { "model": "x/y" } }),
        json!({ "model_name": "a", "litellm_params": { "model": "anthropic/claude-opus-4-5" } }),
        json!({ "model_name": "a", "litellm_params": { "model": "anthropic/*" } }),
        json!({ "model_name": "a", "litellm_params": { "model": "openai/x", "api_base": "https://api.anthropic.com" } }),
        json!({ "model_name": "a", "litellm_params": { "model": "x", "custom_llm_provider": "anthropic" } }),
        json!({ "model_name": "a", "litellm_params": { "model": "x", "api_key": "os.environ/ANTHROPIC_API_KEY" } }),
    ] {
        assert_eq!(amiss(json!([kimi, entry]), json!({})), std::slice::from_ref(&list), "{entry}");
    }
    let any = json!({ "model_name": "*", "litellm_params": { "model": "*" } });
    assert_eq!(amiss(json!([any]), json!({})), [format!("not known {LIST}")]);
    let fallbacks = json!({ "fallbacks": [{ "cloud-kimi": ["claude-sonnet"] }] });
    assert_eq!(amiss(json!([kimi]), fallbacks), ["fails Anthropic in LiteLLM's fallbacks and settings"]);
    assert_eq!(GatewayModels::of_file(&json!({})), None);
    let info = json!({ "data": [{ "model_name": "a", "litellm_params": { "model": "anthropic/x" } }] });
    let pages = |settings: &Value| GatewayModels::of_pages(&info, settings);
    let current = json!({ "fields": ["anthropic"], "current_values": { "default_fallbacks": ["claude"] } });
    let lines = gateway_models(Ok(&pages(&current).unwrap()));
    assert_eq!(
        lines.iter().map(|line| line.standing).collect::<Vec<_>>(),
        [Standing::Fails, Standing::Fails]
    );
    assert_eq!(pages(&json!({})), None);
}

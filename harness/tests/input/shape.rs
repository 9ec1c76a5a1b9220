//! The schemas, which editors complete from, and the readers, which refuse files, say the same: every property of
//! every mapping is tried in a file that uses them all.

use std::collections::BTreeSet;
use std::fs;

use harness::input::{self, FileKind, Problem};
use serde_json::{Map, Value, json};

/// Right files with every property of their schemas between them.
fn full() -> Vec<(FileKind, Value)> {
    let scenario = json!({
        "scenario": "x", "title": "A title", "requirements": ["FR217"],
        "components": { "cloud": "down", "ollama": { "gone": ["ollama-qwen"] } },
        "traffic": [
            { "route": "agent", "rate": "8/s", "for": "12s", "stream": "mixed", "max_tokens": 8, "timeout": "30s" },
            { "route": "coder", "rate": "8/s", "for": "12s" },
        ],
        "expect": {
            "agent": { "served_by": "vllm-qwen", "within": "5s", "errors": 0, "lost_in_flight": 3,
                "first_token_within": "4s", "max_stall": "2s" },
            "coder": { "error": true, "within": "5s" },
        },
        "recover": { "agent": { "served_by": "cloud-kimi", "within": "60s" } },
        "injections": 3,
    });
    let routes = json!({ "agent": { "model": "cloud-kimi", "fallbacks": ["cloud-minimax"] } });
    let embedded = json!({
        "environment": "x",
        "embedded": { "profile": "fast" },
        "gateway": { "url": "http://127.0.0.1:4000", "key": { "env": "LITELLM_MASTER_KEY" } },
        "components": {
            "cloud": {
                "aliases": ["cloud-kimi", "cloud-minimax"], "down": "blackhole", "ready_within": "5s",
                "ceilings": {
                    "requests": 5, "tokens": 5, "cost_usd": 5, "usd_per_million_tokens": 0.5, "rate": "4/s"
                },
            },
        },
        "routes": { "agent": { "model": "cloud-kimi", "fallbacks": ["cloud-minimax"], "via": "openclaw" } },
    });
    let cluster = json!({
        "environment": "x",
        "kubernetes": {
            "context": "home", "kubeconfig": "config.yaml", "in_cluster": false, "namespaces": ["ml", "apps"],
            "nft_image": "registry.example/nft:1"
        },
        "gateway": {
            "service": "ml/litellm", "port": 4000, "deployment": "ml/litellm", "pods": "app=litellm",
            "key": { "secret": "apps/keys", "field": "LITELLM_MASTER_KEY" },
        },
        "opponents": { "pause": ["argo-cd"] },
        "users": { "postpone": "10m" },
        "openclaw": {
            "deployment": "apps/openclaw", "container": "openclaw", "config": "/home/node/.openclaw/openclaw.json",
            "secret": "apps/openclaw-secrets",
        },
        "loki": {
            "url": "http://loki:3100", "query": "{app=\"litellm\"}", "tenant": "home", "within": "5s",
            "user": "reader", "password_env": "LOKI_PASSWORD",
        },
        "components": {
            "cloud": {
                "aliases": ["cloud-kimi", "cloud-minimax"], "endpoint": "https://ollama.com",
                "down": { "blackhole": "egress-proxy" },
                "proxy": { "service": "ml/gate", "deployment": "ml/egress-gate", "control": 9100 },
            },
            "vllm": {
                "aliases": ["vllm-qwen"], "deployment": "ml/vllm", "service": "ml/vllm", "port": 8000,
                "down": "scale-to-zero", "opponents": { "pause": ["keda"] },
            },
        },
        "routes": routes,
    });
    let mock_cluster = json!({
        "environment": "x",
        "embedded": { "profile": "fast", "cni": "calico" },
        "kubernetes": { "namespaces": ["ml"] },
        "gateway": { "service": "ml/litellm", "pods": "app=litellm" },
        "loki": { "url": "https://loki:3100", "query": "{app=\"litellm\"}", "token_env": "LOKI_TOKEN" },
        "components": {
            "cloud": { "aliases": ["cloud-kimi", "cloud-minimax"], "down": "nothing" },
        },
        "routes": routes,
    });
    let openclaw = json!({
        "environment": "x",
        "embedded": { "profile": "fast" },
        "components": {
            "cloud": {
                "aliases": ["cloud-kimi", "cloud-minimax"], "down": "blackhole", "ceilings": { "requests": 5 },
            },
        },
        "routes": {
            "agent": { "model": "cloud-kimi", "fallbacks": ["cloud-minimax"], "via": "openclaw" },
            "coder": { "model": "cloud-kimi" },
        },
    });
    let environments = [embedded, cluster, mock_cluster, openclaw].map(|file| (FileKind::Environment, file));
    [vec![(FileKind::Scenario, scenario)], environments.into()].concat()
}

/// What is said of a file with this content; YAML reads JSON.
fn problems(kind: FileKind, content: &Value) -> Vec<Problem> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.yaml");
    fs::write(&path, format!("{content:#}")).unwrap();
    let result = match kind {
        FileKind::Scenario => input::load(std::slice::from_ref(&path), None),
        FileKind::Environment => input::load(&[super::fail_file("../one.yaml")], path.to_str()),
    };
    let found = result.err().map_or_else(Vec::new, |problems| problems.0);
    found.into_iter().filter(|problem| problem.file.ends_with("file.yaml")).collect()
}

/// Every mapping with known keys in a file: its path and its schema.
fn mappings(root: &Value, schema: &Value, value: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    let schema = resolved(root, schema);
    if let Some(choices) = schema["oneOf"].as_array().filter(|_| schema.get("properties").is_none()) {
        let kind = if value.is_object() { "object" } else { "string" };
        for choice in choices.iter().filter(|choice| choice["type"] == kind) {
            mappings(root, choice, value, path, found);
        }
        return;
    }
    match value {
        Value::Object(entries) => {
            if schema["properties"].is_object() {
                found.push((path.to_owned(), schema.clone()));
            }
            for (name, entry) in entries {
                let of_entry = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
                mappings(root, of_entry, entry, &format!("{path}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                mappings(root, &schema["items"], item, &format!("{path}/{index}"), found);
            }
        }
        _ => {}
    }
}

fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    match schema["$ref"].as_str() {
        Some(reference) => resolved(root, root.pointer(reference.trim_start_matches('#')).unwrap()),
        None => schema,
    }
}

/// The names that a hint lists.
fn possible(hint: Option<&str>) -> BTreeSet<String> {
    let list = hint.unwrap_or_default().split("possible: ").nth(1).unwrap_or_default();
    list.split(';').next().unwrap().split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn changed(
    kind: FileKind,
    full: &Value,
    path: &str,
    change: impl FnOnce(&mut Map<String, Value>),
) -> Vec<Problem> {
    let mut file = full.clone();
    change(file.pointer_mut(path).unwrap().as_object_mut().unwrap());
    problems(kind, &file)
}

#[test]
fn readers_and_schemas_know_the_same_keys() {
    let (mut all, mut tried) = (BTreeSet::new(), BTreeSet::new());
    for (kind, full) in full() {
        let schema = input::schema(kind);
        assert!(problems(kind, &full).is_empty(), "{:?}", problems(kind, &full));
        let mut found = Vec::new();
        mappings(&schema, &schema, &full, "", &mut found);
        assert!(found.len() >= 6, "{} mappings", found.len());
        for (path, mapping) in &found {
            // A choice with one key has other words for it.
            if ["gone", "blackhole"].iter().any(|only| mapping["properties"].get(only).is_some()) {
                continue;
            }
            assert_eq!(mapping["additionalProperties"], false, "{path}");
            let known: BTreeSet<String> =
                mapping["properties"].as_object().unwrap().keys().cloned().collect();
            let said = changed(kind, &full, path, |entries| _ = entries.insert("zzzz".into(), 1.into()));
            let [problem] = said.as_slice() else { panic!("{path}: {said:?}") };
            assert_eq!(problem.message, "unknown key `zzzz`");
            assert_eq!(possible(problem.hint.as_deref()), known, "{path}");
            let required = mapping["required"].as_array().cloned().unwrap_or_default();
            let written = full.pointer(path).unwrap().as_object().unwrap().clone();
            for key in known.iter().filter(|key| written.contains_key(*key)) {
                let missing = changed(kind, &full, path, |entries| _ = entries.shift_remove(key));
                let message = format!("`{key}` is missing here");
                assert_eq!(
                    missing.iter().any(|problem| problem.message == message),
                    required.contains(&json!(key)),
                    "{path}/{key}: {missing:?}"
                );
                let wrong =
                    changed(kind, &full, path, |entries| _ = entries.insert(key.clone(), json!([[["zz"]]])));
                let named = format!("`{key}`");
                assert!(
                    wrong.iter().any(|problem| problem.message.contains(&named)),
                    "{path}/{key}: {wrong:?}"
                );
                tried.insert((known.clone(), key.clone()));
            }
            all.extend(known.iter().map(|key| (known.clone(), key.clone())));
        }
    }
    assert_eq!(all, tried, "the files have every property");
}

#[test]
fn readers_and_schemas_know_the_same_words() {
    let mut tried = 0;
    for (kind, full) in full() {
        let schema = input::schema(kind);
        let mut found = Vec::new();
        mappings(&schema, &schema, &full, "", &mut found);
        for (path, mapping) in &found {
            for (key, property) in mapping["properties"].as_object().unwrap() {
                let property = resolved(&schema, property);
                let in_list = property["type"] == "array";
                let one = if in_list { resolved(&schema, &property["items"]) } else { property };
                let choices = one["oneOf"].as_array().filter(|_| one.get("properties").is_none());
                let Some(choices) = choices else { continue };
                if full.pointer(&format!("{path}/{key}")).is_none() {
                    continue;
                }
                assert!(choices.iter().all(|choice| choice["description"].is_string()), "{path}/{key}");
                let words: BTreeSet<String> =
                    choices.iter().filter_map(|choice| Some(choice["const"].as_str()?.to_owned())).collect();
                let wrong = if in_list { json!(["zzzz"]) } else { json!("zzzz") };
                let said = changed(kind, &full, path, |entries| _ = entries.insert(key.clone(), wrong));
                assert!(
                    said.iter().any(|problem| possible(problem.hint.as_deref()) == words),
                    "{path}/{key}: {said:?}"
                );
                tried += 1;
            }
        }
    }
    assert!(tried >= 4, "{tried} choices");
}

/// An editor explains what it completes.
#[test]
fn every_property_is_described() {
    for (kind, full) in full() {
        let schema = input::schema(kind);
        let mut found = Vec::new();
        mappings(&schema, &schema, &full, "", &mut found);
        for (path, mapping) in found {
            for (key, property) in mapping["properties"].as_object().unwrap() {
                let described = property["description"].is_string() || mapping["description"].is_string();
                assert!(described, "{path}/{key}");
            }
        }
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    }
}

//! `model_list`: the deployments, their groups, and whether they fit the environment.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::fallbacks::{Groups, Known};
use super::known::{Keys, MODEL_INFO, MODEL_KEYS, NOT_OF_THE_MOCK, PARAMS, PROVIDERS};
use super::settings::policy;
use super::values::{Reader, Zero};
use super::{Dialect, is_foreign_name};
use crate::environment::Names;
use crate::input::at::At;
use crate::input::checker::{MISSPELT, nearest, nearest_of};
use crate::input::json;
use crate::input::problem::Place;
use crate::input::tree::{Content, Entry, Node};

/// The groups of `model_list` and the ids of its deployments, if all of them could be read.
pub(super) fn models(reader: &mut Reader<'_, '_>, entry: &Entry, names: &Names) -> Groups {
    let items = reader.list("model_list", &entry.value, "begin each model with `- model_name: NAME`")?;
    if items.is_empty() {
        let hint = "add the models of the gateway: `- model_name: NAME` and so on";
        reader.check.problem(entry.value.place, "`model_list` is empty", hint);
        return None;
    }
    let mut ids = Ids::default();
    let read: Vec<Option<At<String>>> = items.iter().map(|item| model(reader, item, &mut ids)).collect();
    let groups: Option<Vec<At<String>>> = read.into_iter().collect();
    let groups = groups?;
    against_environment(reader, entry.key.place, &groups, names);
    // A deployment can be asked for by its id too.
    let names = groups.into_iter().map(|group| group.value).chain(ids.by_id.into_keys()).collect();
    Some(Known { names, models: ids.models })
}

/// Every alias has its component, and every component's aliases are there.
fn against_environment(reader: &mut Reader<'_, '_>, list: Place, groups: &[At<String>], names: &Names) {
    let Some(aliases) = names.aliases() else { return };
    let written: BTreeSet<&str> = groups.iter().map(|group| group.value.as_str()).collect();
    let mut missing: BTreeMap<&str, &str> = aliases
        .iter()
        .filter(|(alias, _)| !written.contains(alias.as_str()))
        .map(|(alias, component)| (alias.as_str(), component.as_str()))
        .collect();
    let mut seen = BTreeSet::new();
    for group in groups.iter().filter(|group| !aliases.contains_key(&group.value)) {
        if !seen.insert(group.value.as_str()) {
            continue;
        }
        let hint = reader.check.hint("alias", &group.value, aliases.keys().map(String::as_str));
        reader.check.problem(
            group.place,
            &format!("no component of the environment serves the alias `{}`", group.value),
            hint,
        );
        // One mistake: the name that was meant is not missing as well.
        if let Some(meant) = nearest(&group.value, missing.keys().copied(), MISSPELT) {
            missing.remove(meant);
        }
    }
    for (alias, component) in missing {
        reader.check.problem(
            list,
            &format!("the alias `{alias}` of the environment's component `{component}` is missing"),
            format!("add `- model_name: {alias}` with its `litellm_params` to `model_list`"),
        );
    }
}

/// What tells deployments apart.
#[derive(Default)]
struct Ids {
    by_id: BTreeMap<String, Place>,
    /// Group and parameters of those without an id.
    unnamed: BTreeMap<(String, String), Place>,
    /// All models.
    models: BTreeSet<String>,
}

/// Checks one entry of `model_list` and gives its group.
fn model(reader: &mut Reader<'_, '_>, node: &Node, ids: &mut Ids) -> Option<At<String>> {
    if !matches!(node.content, Content::Mapping(_)) {
        reader.wrong(node, "an entry of `model_list` is a mapping", "begin it with `- model_name: NAME`");
        return None;
    }
    let keys = Keys::open(reader, node, &MODEL_KEYS, "a model");
    let group = keys.required(reader, "model_name", "model_name: cloud-kimi");
    let group = group.and_then(|name| reader.text("model_name", name));
    let params = keys.required(reader, "litellm_params", "litellm_params: { model: ollama_chat/NAME }");
    let model = params.and_then(|params| litellm_params(reader, params));
    ids.models.extend(model);
    let id = keys.get("model_info").and_then(|info| model_info(reader, info));
    match (id, &group, params) {
        (Some(id), _, _) => {
            if let Some(first) = ids.by_id.insert(id.value.clone(), id.place) {
                reader.check.problem(
                    id.place,
                    &format!("the id `{}` is already on line {}", id.value, first.line),
                    "give each deployment an id of its own",
                );
            }
        }
        (None, Some(group), Some(params)) => {
            let written = json::value(params).to_string();
            if let Some(first) = ids.unnamed.insert((group.value.clone(), written), group.place) {
                reader.check.problem(
                    group.place,
                    &format!(
                        "this deployment of `{}` is that on line {} again: to LiteLLM the two are one",
                        group.value, first.line
                    ),
                    "remove one, or give each an id: `model_info: { id: NAME }`",
                );
            }
        }
        _ => {}
    }
    group
}

/// Checks the parameters of a deployment and gives its model.
fn litellm_params(reader: &mut Reader<'_, '_>, node: &Node) -> Option<String> {
    if !matches!(node.content, Content::Mapping(_)) {
        reader.wrong(
            node,
            "`litellm_params` is a mapping",
            "write `litellm_params: { model: PROVIDER/NAME }`",
        );
        return None;
    }
    let keys = Keys::open(reader, node, &PARAMS, "litellm_params");
    for (key, value) in &keys.found {
        match *key {
            "timeout" | "stream_timeout" | "request_timeout" => reader.seconds(key, value, Zero::Unset),
            "cooldown_time" => reader.seconds(key, value, Zero::Fine),
            "num_retries" | "max_retries" => reader.count(key, value),
            "weight" => reader.number(key, value),
            "order" => reader.integer(key, value),
            // A local run has its own in their place.
            "api_base" | "base_url" | "api_key" | "model" => {}
            _ => reader.variables(value),
        }
    }
    for entry in node.entries().iter().filter(|entry| !keys.has(entry)) {
        if !is_foreign_name(&entry.key.value) {
            reader.variables(&entry.value);
        }
    }
    let model = keys.required(reader, "model", "model: ollama_chat/NAME")?;
    let model = reader.text("model", model)?;
    provider(reader, &model, keys.get("custom_llm_provider"));
    Some(model.value)
}

fn provider(reader: &mut Reader<'_, '_>, model: &At<String>, custom: Option<&Node>) {
    let (prefix, name) = model.value.split_once('/').unwrap_or(("", &model.value));
    let custom = custom.map(json::value);
    let custom = custom.as_ref().and_then(Value::as_str);
    let known = Dialect::of_provider(prefix).is_some();
    let by_custom = custom.is_some_and(|custom| Dialect::of_provider(custom).is_some());
    if known && name.is_empty() {
        let hint = format!("write `{prefix}/NAME`");
        reader.check.problem(model.place, "there is no model behind the provider", hint);
    } else if !known && !by_custom {
        let message = if prefix.is_empty() {
            format!("`{}` does not say its provider", model.value)
        } else {
            format!("local runs do not know the provider `{prefix}`")
        };
        let hint = nearest_of("provider", prefix, PROVIDERS);
        reader.check.problem(model.place, &message, format!("write it as `PROVIDER/NAME`; {hint}"));
    } else if !known || prefix == NOT_OF_THE_MOCK {
        let message = "the mock gateway speaks `ollama_chat/NAME` and `hosted_vllm/NAME` only";
        let hint = "use `--gateway litellm`, or one of these two";
        reader.not_of_the_mock(model.place, message, hint);
    }
}

/// Checks `model_info` and gives the deployment's id.
fn model_info(reader: &mut Reader<'_, '_>, node: &Node) -> Option<At<String>> {
    reader.mapping("model_info", node);
    let keys = Keys::open(reader, node, &MODEL_INFO, "model_info");
    for (key, value) in &keys.found {
        match *key {
            "allowed_fails" => reader.count(key, value),
            "allowed_fails_policy" => policy(reader, key, value, "AllowedFails"),
            "cooldown_time" => reader.seconds(key, value, Zero::Fine),
            _ => {}
        }
    }
    let id = keys.get("id").filter(|id| !id.is_null())?;
    // LiteLLM takes a whole number as text here, and so does what is made of the file.
    match json::value(id) {
        Value::Number(number) if number.is_i64() => Some(At { value: number.to_string(), place: id.place }),
        _ => reader.text("id", id),
    }
}

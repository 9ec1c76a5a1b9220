//! What a LiteLLM configuration says of models.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::gateway::config::{ENVIRONMENT_PREFIX, MASTER_KEY_VARIABLE};

/// One entry of the model list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Model {
    /// What callers ask for.
    pub(super) alias: String,
    /// Where it is, as written.
    pub(super) api_base: Option<String>,
}

/// A route that a configuration suggests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// The alias that is asked for.
    pub(super) model: String,
    /// Who takes over.
    pub(super) fallbacks: Vec<String>,
}

/// Where the master key comes from, as a configuration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MasterKey {
    /// From a variable of the gateway.
    Variable(String),
    /// It is written there.
    Written,
}

/// The configuration in a text, if it is one.
pub(super) fn parse(text: &str) -> Option<Value> {
    crate::input::foreign(text).filter(|value| value["model_list"].is_array())
}

pub(super) fn models(config: &Value) -> Vec<Model> {
    let models = config["model_list"].as_array().map(Vec::as_slice).unwrap_or_default();
    let model = |model: &Value| {
        Some(Model {
            alias: model["model_name"].as_str()?.to_owned(),
            api_base: model["litellm_params"]["api_base"].as_str().map(str::to_owned),
        })
    };
    models.iter().filter_map(model).collect()
}

pub(super) fn master_key(config: Option<&Value>) -> MasterKey {
    match config.and_then(|config| config["general_settings"]["master_key"].as_str()) {
        None => MasterKey::Variable(MASTER_KEY_VARIABLE.to_owned()),
        Some(written) => written
            .strip_prefix(ENVIRONMENT_PREFIX)
            .map_or(MasterKey::Written, |variable| MasterKey::Variable(variable.to_owned())),
    }
}

/// What callers may ask for: aliases that nobody falls back to, or, where there are none, those that fall back.
pub(super) fn routes(config: &Value) -> Vec<Route> {
    let mut seen = BTreeSet::new();
    let aliases: Vec<String> = models(config)
        .into_iter()
        .map(|model| model.alias)
        .filter(|alias| seen.insert(alias.clone()))
        .collect();
    let all: Vec<Route> =
        aliases.into_iter().map(|model| Route { fallbacks: fallbacks(config, &model), model }).collect();
    let targets: BTreeSet<String> = all.iter().flat_map(|route| route.fallbacks.iter().cloned()).collect();
    let asked: Vec<Route> = all.iter().filter(|route| !targets.contains(&route.model)).cloned().collect();
    if asked.is_empty() {
        return all.into_iter().filter(|route| !route.fallbacks.is_empty()).collect();
    }
    asked
}

/// Who takes over for an alias: its own list, else that of everybody.
fn fallbacks(config: &Value, alias: &str) -> Vec<String> {
    let setting = |name: &str| {
        let of = |section: &str| config[section][name].as_array().cloned();
        of("router_settings").or_else(|| of("litellm_settings")).unwrap_or_default()
    };
    let lists = setting("fallbacks");
    let own = |name: &str| lists.iter().find_map(|list| list[name].as_array().cloned());
    let list = own(alias).or_else(|| own("*")).unwrap_or_else(|| setting("default_fallbacks"));
    let mut seen = BTreeSet::from([alias]);
    list.iter().filter_map(Value::as_str).filter(|target| seen.insert(target)).map(str::to_owned).collect()
}

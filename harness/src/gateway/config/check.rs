//! A LiteLLM file as input: everything that is wrong with it, with its place, before anything is started.
//!
//! LiteLLM itself ignores much of what it does not know. Where it would go on with a setting that a person
//! evidently meant otherwise, this is a problem; where it says so itself and goes on, a warning.

use std::collections::BTreeMap;

use super::known::{OTHER_SECTIONS, right_section};
use super::values::Reader;
use super::{SECTIONS, Upstream, models, settings};
use crate::environment::Names;
use crate::input::Problem;
use crate::input::checker::{Checker, MISSPELT, nearest};
use crate::input::problem::Place;
use crate::input::secret::names_a_secret;
use crate::input::tree::{Content, Entry, Node};
use crate::input::{compose, json};

/// Which gateway will load the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadedBy {
    /// The mock gateway, which does not do all that LiteLLM does.
    Mock,
    /// A real LiteLLM, or it is not known yet.
    Any,
}

/// Reads and checks a file against the names of an environment. The configuration is there only where nothing is
/// wrong with it.
pub(crate) fn read(
    name: &str,
    text: &str,
    names: &Names,
    loaded_by: LoadedBy,
) -> (Option<serde_json::Value>, Vec<Problem>) {
    let mut check = Checker::new(name, text);
    let root = compose::parse(&mut check, "begin it with `model_list:`, the models of the gateway");
    let value = root.and_then(|root| {
        let mut reader = Reader { check: &mut check, lookup: &|name| std::env::var(name).ok(), loaded_by };
        file(&mut reader, &root, names);
        let value = json::value(&root);
        if check.is_clean() {
            what_is_left(&mut check, &root, &value, names, loaded_by);
        }
        check.is_clean().then_some(value)
    });
    (value, check.finish())
}

/// What the program itself would say of the configuration once it is used, said before.
fn what_is_left(
    check: &mut Checker<'_>,
    root: &Node,
    value: &serde_json::Value,
    names: &Names,
    loaded_by: LoadedBy,
) {
    let Some(aliases) = names.aliases() else { return };
    let upstream = |component: &String| Upstream {
        component: component.clone(),
        base_url: "http://127.0.0.1:1".to_owned(),
    };
    let upstreams = aliases.iter().map(|(alias, component)| (alias.clone(), upstream(component))).collect();
    let hint = "see docs/litellm.md for what a local run takes";
    let local = match super::localize(value, &upstreams) {
        Ok(local) => local,
        Err(error) => return check.whole(&error.to_string(), hint),
    };
    if loaded_by == LoadedBy::Any {
        return;
    }
    let lookup = |name: &str| match name {
        super::MASTER_KEY_VARIABLE => Some("set for the run".to_owned()),
        other => std::env::var(other).ok(),
    };
    let resolved = super::resolve_environment(&local.value, &lookup);
    if let Err(error) = mocks::gateway::config::GatewayConfig::from_value(&resolved) {
        let message = format!("the mock gateway cannot use this: {error}");
        check.problem(place_in(root, &error.to_string()), &message, hint);
    }
}

/// The place of the path that an error message begins with, like `model_list[0].litellm_params.order`.
fn place_in(root: &Node, message: &str) -> Place {
    let path = message.split_whitespace().next().unwrap_or_default();
    let mut place = Place::default();
    let mut node = Some(root);
    for part in path.split(['.', '[']) {
        let index = part.strip_suffix(']').and_then(|digits| digits.parse::<usize>().ok());
        node = node.and_then(|node| match (&node.content, index) {
            (Content::List(items), Some(index)) => items.get(index),
            _ => node.get(part),
        });
        place = node.map_or(place, |node| node.place);
    }
    place
}

/// Checks a whole file against the environment's names.
fn file(reader: &mut Reader<'_, '_>, root: &Node, names: &Names) {
    scalars(reader, root, false);
    if !matches!(root.content, Content::Mapping(_)) {
        let message = format!("expected a LiteLLM configuration, found {}", root.kind());
        reader.check.problem(root.place, &message, "begin it with `model_list:`");
        return;
    }
    if reader.check.is_another_kind(root, &SECTIONS) {
        return;
    }
    let sections = sections(reader, root);
    let models = match sections.get("model_list") {
        Some(entry) => models::models(reader, entry, names),
        None => {
            let hint = "add `model_list:` with the models of the gateway";
            reader.check.problem(root.place, "`model_list` is missing here", hint);
            None
        }
    };
    let aliases = sections.get("router_settings").and_then(|section| section.value.get("model_group_alias"));
    let groups = models.map(|mut groups| {
        groups.names.extend(aliases.into_iter().flat_map(Node::entries).map(|entry| entry.key.value.clone()));
        // Those that are missing have been named.
        groups.names.extend(names.aliases().into_iter().flatten().map(|(alias, _)| alias.clone()));
        groups
    });
    if let Some(section) = sections.get("router_settings") {
        settings::router_settings(reader, &section.value, &groups);
    }
    if let Some(section) = sections.get("litellm_settings") {
        let router = sections.get("router_settings").map(|section| &section.value);
        settings::litellm_settings(reader, &section.value, router, &groups);
    }
    if let Some(section) = sections.get("general_settings") {
        settings::general_settings(reader, &section.value);
    }
}

/// The sections that say how requests are routed.
fn sections<'n>(reader: &mut Reader<'_, '_>, root: &'n Node) -> BTreeMap<&'static str, &'n Entry> {
    let mut found = BTreeMap::new();
    for entry in root.entries() {
        let key = &entry.key;
        if let Some(name) = SECTIONS.iter().find(|name| **name == key.value) {
            found.entry(*name).or_insert(entry);
        } else if key.value == "include" && !entry.value.is_null() {
            reader.check.problem(
                key.place,
                "the file includes others, which are not read here",
                "give one file that holds everything",
            );
        }
    }
    for entry in root.entries() {
        let key = &entry.key;
        let name = key.value.as_str();
        // Nobody reads such sections: they are there for the anchors in them.
        let for_anchors = name.starts_with("x-") || name.starts_with(['_', '.']);
        if for_anchors || SECTIONS.contains(&name) || OTHER_SECTIONS.contains(&name) {
            continue;
        }
        let absent = SECTIONS.iter().copied().filter(|name| !found.contains_key(name));
        if let Some(meant) = nearest(&key.value, absent, MISSPELT) {
            reader.check.problem(
                key.place,
                &format!("LiteLLM knows no section `{}` and would ignore it", key.value),
                format!("did you mean `{meant}`?"),
            );
            found.insert(meant, entry);
        } else {
            let hint = match right_section(name, "") {
                Some(section) => format!("move it to `{section}`"),
                None => format!(
                    "routing is in {}; a section that only holds anchors is best called `x-...`",
                    SECTIONS.map(|name| format!("`{name}`")).join(", ")
                ),
            };
            let message = format!("LiteLLM knows no section `{name}` and ignores it");
            reader.check.warning(key.place, &message, hint);
        }
    }
    found
}

/// Keeps every value that may be a secret from being shown, and warns of the others that are not what they seem.
fn scalars(reader: &mut Reader<'_, '_>, node: &Node, secret: bool) {
    match &node.content {
        Content::Scalar(scalar) => {
            let shown = scalar.text.is_empty() || scalar.text.starts_with(super::ENVIRONMENT_PREFIX);
            if !secret {
                json::warn_of_surprise(node.place, scalar, reader.check);
            } else if !shown {
                reader.check.hide(node.place);
            }
        }
        Content::List(items) => items.iter().for_each(|item| scalars(reader, item, secret)),
        Content::Mapping(entries) => {
            for entry in entries {
                scalars(reader, &entry.value, secret || names_a_secret(&entry.key.value));
            }
        }
        Content::Broken if secret => reader.check.hide(node.place),
        Content::Broken => {}
    }
}

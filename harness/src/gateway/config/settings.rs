//! The sections beside `model_list`.

use mocks::gateway::config::ROUTER_SETTINGS;

use super::fallbacks::{self, Groups};
use super::known::{CLASSES, Keys, LITELLM_SETTINGS, STRATEGIES, right_section};
use super::values::{Reader, Zero, misspelt};
use super::{GENERAL_SETTINGS, is_foreign_name};
use crate::input::at::At;
use crate::input::checker::{MISSPELT, nearest, nearest_of};
use crate::input::tree::{Content, Node};

pub(super) fn router_settings(reader: &mut Reader<'_, '_>, node: &Node, groups: &Groups) {
    for entry in reader.mapping("router_settings", node) {
        let (key, value) = (entry.key.value.as_str(), &entry.value);
        match key {
            "num_retries" | "max_fallbacks" | "allowed_fails" => reader.count(key, value),
            "timeout" | "stream_timeout" => reader.seconds(key, value, Zero::Unset),
            "retry_after" | "cooldown_time" => reader.seconds(key, value, Zero::Fine),
            "disable_cooldowns"
            | "enable_pre_call_checks"
            | "enable_weighted_failover"
            | "enable_tag_filtering" => reader.flag(key, value),
            "retry_policy" => policy(reader, key, value, "Retries"),
            "allowed_fails_policy" => policy(reader, key, value, "AllowedFails"),
            "model_group_retry_policy" => {
                for group in reader.mapping(key, value) {
                    fallbacks::known_group(reader, &group.key, groups);
                    policy(reader, &group.key.value, &group.value, "Retries");
                }
            }
            "model_group_alias" => {
                for alias in reader.mapping(key, value) {
                    // With more to say of it, the group is in `model`.
                    let group = alias.value.get("model").unwrap_or(&alias.value);
                    if let Content::Scalar(scalar) = &group.content {
                        let group = At { value: scalar.text.clone(), place: group.place };
                        fallbacks::known_group(reader, &group, groups);
                    }
                }
            }
            "fallbacks" | "context_window_fallbacks" | "content_policy_fallbacks" => {
                fallbacks::lists(reader, key, value, groups);
            }
            "default_fallbacks" => fallbacks::default_list(reader, value, groups),
            "routing_strategy" => reader.one_of(key, value, &STRATEGIES),
            "health_check_interval" | "health_check_concurrency" => reader.check.problem(
                entry.key.place,
                &format!("LiteLLM does not start with `{key}` in router_settings"),
                "move it to `general_settings`",
            ),
            _ if ROUTER_SETTINGS.contains(&key) => {
                if !is_foreign_name(key) {
                    reader.variables(value);
                }
            }
            _ => {
                let hint =
                    match (nearest(key, ROUTER_SETTINGS, MISSPELT), right_section(key, "router_settings")) {
                        (_, Some(section)) => format!("move it to `{section}`"),
                        (Some(meant), None) => format!("did you mean `{meant}`?"),
                        (None, None) => "remove it, or move it to the section that it belongs to".to_owned(),
                    };
                let message = format!("LiteLLM knows no router setting `{key}` and ignores it");
                reader.check.warning(entry.key.place, &message, hint);
            }
        }
    }
}

pub(super) fn litellm_settings(
    reader: &mut Reader<'_, '_>,
    node: &Node,
    router: Option<&Node>,
    groups: &Groups,
) {
    reader.mapping("litellm_settings", node);
    let keys = Keys::open(reader, node, &LITELLM_SETTINGS, "litellm_settings");
    for (key, value) in &keys.found {
        match *key {
            "num_retries" => reader.count(key, value),
            "request_timeout" => reader.seconds(key, value, Zero::Unset),
            "drop_params" => reader.flag(key, value),
            "callbacks" => {}
            "default_fallbacks" => fallbacks::default_list(reader, value, groups),
            _ => fallbacks::lists(reader, key, value, groups),
        }
        let in_router = router.and_then(|router| router.get(key));
        if in_router.is_some_and(|other| !other.is_null()) && !value.is_null() {
            reader.check.warning(
                value.place,
                &format!("this `{key}` is not used: that of router_settings wins whole"),
                "keep one of the two",
            );
        }
    }
    for entry in node.entries().iter().filter(|entry| !keys.has(entry)) {
        if !warn_of_wrong_section(reader, &entry.key, "litellm_settings")
            && !is_foreign_name(&entry.key.value)
        {
            reader.variables(&entry.value);
        }
    }
}

/// Warns of a setting that LiteLLM reads in another section only.
fn warn_of_wrong_section(reader: &mut Reader<'_, '_>, key: &At<String>, section: &str) -> bool {
    let Some(right) = right_section(&key.value, section) else { return false };
    let message = format!("LiteLLM does not read `{}` in {section}", key.value);
    reader.check.warning(key.place, &message, format!("move it to `{right}`"));
    true
}

pub(super) fn general_settings(reader: &mut Reader<'_, '_>, node: &Node) {
    for entry in reader.mapping("general_settings", node) {
        let key = entry.key.value.as_str();
        if GENERAL_SETTINGS.contains(&key) {
            reader.variables(&entry.value);
        } else if !warn_of_wrong_section(reader, &entry.key, "general_settings")
            && let Some(meant) = misspelt(key, GENERAL_SETTINGS.into_iter().chain(["master_key"]))
                .filter(|meant| *meant != key)
        {
            let message = format!("LiteLLM knows no general setting `{key}` and ignores it");
            reader.check.warning(entry.key.place, &message, format!("did you mean `{meant}`?"));
        }
    }
}

/// Checks numbers by class of error.
pub(super) fn policy(reader: &mut Reader<'_, '_>, key: &str, node: &Node, suffix: &str) {
    let retries = suffix == "Retries";
    let of_one_policy = if retries { "Default" } else { "BadGatewayError" };
    let classes = || CLASSES.into_iter().chain([of_one_policy]);
    for entry in reader.mapping(key, node) {
        let name = entry.key.value.as_str();
        if name.strip_suffix(suffix).is_some_and(|written| classes().any(|class| class == written)) {
            reader.count(name, &entry.value);
        } else {
            let known: Vec<String> = classes().map(|class| format!("{class}{suffix}")).collect();
            let hint = nearest_of("class", name, known.iter().map(String::as_str));
            let message = format!("LiteLLM knows no class of errors `{name}` and ignores it");
            reader.check.warning(entry.key.place, &message, hint);
        }
    }
}

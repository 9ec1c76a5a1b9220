//! Which fallback targets a failure leads to (section 2, step 5).

use crate::gateway::config::{FallbackList, GatewayConfig, Provider, RequestFallbacks, RequestOverrides};
use crate::gateway::failure::{ErrorClass, Failure};
use crate::gateway::provider::python_repr;

use super::target::{Target, resolve};

/// What a failure leads to.
pub(super) enum Found {
    /// These targets.
    Targets(Vec<Target>),
    /// Nothing: no list has the group.
    NoList,
    /// Nothing: there are no lists at all, or there are some for this class of errors and none has the group.
    NoLists,
}

/// Errors with lists of their own, which replace the general ones.
fn dedicated<'a>(
    config: &'a GatewayConfig,
    overrides: &'a RequestOverrides,
    class: ErrorClass,
) -> Option<&'a [FallbackList]> {
    let (asked, configured) = match class {
        ErrorClass::ContextWindow => {
            (&overrides.context_window_fallbacks, &config.router.context_window_fallbacks)
        }
        ErrorClass::ContentPolicy => {
            (&overrides.content_policy_fallbacks, &config.router.content_policy_fallbacks)
        }
        _ => return None,
    };
    asked.as_deref().or(configured.as_deref())
}

/// Neither further `order` levels nor other deployments of the group help against these.
pub(super) fn is_of_the_prompt(class: ErrorClass) -> bool {
    matches!(class, ErrorClass::ContextWindow | ErrorClass::ContentPolicy)
}

/// The lists for what has none of its own.
pub(super) fn general<'a>(config: &'a GatewayConfig, overrides: &'a RequestOverrides) -> &'a [FallbackList] {
    match &overrides.fallbacks {
        Some(RequestFallbacks::Lists(lists)) => lists,
        _ => &config.router.fallbacks,
    }
}

/// The targets after `failure` of `group`, in a request for `requested`.
pub(super) fn find(
    config: &GatewayConfig,
    overrides: &RequestOverrides,
    failure: &mut Failure,
    group: &str,
    requested: &str,
) -> Found {
    match &overrides.fallbacks {
        Some(RequestFallbacks::Targets(names)) => return Found::Targets(targets(config, names)),
        Some(RequestFallbacks::Overrides(entries)) => {
            let of_entry = |fields: &serde_json::Map<_, serde_json::Value>| {
                let name = fields.get("model").and_then(|model| model.as_str()).unwrap_or(requested);
                Target::Overriding { target: Box::new(target(config, name)), fields: fields.clone() }
            };
            return Found::Targets(entries.iter().map(of_entry).collect());
        }
        _ => {}
    }
    if let Some(lists) = dedicated(config, overrides, failure.class) {
        return match lookup(lists, group, requested) {
            Some(list) => Found::Targets(targets(config, &list.targets)),
            None => Found::NoLists,
        };
    }
    let general = general(config, overrides);
    if is_of_the_prompt(failure.class) {
        failure.message.push_str(&without_dedicated(failure.class, group, general));
    }
    match lookup(general, group, requested) {
        Some(list) => Found::Targets(targets(config, &list.targets)),
        None if general.is_empty() && overrides.fallbacks.is_none() => Found::NoLists,
        None => Found::NoList,
    }
}

/// The list of the failed group, else of the group that the client asked for, else the default list.
fn lookup<'a>(lists: &'a [FallbackList], group: &str, requested: &str) -> Option<&'a FallbackList> {
    let named = |name: &str| lists.iter().find(|list| list.group == name);
    // A model string may stand for its list under the name behind the provider.
    let stripped = |name: &str| {
        let providers = [Provider::OllamaChat, Provider::HostedVllm].into_iter();
        let mut names = providers.filter_map(|p| name.strip_prefix(p.prefix())?.strip_prefix('/'));
        names.find_map(named)
    };
    let of = |name: &str| named(name).or_else(|| stripped(name));
    of(group).or_else(|| of(requested)).or_else(|| named("*"))
}

/// A name of a list, which may be one that nothing answers to.
fn target(config: &GatewayConfig, name: &str) -> Target {
    resolve(config, name).unwrap_or_else(|| Target::Nothing(name.to_owned()))
}

fn targets(config: &GatewayConfig, names: &[String]) -> Vec<Target> {
    names.iter().map(|name| target(config, name)).collect()
}

/// What LiteLLM adds to the message of such an error where it has no list for it.
fn without_dedicated(class: ErrorClass, group: &str, general: &[FallbackList]) -> String {
    let lists = general.iter().map(|list| serde_json::json!({ list.group.as_str(): list.targets })).collect();
    let lists: Vec<serde_json::Value> = lists;
    let lists = if lists.is_empty() { "None".to_owned() } else { python_repr(&lists.into()) };
    let (shown, setting) = match class {
        ErrorClass::ContextWindow => ("context_window_fallbacks", "context_window_fallback"),
        _ => ("content_policy_fallback", "content_policy_fallback"),
    };
    format!(
        "\nmodel={group}. {shown}=None. fallbacks={lists}.\n\nSet '{setting}' - \
         https://docs.litellm.ai/docs/routing#fallbacks"
    )
}

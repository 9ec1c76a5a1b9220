//! The sentences that the router adds to errors, which tools match on.

use std::fmt::Write as _;
use std::time::Duration;

use crate::gateway::config::{FallbackList, GatewayConfig};
use crate::gateway::cooldown::CooldownMemory;
use crate::gateway::failure::{ErrorClass, Failure, SeenIn};

/// The text that forces a status of 429 wherever it occurs in an error's message (section 0, fact 8).
const NO_DEPLOYMENTS: &str = "No deployments available";
/// Longest quotation of another hop's failure.
const DETAIL_CHARS: usize = 2000;

/// The refusal when every deployment that could be picked is in cooldown.
pub(super) fn no_deployments(
    config: &GatewayConfig,
    memory: &CooldownMemory,
    now: Duration,
    name: &str,
    members: &[usize],
    is_group: bool,
) -> Failure {
    let length = memory.shortest_length(members, now).unwrap_or(config.router.cooldown_time);
    let cooled: Vec<String> =
        memory.cooled(now).into_iter().map(|index| format!("'{}'", config.deployments[index].id)).collect();
    let all_cooled = if is_group { " All deployments for selected model are in cooldown." } else { "" };
    let message = format!(
        "{NO_DEPLOYMENTS} for selected model, Try again in {} seconds.{all_cooled} Passed model={name}. \
         pre-call-checks=False, cooldown_list=[{}]",
        length.as_secs_f64(),
        cooled.join(", "),
    );
    let mut failure = Failure::new(ErrorClass::NoDeployments, 429, message);
    failure.cooldown = Some(length);
    failure
}

/// Appended where the failed group has no fallback list.
pub(super) fn no_list(group: &str, lists: &[FallbackList]) -> String {
    let mut keys: Vec<&str> = Vec::new();
    for list in lists {
        if !keys.contains(&list.group.as_str()) {
            keys.push(&list.group);
        }
    }
    let configured = if keys.is_empty() {
        " No fallbacks are configured.".to_owned()
    } else {
        format!(" Fallbacks are configured for: {}.", keys.join(", "))
    };
    format!(
        "\n\nLiteLLM: model group '{group}' failed with the error above and no fallback model group was found for \
         it, so the request was not retried on another model.{configured} Add a fallbacks entry for that model \
         group (Router fallbacks or proxy router_settings.fallbacks) to retry on another model."
    )
}

/// The refusal of a fallback to what does not exist.
pub(super) fn nothing_has_this_name(name: &str) -> Failure {
    let message = format!(
        "litellm.BadRequestError: You passed in model={name}. There are no healthy deployments for this model"
    );
    Failure::new(ErrorClass::BadRequest, 400, message)
}

/// Another hop's failure, as the text below quotes it.
pub(super) fn quoted(config: &GatewayConfig, failure: &Failure) -> String {
    let message = &failure.message;
    // Errors that are not of LiteLLM's own classes do not tell of retries.
    if failure.seen_in == SeenIn::Reading || failure.class == ErrorClass::NoDeployments {
        return message.clone();
    }
    // A deployment's own number of retries is told as made, even where none was.
    let written = failure.deployment.and_then(|deployment| config.deployments[deployment].num_retries);
    // LiteLLM's own errors do not count what was made for them.
    let spent = failure.retries_spent.filter(|_| failure.seen_in != SeenIn::Reading);
    match (spent, written) {
        (Some(n), _) => format!("{message} LiteLLM Retried: {n} times, LiteLLM Max Retries: {n}"),
        (None, Some(n)) if n > 0 => format!("{message} LiteLLM Retried: {n} times"),
        (None, _) => message.clone(),
    }
}

/// Appended where the whole chain failed.
pub(super) fn chain_failed(group: &str, targets: &[String], detail: &str) -> String {
    let mut text = format!("\n\nLiteLLM: model group '{group}' failed with the error above.");
    if targets.is_empty() {
        text.push_str(" No fallback was attempted.");
    } else {
        let dropped = detail.chars().count().saturating_sub(DETAIL_CHARS);
        let mut detail: String = detail.chars().take(DETAIL_CHARS).collect();
        if dropped > 0 {
            let _ = write!(detail, "... [truncated {dropped} characters]");
        }
        // Writing to a String cannot fail.
        let _ = write!(text, " Fallback to {} also failed: {detail}", targets.join(", "));
    }
    text
}

/// Appends to an upstream's failure; a refusal carries no text but its own.
pub(super) fn append(failure: &mut Failure, text: &str) {
    if failure.class != ErrorClass::NoDeployments && failure.seen_in != SeenIn::Reading {
        failure.message.push_str(text);
    }
}

/// The status is forced to 429 by the message's text.
pub(super) fn final_failure(mut failure: Failure) -> Failure {
    if failure.message.contains(NO_DEPLOYMENTS) && failure.status != 429 {
        failure.status_before_forcing = Some(failure.status);
        failure.status = 429;
    }
    failure
}

//! Differences that are meant to be, each with its reason. Everything else is a fault of the mock gateway.

use mocks::gateway::config::Provider;

use crate::cell::Deployment;
use crate::compare::Difference;
use crate::fault::Fault;
use crate::run::Outcome;

/// One difference that is meant to be.
pub(crate) struct Known {
    /// What differs.
    pub(crate) what: &'static str,
    /// Why it stays.
    pub(crate) reason: &'static str,
    /// A matter of chance: a whole run need not meet it.
    pub(crate) by_chance: bool,
    matches: fn(&Outcome, &Difference) -> bool,
}

/// All of them.
pub(crate) const KNOWN: [Known; 2] = [TOKEN_COUNTS, STRAY_COUNT];

const TOKEN_COUNTS: Known = Known {
    what: "token counts of a stream whose upstream gives none",
    reason: "LiteLLM counts with the tokenizer of another model family; the mock takes four characters for a token. \
             Nothing is decided by these numbers.",
    by_chance: false,
    matches: |outcome, difference| {
        let counts_none = |fault| matches!(fault, Fault::EarlyEnd | Fault::EmptyEnd | Fault::NotJson);
        outcome.cell.streaming
            && was_reached(outcome, difference.request, |deployment| counts_none(deployment.fault))
            && difference.fact.starts_with("event ")
            && difference.fact.contains(" /usage/")
            && difference.real.is_some()
            && difference.mock.is_some()
    },
};

const STRAY_COUNT: Known = Known {
    what: "who is asked in a later request, after a `hosted_vllm` stream that began with an error",
    reason: "LiteLLM counts such a failure from another thread, against the deployment that the request is at by then: \
             most often the next one, which is what the mock does, sometimes the one that failed.",
    by_chance: true,
    matches: |outcome, difference| {
        let errs = |deployment: &Deployment| {
            deployment.provider == Provider::HostedVllm && deployment.fault == Fault::ErrorFirst
        };
        // Where nothing is counted nothing can race.
        let counts = !["stock", "retry-policy", "two-deployments"].contains(&outcome.settings.as_str());
        // What differs is who is in cooldown, and that shows in who is asked: where both ask the same, nothing is
        // excused.
        let asked_apart = || {
            let exchange = &outcome.exchanges[difference.request - 1];
            let attempts = exchange.real.iter().filter(|(name, _)| name.starts_with("attempts at "));
            attempts.into_iter().any(|(name, count)| exchange.mock.get(name) != Some(count))
        };
        counts
            && outcome.cell.streaming
            && (1..difference.request).any(|earlier| was_reached(outcome, earlier, errs))
            && asked_apart()
    },
};

/// Whether a deployment of some kind got an attempt of a request of LiteLLM's, numbered from 1.
fn was_reached(outcome: &Outcome, request: usize, is_meant: impl Fn(&Deployment) -> bool) -> bool {
    let facts = &outcome.exchanges[request - 1].real;
    outcome.cell.deployments.iter().enumerate().any(|(index, deployment)| {
        let attempts = facts.get(&format!("attempts at {}", outcome.cell.counted_as(index)));
        is_meant(deployment) && attempts.is_some_and(|count| count != "0")
    })
}

/// Whether something else differs.
pub(crate) fn differs_otherwise(outcome: &Outcome) -> bool {
    let is_known = |difference: &Difference| KNOWN.iter().any(|known| (known.matches)(outcome, difference));
    outcome.differences.iter().any(|difference| !is_known(difference))
}

/// Takes the known differences out of `outcomes`; how often each was met, in the order of [`KNOWN`].
pub(crate) fn take_known(outcomes: &mut [Outcome]) -> Vec<usize> {
    let mut met = vec![0; KNOWN.len()];
    for outcome in outcomes {
        let all = std::mem::take(&mut outcome.differences);
        let is_known =
            |difference: &Difference| KNOWN.iter().position(|known| (known.matches)(outcome, difference));
        let mut left = Vec::new();
        for difference in all {
            match is_known(&difference) {
                Some(index) => met[index] += 1,
                None => left.push(difference),
            }
        }
        outcome.differences = left;
    }
    met
}

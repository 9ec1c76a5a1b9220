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
            && outcome.cell.deployments.iter().any(|deployment| counts_none(deployment.fault))
            && difference.fact.starts_with("event ")
            && difference.fact.contains(" /usage/")
            && difference.real.is_some()
            && difference.mock.is_some()
    },
};

const STRAY_COUNT: Known = Known {
    what: "from the second request on, where a `hosted_vllm` stream begins with an error",
    reason: "LiteLLM counts such a failure from another thread, against the deployment that the request is at by then: \
             most often the next one, which is what the mock does, sometimes the one that failed.",
    by_chance: true,
    matches: |outcome, difference| {
        let errs = |deployment: &Deployment| {
            deployment.provider == Provider::HostedVllm && deployment.fault == Fault::ErrorFirst
        };
        // Where nothing is counted nothing can race.
        let counts = !["stock", "retry-policy", "two-deployments"].contains(&outcome.settings.as_str());
        counts
            && outcome.cell.streaming
            && outcome.cell.deployments.iter().any(errs)
            && difference.request > 1
    },
};

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

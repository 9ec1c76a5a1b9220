//! Differences that are meant to be, each with its reason. Everything else is a fault of the mock gateway.

use crate::compare::Difference;
use crate::fault::Fault;
use crate::run::Outcome;

/// One difference that is meant to be.
pub(crate) struct Known {
    /// What differs.
    pub(crate) what: &'static str,
    /// Why it stays.
    pub(crate) reason: &'static str,
    matches: fn(&Outcome, &Difference) -> bool,
}

/// All of them.
pub(crate) const KNOWN: [Known; 1] = [Known {
    what: "token counts of a stream whose upstream gives none",
    reason: "LiteLLM counts with the tokenizer of another model family; the mock takes four characters for a token. \
             Nothing is decided by these numbers.",
    matches: |outcome, difference| {
        let counts_none = |fault| matches!(fault, Fault::EarlyEnd | Fault::EmptyEnd | Fault::NotJson);
        outcome.cell.streaming
            && outcome.cell.deployments.iter().any(|deployment| counts_none(deployment.fault))
            && difference.fact.starts_with("event ")
            && difference.fact.contains(" /usage/")
            && difference.real.is_some()
            && difference.mock.is_some()
    },
}];

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

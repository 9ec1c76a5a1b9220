//! The events of a set of runs, by scenario and route.

use std::collections::BTreeMap;

use crate::verdict::result::{Failback, Failover, RunResult, Verdict};

/// One injection, as far as a comparison goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    /// The longest wait; `None`: never answered.
    pub(super) worst_ms: Option<f64>,
    /// The later end of the bracket to steady service; `None`: never steady.
    pub(super) steady_ms: Option<f64>,
    /// The same after the heal; the outer `None` where nobody looked.
    pub(super) back_ms: Option<Option<f64>>,
    /// How wide its widest bracket is: nothing below that can be told apart.
    pub(super) width_ms: f64,
    /// One of the readings does not hold.
    pub(super) missed: bool,
}

impl Event {
    fn of(failover: &Failover, failback: Option<&Failback>) -> Self {
        let steady = failover.steady_after_ms;
        let back = failback.map(|failback| failback.steady_after_ms);
        let widths =
            steady.into_iter().chain(back.flatten()).filter_map(|bracket| Some(bracket.1? - bracket.0));
        Self {
            worst_ms: failover.worst_ms,
            steady_ms: steady.and_then(|bracket| bracket.1),
            back_ms: back.map(|back| back.and_then(|bracket| bracket.1)),
            width_ms: widths.fold(0.0, f64::max),
            missed: failover.request_verdict.max(failover.service_verdict) == Verdict::Fail,
        }
    }
}

/// All events that count, by scenario and route. Of a mode with one injection it is not told whether it was void, so one that
/// is inconclusive is left out.
pub(super) fn events(runs: &[RunResult]) -> BTreeMap<(String, String), Vec<Event>> {
    let mut all: BTreeMap<(String, String), Vec<Event>> = BTreeMap::new();
    for scenario in runs.iter().flat_map(|run| &run.scenarios) {
        let mut add = |route: &str, failover: Option<&Failover>, failback: Option<&Failback>| {
            if let Some(failover) = failover {
                let class = (scenario.name.clone(), route.to_owned());
                all.entry(class).or_default().push(Event::of(failover, failback));
            }
        };
        if scenario.events.is_empty() && scenario.verdict != Verdict::Inconclusive {
            for route in &scenario.routes {
                add(&route.route, route.failover.as_ref(), route.failback.as_ref());
            }
        }
        for event in scenario.events.iter().filter(|event| event.counts) {
            for route in &event.routes {
                add(&route.route, route.failover.as_ref(), route.failback.as_ref());
            }
        }
    }
    all
}

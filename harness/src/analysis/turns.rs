//! Turns of a person with openclaw, beside what the gateway saw of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::journal::{ClaimSource, GatewayCall, Outcome};
use crate::verdict::result::Quantiles;

use super::facts::Probe;
use super::quantiles;

/// The strongest thing that says who served a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KnownFrom {
    /// The journal of the upstream that answered.
    Upstream,
    /// The headers that the gateway sent to openclaw.
    GatewayHeaders,
    /// The model that the gateway's stream names.
    StreamModel,
    /// openclaw's own transcript, which shows the same as `responseModel`.
    Transcript,
    /// The time alone: the requests carry no mark, and no other turn was in flight.
    Window,
    /// Nothing.
    Nothing,
}

/// What became of the judged turns of one route.
#[derive(Clone, Debug)]
pub struct TurnFigures {
    /// Requests to the gateway.
    pub requests: u64,
    /// The most of one turn.
    pub most: u64,
    /// Turns that became more than one.
    pub several: u64,
    /// Turns of which none reached the gateway.
    pub none: u64,
    /// Turns in which a request was given up that the gateway had not answered.
    pub unanswered: u64,
    /// Aliases asked for besides the route's own.
    pub others_asked: BTreeSet<String>,
    /// Of the request that was answered, from its arrival to its last byte.
    pub gateway: Quantiles,
    /// From the start of a turn to its first request.
    pub before: Quantiles,
    /// The longest time from the start of a turn that became several to its end, and its first request's own, microseconds.
    pub longest_several_us: Option<(u64, u64)>,
    /// Complete turns by what says who served them.
    pub known_from: BTreeMap<KnownFrom, u64>,
}

/// Compute them over the judged probes of a route that asks for `model`.
#[must_use]
pub fn turns(judged: &[&Probe], model: &str) -> TurnFigures {
    let took = |call: &GatewayCall| call.ended_us.saturating_sub(call.received_us);
    let counts = judged.iter().map(|probe| probe.turn.len() as u64);
    let served: Vec<u64> = judged.iter().filter_map(|probe| serving(probe).map(took)).collect();
    let unserved = (judged.len() - served.len()) as u64;
    let before: Vec<u64> = judged
        .iter()
        .filter_map(|probe| Some(probe.turn.first()?.received_us.saturating_sub(probe.record.intended_us)))
        .collect();
    let none = (judged.len() - before.len()) as u64;
    let several = judged.iter().filter(|probe| probe.turn.len() > 1);
    let waits = several.clone().filter_map(|probe| {
        let waited_us = probe.record.ended_us.saturating_sub(probe.record.intended_us);
        Some((waited_us, took(probe.turn.first()?)))
    });
    let given_up = |call: &GatewayCall| call.status.is_none();
    let asked = judged.iter().flat_map(|probe| &probe.turn).map(|call| call.model.clone());
    let mut known_from = BTreeMap::new();
    for probe in judged.iter().filter(|probe| probe.record.outcome == Outcome::Ok) {
        *known_from.entry(self::known_from(probe)).or_default() += 1;
    }
    TurnFigures {
        requests: counts.clone().sum(),
        most: counts.max().unwrap_or(0),
        several: several.count() as u64,
        none,
        unanswered: judged.iter().filter(|probe| probe.turn.iter().any(given_up)).count() as u64,
        others_asked: asked.filter(|asked| asked != model).collect(),
        gateway: quantiles(served, unserved),
        before: quantiles(before, none),
        longest_several_us: waits.max(),
        known_from,
    }
}

/// The request whose answer the person got: the last that came to its end.
fn serving(probe: &Probe) -> Option<&GatewayCall> {
    let complete = |call: &&GatewayCall| call.status == Some(200) && call.broke.is_none();
    probe.turn.iter().rfind(complete).filter(|_| probe.record.outcome == Outcome::Ok)
}

fn known_from(probe: &Probe) -> KnownFrom {
    let claims = |source| probe.record.claims.iter().any(|claim| claim.source == source);
    if probe.calls_in_time().any(|(call, alias)| call.status == Some(200) && alias.is_some()) {
        KnownFrom::Upstream
    } else if probe.attribution.alias.is_none() {
        KnownFrom::Nothing
    } else if probe.is_by_window {
        KnownFrom::Window
    } else if claims(ClaimSource::HeaderModelGroup) || claims(ClaimSource::HeaderModelId) {
        KnownFrom::GatewayHeaders
    } else if claims(ClaimSource::BodyModel) {
        KnownFrom::StreamModel
    } else {
        KnownFrom::Transcript
    }
}

//! What the sources say about the replies of a run, and whether their counts balance.

use std::collections::BTreeMap;

use super::facts::{Mode, Probe, RunFacts};
use crate::attribution::balance::{Balance, Replied, balance, is_shown};
use crate::attribution::gateway_log::by_alias;
use crate::attribution::hops::{Hop, hops};
use crate::attribution::{Names, Source, Stand, attribute, attribute_turn};
use crate::environment::{Environment, ObjectName};
use crate::journal::{GatewayCall, GatewayStarted, LogCounted, Outcome, RunStarted, UpstreamCall};
use crate::verdict::result::{LogCount, SourceStanding};

/// From this format on a journal says what each request to an upstream was made for.
const PURPOSES_SINCE: u32 = 4;

/// Upstream models by name where they are known, the aliases themselves in any case, and where components are.
pub(super) fn names(start: &RunStarted) -> Names {
    let mut names = Names {
        by_upstream_model: start.upstream_models.clone(),
        bases: bases(&start.environment),
        ..Names::default()
    };
    for (name, component) in &start.environment.components {
        for alias in &component.aliases {
            names.by_upstream_model.entry(alias.clone()).or_insert_with(|| alias.clone());
            names.components.insert(alias.clone(), name.clone());
        }
    }
    names
}

/// What the gateway told of itself, or its configuration did.
pub(super) fn add_gateway(names: &mut Names, gateway: &GatewayStarted) {
    names.by_upstream_model.extend(gateway.names.clone());
    for (url, component) in &gateway.bases {
        names.add_base(url, component);
    }
}

/// Where a cluster's components are, by host. One that several share names none.
fn bases(environment: &Environment) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut add = |host: String, component: &String| {
        let known = all.entry(host).or_insert_with(|| Some(component.clone()));
        if known.as_ref() != Some(component) {
            *known = None;
        }
    };
    let within = environment.cluster().map(|cluster| &cluster.gateway.deployment.namespace);
    for (name, component) in &environment.components {
        let endpoint = component.endpoint.as_deref().and_then(|url| reqwest::Url::parse(url).ok());
        if let Some(host) = endpoint.as_ref().and_then(reqwest::Url::host_str) {
            add(host.to_owned(), name);
        }
        let proxy = component.proxy.as_ref().map(|proxy| &proxy.service);
        for ObjectName { namespace, name: service } in component.service.iter().chain(proxy) {
            add(format!("{service}.{namespace}"), name);
            if within == Some(namespace) {
                add(service.clone(), name);
            }
        }
    }
    all.into_iter().filter_map(|(host, component)| Some((host, component?))).collect()
}

/// What the sources say of one probe.
pub(super) fn explain(probe: &mut Probe, calls: &[UpstreamCall], names: &Names) {
    if probe.record.outcome == Outcome::Ok {
        // What reaches an upstream after the client has its reply did not serve it: a request written into
        // a connection that went silent arrives there when the fault is healed.
        let ended_us = probe.record.ended_us;
        let calls: Vec<&UpstreamCall> = calls.iter().filter(|call| call.received_us <= ended_us).collect();
        probe.attribution = match probe.turn.is_empty() {
            true => attribute(&probe.record, &calls, names),
            false => attribute_turn(&probe.record, probe.is_transcribed, &calls, names),
        };
    }
    let alias = |call: &UpstreamCall| names.of_upstream(&call.model).map(str::to_owned);
    probe.calls = calls.iter().map(|call| (call.clone(), alias(call))).collect();
}

/// Counts of a whole run, against what clients got; nothing where upstreams keep no journal, or where it does not say
/// what requests were made for. `own`: when openclaw asked the gateway for no probe.
pub(super) fn balances(
    format: u32,
    modes: &mut [Mode],
    calls: &[UpstreamCall],
    own: &[(u64, u64)],
    names: &Names,
) -> BTreeMap<String, Balance> {
    if format < PURPOSES_SINCE || calls.is_empty() {
        return BTreeMap::new();
    }
    let mut by_probe: BTreeMap<&str, Vec<UpstreamCall>> = BTreeMap::new();
    for call in calls {
        if let Some(probe) = &call.probe {
            by_probe.entry(probe).or_default().push(call.clone());
        }
    }
    for probe in modes.iter_mut().flat_map(|mode| &mut mode.probes) {
        let own = by_probe.get(probe.record.id.as_str()).map_or(&[][..], Vec::as_slice);
        probe.is_unshown = !is_shown(&probe.attribution, own, names);
    }
    let others = modes.iter().any(|mode| !mode.others.is_empty());
    let probes = modes.iter().flat_map(|mode| &mode.probes);
    let probes = probes.map(|probe| {
        let ended_us = probe.record.ended_us;
        let answered = |call: &&GatewayCall| call.status == Some(200) && call.received_us <= ended_us;
        let last = probe.turn.iter().rfind(answered).or(probe.turn.last());
        let last_us = last.map_or(0, |call| call.received_us);
        (
            probe.record.id.as_str(),
            Replied { record: &probe.record, attribution: &probe.attribution, last_us },
        )
    });
    let all = balance(&probes.collect(), calls.iter(), names, own, others);
    for (alias, own) in &all {
        for mode in &mut *modes {
            let (from, to) = (mode.started_us.unwrap_or(u64::MAX), mode.ended_us.unwrap_or(u64::MAX));
            let here = own.unexplained.iter().filter(|at_us| (from..to).contains(*at_us)).count() as u64;
            if here > 0 {
                mode.unexplained.push((alias.clone(), here));
            }
        }
    }
    all
}

/// What a log counted, beside what clients got in the same time.
pub(super) fn log_count(counted: &LogCounted, probes: &[Probe], names: &Names) -> LogCount {
    let mut got: BTreeMap<String, u64> = BTreeMap::new();
    for alias in probes.iter().filter_map(|probe| probe.attribution.alias.as_ref()) {
        *got.entry(alias.clone()).or_default() += 1;
    }
    LogCount {
        source: counted.source.clone(),
        calls: counted.calls,
        ours: counted.ours,
        missing: counted.ours.saturating_sub(counted.calls),
        answers: by_alias(&counted.answers, names),
        got,
        trouble: counted.trouble.clone(),
    }
}

/// How often each source agreed, was silent, could not be used or conflicted, over complete replies.
pub(super) fn standings(probes: &[&Probe]) -> Vec<SourceStanding> {
    let mut all = Vec::new();
    for source in Source::ALL {
        let mut own = SourceStanding { source: source.word().to_owned(), ..SourceStanding::default() };
        for probe in probes {
            own.decided += u64::from(probe.attribution.by == Some(source));
            match probe.attribution.stands.get(&source) {
                Some(Stand::Agreed) => own.agreed += 1,
                Some(Stand::Silent) => own.silent += 1,
                Some(Stand::Unusable) => own.unusable += 1,
                Some(Stand::Conflicted) => own.conflicted += 1,
                None => {}
            }
        }
        if own.agreed + own.silent + own.unusable + own.conflicted > 0 {
            all.push(own);
        }
    }
    all
}

/// Where the time of a probe went, by the upstreams' journals; empty where nobody keeps any, and for turns through
/// openclaw: they hold its own time, and become several requests.
#[must_use]
pub fn way(run: &RunFacts, probe: &Probe, chain: &[String]) -> Vec<Hop> {
    let is_turn =
        run.start.environment.routes.get(&probe.record.route).is_some_and(|route| !route.via.is_gateway());
    if !run.has_journals || is_turn {
        return Vec::new();
    }
    let calls: Vec<_> = probe.calls_in_time().map(|(call, alias)| (call, alias.as_deref())).collect();
    let timeouts = run.gateway.as_ref().map(|gateway| gateway.timeouts.clone()).unwrap_or_default();
    hops(&probe.record, &calls, chain, &timeouts)
}

//! Turns through openclaw, beside what the gateway saw of them.

use harness::environment::Via;
use harness::journal::{Claim, ClaimSource, ClientStarted, Event, GatewayCall, Outcome, ProbeRecord};
use harness::verdict::result::{RunResult, Turns, Verdict};

use crate::journal::{Lines, Story, shipped};
use crate::route;

/// A request that openclaw made so long after the start of a turn.
fn call(probe: &ProbeRecord, model: &str, after_us: u64, took_us: u64, status: Option<u16>) -> GatewayCall {
    let received_us = probe.intended_us + after_us;
    GatewayCall {
        probe: Some(probe.id.clone()),
        model: model.into(),
        received_us,
        headers_us: status.map(|_| received_us + 1),
        ended_us: received_us + took_us,
        status,
        broke: status.is_none().then(|| "openclaw left".to_owned()),
        claims: Vec::new(),
    }
}

/// Everything up, the agent asked through openclaw; `calls` gives the requests that each turn became.
fn judged(
    edit: impl Fn(Story) -> Story,
    calls: impl Fn(usize, &ProbeRecord) -> Vec<GatewayCall>,
    settings: &[&str],
) -> RunResult {
    let (scenarios, mut environment) = shipped(&["normal"]);
    environment.routes.get_mut("agent").unwrap().via = Via::Openclaw;
    // Of the prompts that openclaw makes the ceilings would allow too few.
    environment.components.values_mut().for_each(|component| component.ceilings = Default::default());
    let mut lines: Lines = edit(Story::with(&scenarios, environment)).tell();
    let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
    let client = ClientStarted { version: "2026.9.6".into(), retries: "stock".into(), settings };
    lines.push(20, Event::ClientStarted(client));
    let probe = |event: &Event| {
        if let Event::ProbeEnded(probe) = event { Some((**probe).clone()) } else { None }
    };
    let probes = lines.0.iter().filter_map(|(_, event)| probe(event));
    let probes: Vec<ProbeRecord> = probes.filter(|probe| probe.route == "agent").collect();
    for (nth, probe) in probes.iter().enumerate() {
        for call in calls(nth, probe) {
            lines.push(call.ended_us, Event::GatewayCalled(call));
        }
    }
    lines.sorted().judge()
}

fn turns(result: &RunResult) -> &Turns {
    assert_eq!(route(result, "normal", "coder").turns, None, "the coder enters at the gateway");
    route(result, "normal", "agent").turns.as_ref().unwrap()
}

fn served(probe: &ProbeRecord) -> Vec<GatewayCall> {
    vec![call(probe, "cloud-kimi", 10_000, 80_000, Some(200))]
}

#[test]
fn a_turn_that_became_one_request_did_not_compound() {
    let result = judged(|story| story, |_, probe| served(probe), &[]);
    let (turns, agent) = (turns(&result), route(&result, "normal", "agent"));
    assert_eq!((turns.via.as_str(), turns.version.as_str()), ("openclaw", "2026.9.6"));
    assert_eq!((turns.requests, turns.most, turns.several, turns.none), (agent.requests, 1, 0, 0));
    assert_eq!((turns.gateway_ms.p50, turns.before_ms.p50), (Some(80.0), Some(10.0)));
    assert_eq!(turns.known_by.get("journal of the upstream"), Some(&agent.ok));
    assert_eq!(turns.words.len(), 1, "{:?}", turns.words);
    assert!(turns.words[0].contains("did not compound"), "{:?}", turns.words);
}

#[test]
fn retries_and_fallbacks_of_openclaw_are_told_with_what_bounds_them() {
    let calls = |nth: usize, probe: &ProbeRecord| match nth {
        30 => vec![
            call(probe, "cloud-kimi", 1_000, 4_000, Some(500)),
            call(probe, "cloud-kimi", 6_000, 4_000, Some(500)),
            call(probe, "vllm-qwen", 12_000, 30_000, None),
        ],
        40 => Vec::new(),
        _ => served(probe),
    };
    let result = judged(|story| story, calls, &["a: 0"]);
    let turns = turns(&result);
    assert_eq!((turns.most, turns.several, turns.none), (3, 1, 1));
    assert_eq!(turns.gateway_ms.infinite, 2, "of two no request was answered");
    let words = turns.words.join("\n");
    for wanted in [
        "1 of ",
        "3 at most",
        "retry.provider.maxRetries: 0",
        "(vllm-qwen)",
        "agents.defaults.model.fallbacks: []",
        "models.providers.litellm.timeoutSeconds",
        "Of 1 turns no request reached",
        "Set in this run: a: 0",
    ] {
        assert!(words.contains(wanted), "{wanted} is not in:\n{words}");
    }
}

#[test]
fn without_journals_the_gateways_own_claims_tell_and_it_is_said_which() {
    let by_header = judged(|story| story.edit(|_, told| told.calls.clear()), |_, probe| served(probe), &[]);
    let known = &turns(&by_header).known_by;
    assert_eq!(known.keys().collect::<Vec<_>>(), ["headers of the gateway's answer to openclaw"]);
    let by_model = |story: Story| {
        story.edit(|_, told| {
            told.calls.clear();
            told.record.claims = vec![Claim { source: ClaimSource::BodyModel, value: "cloud-kimi".into() }];
        })
    };
    let by_model = judged(by_model, |_, probe| served(probe), &[]);
    let named = "model that the gateway's stream names";
    assert_eq!(turns(&by_model).known_by.keys().collect::<Vec<_>>(), [named]);
    let by_nothing = judged(|story| story.edit(|_, told| told.unknown()), |_, probe| served(probe), &[]);
    assert_eq!(turns(&by_nothing).known_by.keys().collect::<Vec<_>>(), ["nothing"]);
}

#[test]
fn an_error_of_openclaw_that_hides_a_refusal_of_the_gateway_is_no_honest_one() {
    let fails = |story: Story| {
        story.edit(|_, told| {
            told.calls.clear();
            told.record.outcome = Outcome::Error("http-500".into());
        })
    };
    let errors = |status| {
        let calls = move |_, probe: &ProbeRecord| vec![call(probe, "cloud-kimi", 1_000, 4_000, Some(status))];
        let result = judged(fails, calls, &[]);
        route(&result, "normal", "agent").errors.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(errors(401), ["gateway-refused"]);
    assert_eq!(errors(429), ["http-500"]);
    assert_eq!(errors(500), ["http-500"]);
}

#[test]
fn an_error_of_openclaws_own_is_no_evidence_of_an_outage_that_is_told() {
    let judged = |asked: bool| {
        let (scenarios, mut environment) = shipped(&["full-outage"]);
        environment.routes.get_mut("agent").unwrap().via = Via::Openclaw;
        environment.components.values_mut().for_each(|component| component.ceilings = Default::default());
        let mut lines: Lines = Story::with(&scenarios, environment).tell();
        let failed = lines.0.iter().filter_map(|(_, event)| match event {
            Event::ProbeEnded(probe) if probe.route == "agent" => Some((**probe).clone()),
            _ => None,
        });
        let probes: Vec<ProbeRecord> = failed.collect();
        for probe in probes.iter().filter(|probe| asked || probe.outcome == Outcome::Ok) {
            let status = if probe.outcome == Outcome::Ok { 200 } else { 500 };
            let call = call(probe, "cloud-kimi", 1_000, 2_000, Some(status));
            lines.push(call.ended_us, Event::GatewayCalled(call));
        }
        lines.sorted().judge()
    };
    let (asked, not_asked) = (judged(true), judged(false));
    assert_eq!(asked.scenarios[0].verdict, Verdict::Pass, "{:?}", asked.scenarios[0].reasons);
    assert_eq!(not_asked.scenarios[0].verdict, Verdict::Inconclusive, "{:?}", not_asked.scenarios[0].reasons);
    let errors = &route(&not_asked, "full-outage", "agent").errors;
    assert_eq!(errors.keys().collect::<Vec<_>>(), ["gateway-not-asked"]);
    assert!(not_asked.scenarios[0].reasons.join("\n").contains("no request of them reached the gateway"));
}

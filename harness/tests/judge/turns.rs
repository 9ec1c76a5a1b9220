//! Turns through openclaw, beside what the gateway saw of them.

use harness::environment::Via;
use harness::journal::{
    Claim, ClaimSource, ClientStarted, Event, GatewayCall, Outcome, ProbeRecord, TurnTranscribed,
};
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
    judged_with(edit, calls, settings, |_| None)
}

/// The same, where something more is said of each turn.
fn judged_with(
    edit: impl Fn(Story) -> Story,
    calls: impl Fn(usize, &ProbeRecord) -> Vec<GatewayCall>,
    settings: &[&str],
    more: impl Fn(&ProbeRecord) -> Option<Event>,
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
        more(probe).into_iter().for_each(|event| lines.push(probe.ended_us, event));
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

/// Nobody but openclaw says anything of the agent's turns.
fn untold(story: Story) -> Story {
    story.edit(|_, told| {
        told.calls.clear();
        told.record.claims.clear();
    })
}

#[test]
fn where_nobody_else_tells_openclaws_transcript_does_and_only_what_stands_there() {
    let transcribed = |response_model: Option<&str>| {
        let named = response_model.map(str::to_owned);
        judged_with(
            untold,
            |_, probe| served(probe),
            &[],
            move |probe| {
                let (probe, asked) = (probe.id.clone(), Some("cloud-kimi".to_owned()));
                Some(Event::TurnTranscribed(TurnTranscribed { probe, asked, response_model: named.clone() }))
            },
        )
    };
    let told = transcribed(Some("vllm-qwen"));
    let agent = route(&told, "normal", "agent");
    assert_eq!(agent.served_by.keys().collect::<Vec<_>>(), ["vllm-qwen"]);
    let known = &turns(&told).known_by;
    assert_eq!(known.keys().collect::<Vec<_>>(), ["responseModel in openclaw's own transcript"]);
    let silent = transcribed(None);
    assert_eq!(turns(&silent).known_by.keys().collect::<Vec<_>>(), ["nothing"]);
    assert_eq!(route(&silent, "normal", "agent").served_by.keys().collect::<Vec<_>>(), ["unknown"]);
}

#[test]
fn requests_without_a_mark_are_of_the_only_turn_in_flight_and_openclaws_own_where_others_have_one() {
    let unmarked = |probe: &ProbeRecord| {
        let claim = Claim { source: ClaimSource::HeaderModelGroup, value: "vllm-qwen".into() };
        // When the turn before is over, and the next has not begun.
        let call = call(probe, "cloud-kimi", 50_000, 40_000, Some(200));
        GatewayCall { probe: None, claims: vec![claim], ..call }
    };
    let result = judged(untold, |_, probe| vec![unmarked(probe)], &[]);
    let own = turns(&result);
    assert_eq!(own.known_by.keys().collect::<Vec<_>>(), ["gateway's answer to the only turn in flight"]);
    assert_eq!((own.none, own.most), (0, 1));
    assert_eq!(route(&result, "normal", "agent").served_by.keys().collect::<Vec<_>>(), ["vllm-qwen"]);

    let some = |nth: usize, probe: &ProbeRecord| {
        if nth == 30 { vec![unmarked(probe)] } else { served(probe) }
    };
    let result = judged(|story| story, some, &[]);
    assert_eq!((turns(&result).none, turns(&result).most), (1, 1));
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

#[test]
fn a_person_who_is_told_of_an_outage_without_a_status_is_told_in_a_time() {
    let (scenarios, mut environment) = shipped(&["full-outage"]);
    environment.routes.get_mut("agent").unwrap().via = Via::Telegram;
    environment.components.values_mut().for_each(|component| component.ceilings = Default::default());
    let told = Story::with(&scenarios, environment).edit(|_, told| {
        if told.record.outcome != Outcome::Ok {
            told.record.outcome = Outcome::Error("told-error".into());
            told.record.status = None;
        }
    });
    let mut lines: Lines = told.tell();
    let turns = lines.0.iter().filter_map(|(_, event)| match event {
        Event::ProbeEnded(probe) if probe.route == "agent" => {
            let status = if probe.outcome == Outcome::Ok { 200 } else { 429 };
            Some(call(probe, "cloud-kimi", 1_000, 2_000, Some(status)))
        }
        _ => None,
    });
    for call in turns.collect::<Vec<_>>() {
        lines.push(call.ended_us, Event::GatewayCalled(call));
    }
    let result = lines.sorted().judge();
    assert_eq!(result.scenarios[0].verdict, Verdict::Pass, "{:?}", result.scenarios[0].reasons);
    let failover = route(&result, "full-outage", "agent").failover.as_ref().unwrap();
    assert!(failover.worst_ms.is_some_and(|worst| worst > 0.0) && !failover.censored, "{failover:?}");
}

#[test]
fn a_turn_whose_stream_had_begun_when_the_fault_came_is_one_that_broke_off_and_no_late_one() {
    let judged = |begun: bool| {
        let (scenarios, mut environment) = shipped(&["cloud-down"]);
        environment.routes.get_mut("agent").unwrap().via = Via::Openclaw;
        environment.components.values_mut().for_each(|component| component.ceilings = Default::default());
        let mut lines: Lines = Story::with(&scenarios, environment).tell();
        let effect = lines.when(|event| matches!(event, Event::FaultInjected { .. }));
        // The last turn before it, which is still open at the effect and ends in an error.
        let mut last = None;
        for (at, (_, event)) in lines.0.iter().enumerate() {
            if let Event::ProbeEnded(probe) = event
                && probe.route == "agent"
                && probe.sent_us < effect
            {
                last = last.max(Some((probe.sent_us, at)));
            }
        }
        let (_, at) = last.expect("a turn before the fault");
        if let (ended_us, Event::ProbeEnded(probe)) = &mut lines.0[at] {
            probe.outcome = Outcome::Error("http-408".into());
            (probe.first_content_us, probe.first_answer_us) = (None, None);
            probe.ended_us = effect + 6_000_000;
            *ended_us = probe.ended_us;
        }
        let turns = lines.0.iter().filter_map(|(_, event)| match event {
            Event::ProbeEnded(probe) if probe.route == "agent" => {
                let mut call = call(probe, "cloud-kimi", 1, 2_000, Some(200));
                if probe.outcome != Outcome::Ok && !begun {
                    (call.status, call.headers_us) = (None, None);
                }
                Some(call)
            }
            _ => None,
        });
        for call in turns.collect::<Vec<_>>() {
            lines.push(call.ended_us, Event::GatewayCalled(call));
        }
        let result = lines.sorted().judge();
        let failover = route(&result, "cloud-down", "agent").failover.clone().unwrap();
        (failover.in_flight.lost, failover.request_verdict)
    };
    assert_eq!(judged(true), (1, Verdict::Pass));
    assert_eq!(judged(false), (0, Verdict::Fail));
}

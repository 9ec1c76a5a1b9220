//! Four runs as a person would tell them, built by hand.

use std::collections::BTreeMap;

use harness::verdict::result::*;

/// Every run with its name.
pub(crate) fn all() -> Vec<(&'static str, RunResult)> {
    vec![
        ("all-pass", all_pass()),
        ("stock-fails", stock_fails()),
        ("interrupted", interrupted()),
        ("not-restored", not_restored()),
    ]
}

/// All five modes pass; the migration state was not looked at.
pub(crate) fn all_pass() -> RunResult {
    RunResult {
        schema: "harness/result/v1".into(),
        run_id: "20261122-030000-7f3a".into(),
        environment: "local".into(),
        started_at: "2026-11-22T03:00:00Z".into(),
        finished_at: "2026-11-22T03:02:41Z".into(),
        ended: Ended::Completed,
        gateway: GatewayIdentity {
            kind: "litellm".into(),
            version: "1.106.2".into(),
            config: "recommended (sha256 5d41402a)".into(),
        },
        verdict: Verdict::Pass,
        restored: true,
        restore_with: None,
        reasons: vec![],
        requirements: vec![
            run_requirement(
                "FR217",
                RequirementVerdict::Pass,
                &["cloud-down", "cloud-gpu-down"],
                "vllm-qwen, then ollama-qwen answered, in the order of the chain; the step to cloud-minimax \
                 was not exercised",
            ),
            run_requirement("FR222", RequirementVerdict::NotChecked, &[], "this environment has no openclaw"),
            run_requirement(
                "FR223",
                RequirementVerdict::Pass,
                &["normal", "gaming"],
                "every coder probe served by cloud-qwen3-coder while the cloud was up",
            ),
            run_requirement(
                "NFR123",
                RequirementVerdict::Pass,
                &["cloud-down", "cloud-gpu-down", "full-outage"],
                "worst wait 4.31 s, steady within 3.93 s, limit 5 s",
            ),
            run_requirement(
                "NFR125",
                RequirementVerdict::Pass,
                &["normal", "cloud-down", "gaming", "cloud-gpu-down", "full-outage"],
                "all five modes served as the table says, the primary came back after every heal",
            ),
        ],
        scenarios: vec![normal(), cloud_down(), gaming(), cloud_gpu_down(), full_outage()],
        outlook: None,
        migration: None,
        findings: vec![
            "cloud-minimax answered 3 requests after the cloud came back, before cloud-kimi did again".into(),
        ],
        made_with: [
            ("Harness", "0.1.0"),
            ("Command", "harness run --gateway litellm"),
            ("Seed", "4242"),
            ("Probes", "agent 8/s, coder 1/s, client timeout 30 s"),
        ]
        .map(|(label, value)| (label.to_owned(), value.to_owned()))
        .to_vec(),
        balance: vec![
            balance("cloud-kimi", 240, 236, &[("warm-up", 2), ("resent", 2)]),
            balance("vllm-qwen", 117, 112, &[("control", 5)]),
        ],
    }
}

/// Default settings: a blackholed cloud is never given up.
pub(crate) fn stock_fails() -> RunResult {
    let why = "agent: 96 of 96 probes got no answer within the client timeout (30 s); failover to vllm-qwen \
               never happened";
    let mut run = all_pass();
    run.run_id = "20261122-040000-91bc".into();
    run.gateway.config = "stock (sha256 0cc175b9)".into();
    run.verdict = Verdict::Fail;
    run.reasons = vec![format!("cloud-down: {why}")];
    run.scenarios.truncate(2);
    run.findings.clear();
    let failed = [("FR217", "no fallback was seen: nobody answered"), ("NFR123", why), ("NFR125", why)];
    for requirement in &mut run.requirements {
        requirement.scenarios.retain(|s| s == "normal" || s == "cloud-down");
        if let Some((_, detail)) = failed.iter().find(|(id, _)| *id == requirement.id) {
            requirement.verdict = RequirementVerdict::Fail;
            requirement.detail = (*detail).to_owned();
        }
    }
    let mode = &mut run.scenarios[1];
    mode.timeline.retain(|entry| !entry.what.contains("vllm-qwen"));
    mode.verdict = Verdict::Fail;
    mode.reasons = vec![why.to_owned()];
    for requirement in &mut mode.requirements {
        requirement.verdict = RequirementVerdict::Fail;
        requirement.detail = why.to_owned();
    }
    let agent = &mut mode.routes[0];
    agent.ok = 0;
    agent.errors = counts(&[("client-timeout", 96)]);
    agent.served_by.clear();
    agent.latency_ms = Quantiles { count: 96, infinite: 96, ..Quantiles::default() };
    agent.ttft_ms = agent.latency_ms.clone();
    agent.control_ms = None;
    agent.unjudged.retain(|phase, _| phase != "drain" && phase != "control");
    agent.failover = Some(Failover {
        worst_ms: None,
        censored: true,
        worst_last_byte_ms: None,
        steady_after_ms: None,
        first_expected_after_ms: None,
        unavailable_gap_ms: None,
        unavailable_starts_ms: 12_000.0,
        request_verdict: Verdict::Fail,
        service_verdict: Verdict::Fail,
        ..failover(0.0, (0.0, 0.0))
    });
    agent.worst = vec![WorstProbe {
        probe: "cloud-down-agent-25".into(),
        at_ms: 25_310.0,
        first_content_ms: None,
        outcome: "client-timeout".into(),
        hops: vec![hop("cloud-kimi", 25_314.0, None, "never answered")],
    }];
    run
}

/// Cut short while the third mode was running.
pub(crate) fn interrupted() -> RunResult {
    let mut run = all_pass();
    run.run_id = "20261122-050000-0a11".into();
    run.finished_at = "2026-11-22T05:01:02Z".into();
    run.started_at = "2026-11-22T05:00:00Z".into();
    run.ended = Ended::Interrupted;
    run.verdict = Verdict::Inconclusive;
    run.reasons = vec![
        "the run was interrupted by SIGTERM 62 s after its start".into(),
        "gaming: interrupted while its probes were running".into(),
        "cloud-gpu-down, full-outage: not reached".into(),
    ];
    run.findings.clear();
    for requirement in &mut run.requirements {
        if requirement.verdict == RequirementVerdict::Pass {
            requirement.verdict = RequirementVerdict::Inconclusive;
            requirement.detail = "not all modes that look at it were run".into();
        }
    }
    for (mode, reason) in run.scenarios[2..].iter_mut().zip([
        "interrupted by SIGTERM while its probes were running",
        "not reached: the run was interrupted before",
        "not reached: the run was interrupted before",
    ]) {
        mode.verdict = Verdict::Inconclusive;
        mode.reasons = vec![reason.to_owned()];
        for requirement in &mut mode.requirements {
            requirement.verdict = RequirementVerdict::Inconclusive;
            requirement.detail = reason.to_owned();
        }
    }
    for mode in &mut run.scenarios[3..] {
        mode.faults.clear();
        mode.routes.clear();
        mode.timeline.clear();
    }
    run
}

/// Everything was measured, but vLLM stayed at zero replicas.
pub(crate) fn not_restored() -> RunResult {
    let mut run = all_pass();
    run.run_id = "20261122-060000-c0de".into();
    run.environment = "home-cluster".into();
    run.verdict = Verdict::Inconclusive;
    run.restored = false;
    run.restore_with = Some("harness restore --env home.yaml".into());
    run.reasons = vec![
        "Deployment ml/vllm is still at 0 replicas: the API server answered \"exceeded quota: gpu|<limit>\" \
         to the scale-up"
            .into(),
    ];
    run
}

fn scenario(name: &str, title: &str, requirements: &[(&str, &str)]) -> ScenarioResult {
    let requirement = |(id, detail): &(&str, &str)| ScenarioRequirement {
        id: (*id).to_owned(),
        verdict: RequirementVerdict::Pass,
        detail: (*detail).to_owned(),
    };
    ScenarioResult {
        name: name.into(),
        title: title.into(),
        verdict: Verdict::Pass,
        reasons: vec![],
        requirements: requirements.iter().map(requirement).collect(),
        faults: vec![],
        routes: vec![],
        timeline: vec![],
        findings: vec![],
        answered_by: None,
        counts: vec![],
        upstream_counts: vec![],
        events: vec![],
    }
}

fn normal() -> ScenarioResult {
    let served = [("FR223", "12 of 12 coder probes by cloud-qwen3-coder"), ("NFR125", "served as designed")];
    let mut mode = scenario("normal", "Everything is up", &served);
    mode.routes = vec![
        route("agent", "cloud-kimi", "cloud-kimi", 96, (212.0, 240.0)),
        route("coder", "cloud-qwen3-coder", "cloud-qwen3-coder", 12, (230.0, 260.0)),
    ];
    mode.timeline = story(&[(3_000.0, "first judged probe"), (15_020.0, "last judged probe answered")]);
    mode
}

fn cloud_down() -> ScenarioResult {
    let mut mode = scenario(
        "cloud-down",
        "Cloud unavailable",
        &[
            ("FR217", "96 of 96 agent probes by vllm-qwen; the step to cloud-minimax was not exercised"),
            ("NFR123", "worst wait 4.31 s, steady after 3.71-3.93 s, limit 5 s"),
            ("NFR125", "served as designed; cloud-kimi steady again 2.10-2.20 s after the heal"),
        ],
    );
    mode.faults = vec![fault("cloud", "blackhole", 24_300.0, false, Some(70_120.0))];
    let mut agent = route("agent", "cloud-kimi", "vllm-qwen", 96, (2_110.0, 4_310.0));
    agent.failover = Some(failover(4_310.0, (3_710.0, 3_930.0)));
    agent.failback = Some(Failback {
        first_after_ms: Some(Bracket(410.0, Some(430.0))),
        steady_after_ms: Some(Bracket(2_100.0, Some(2_200.0))),
        errors: 0,
        flaps: 2,
        limit_ms: Some(60_000.0),
        verdict: Some(Verdict::Pass),
    });
    agent.control_ms = Some(Quantiles {
        count: 5,
        infinite: 0,
        min: Some(80.0),
        p50: Some(91.0),
        p90: Some(97.0),
        p99: Some(97.0),
        max: Some(97.0),
    });
    agent.unjudged = BTreeMap::from([
        ("baseline".into(), phase(24, "cloud-kimi")),
        ("control".into(), phase(5, "vllm-qwen")),
        ("drain".into(), phase(16, "vllm-qwen")),
        ("failback".into(), phase(48, "cloud-kimi")),
    ]);
    agent.worst = vec![WorstProbe {
        probe: "cloud-down-agent-24".into(),
        at_ms: 24_340.0,
        first_content_ms: Some(4_310.0),
        outcome: "vllm-qwen".into(),
        hops: vec![
            hop(
                "cloud-kimi",
                24_345.0,
                Some(2_000.0),
                "was not reached, for as long as the gateway's timeout",
            ),
            hop(
                "cloud-minimax",
                26_345.0,
                Some(2_030.0),
                "was not reached, for as long as the gateway's timeout",
            ),
            hop("vllm-qwen", 28_375.0, Some(275.0), "answered"),
        ],
    }];
    mode.routes = vec![agent, error_route("coder", "cloud-qwen3-coder", 12, 2_050.0)];
    mode.timeline = story(&[
        (24_300.0, "cloud: blackhole asked for"),
        (24_330.0, "cloud: proven down (tcp-witness)"),
        (28_650.0, "agent: first answer by vllm-qwen"),
        (70_080.0, "cloud: heal asked for"),
        (70_120.0, "cloud: serves again"),
    ]);
    mode
}

fn gaming() -> ScenarioResult {
    let served = [("FR223", "12 of 12 coder probes by cloud-qwen3-coder"), ("NFR125", "unaffected")];
    let mut mode = scenario("gaming", "The GPU is used for games", &served);
    mode.faults = vec![fault("vllm", "scale-to-zero", 80_000.0, false, None)];
    mode.routes = vec![
        route("agent", "cloud-kimi", "cloud-kimi", 96, (214.0, 251.0)),
        route("coder", "cloud-qwen3-coder", "cloud-qwen3-coder", 12, (231.0, 262.0)),
    ];
    mode.timeline = story(&[(80_020.0, "vllm: proven down (tcp-witness)")]);
    mode
}

fn cloud_gpu_down() -> ScenarioResult {
    let mut mode = scenario(
        "cloud-gpu-down",
        "Cloud and GPU unavailable",
        &[("FR217", "40 of 40 agent probes by ollama-qwen"), ("NFR123", "worst wait 4.10 s, limit 5 s")],
    );
    mode.faults = vec![
        fault("vllm", "scale-to-zero", 80_000.0, true, None),
        fault("cloud", "blackhole", 100_000.0, false, None),
    ];
    let mut agent = route("agent", "cloud-kimi", "ollama-qwen", 40, (2_900.0, 4_100.0));
    agent.failover = Some(Failover {
        injections: 20,
        support: Some(support(20)),
        ..failover(4_100.0, (3_400.0, 3_460.0))
    });
    mode.events = (1..=21).map(|number| event(number, &agent)).collect();
    mode.routes = vec![agent];
    mode.findings = vec!["the first answer of ollama-qwen took 1.2 s longer: it loaded its model".into()];
    mode
}

fn full_outage() -> ScenarioResult {
    let mut mode = scenario(
        "full-outage",
        "Nothing is left: an error, and soon",
        &[("NFR123", "worst error reply 4.20 s, limit 5 s"), ("NFR125", "errors as designed")],
    );
    mode.faults = vec![
        fault("cloud", "blackhole", 100_000.0, true, Some(150_000.0)),
        fault("vllm", "scale-to-zero", 80_000.0, true, Some(152_000.0)),
        fault("ollama", "scale-to-zero", 120_000.0, false, Some(151_000.0)),
    ];
    mode.routes = vec![error_route("agent", "cloud-kimi", 40, 4_200.0)];
    mode
}

fn fault(component: &str, kind: &str, at_ms: f64, inherited: bool, healed: Option<f64>) -> FaultResult {
    FaultResult {
        component: component.into(),
        kind: kind.into(),
        inherited,
        injection: None,
        injected_at: "2026-11-22T03:00:24Z".into(),
        injected_ms: Bracket(at_ms, Some(at_ms + 10.0)),
        effective_ms: Some(Bracket(at_ms + 10.0, Some(at_ms + 30.0))),
        healed_ms: healed.map(|ms| Bracket(ms - 40.0, Some(ms))),
        held: true,
        seen_as: Some("no connection within 20 ms".into()),
        evidence: vec![
            Evidence {
                at_ms: at_ms + 10.0,
                source: "tcp-witness".into(),
                saw: "connected in 1 ms: still up".into(),
            },
            Evidence {
                at_ms: at_ms + 30.0,
                source: "tcp-witness".into(),
                saw: "no connection within 20 ms: down".into(),
            },
        ],
    }
}

fn route(
    name: &str,
    model: &str,
    expected: &str,
    requests: u64,
    (typical_ms, worst_ms): (f64, f64),
) -> RouteResult {
    let quantiles = |later: f64| Quantiles {
        count: requests,
        infinite: 0,
        min: Some(typical_ms * 0.9 + later),
        p50: Some(typical_ms + later),
        p90: Some((typical_ms + worst_ms) / 2.0 + later),
        p99: Some(worst_ms * 0.99 + later),
        max: Some(worst_ms + later),
    };
    RouteResult {
        route: name.into(),
        model: model.into(),
        expected: Some(expected.into()),
        requests,
        ok: requests,
        errors: BTreeMap::new(),
        planned: requests,
        skipped: 0,
        late: 0,
        served_by: counts(&[(expected, requests)]),
        attribution_conflicts: 0,
        conflicts: vec![],
        sources: vec![
            source("upstream journal", requests, requests),
            source("x-litellm-model-group", 0, requests),
        ],
        latency_ms: quantiles(40.0),
        ttft_ms: quantiles(0.0),
        error_reply_ms: None,
        unjudged: BTreeMap::new(),
        failover: None,
        failback: None,
        control_ms: None,
        worst: vec![],
        turns: None,
        streams: None,
    }
}

fn error_route(name: &str, model: &str, requests: u64, worst_ms: f64) -> RouteResult {
    let nothing = Quantiles { count: requests, infinite: requests, ..Quantiles::default() };
    let answered = route(name, model, "error", requests, (worst_ms * 0.9, worst_ms));
    RouteResult {
        ok: 0,
        errors: counts(&[("http-408", requests - 2), ("http-429", 2)]),
        served_by: BTreeMap::new(),
        sources: vec![],
        error_reply_ms: Some(answered.ttft_ms.clone()),
        latency_ms: nothing.clone(),
        ttft_ms: nothing,
        failover: Some(failover(worst_ms, (1_900.0, worst_ms))),
        ..answered
    }
}

fn failover(worst_ms: f64, (lo, hi): (f64, f64)) -> Failover {
    Failover {
        limit_ms: 5_000.0,
        injections: 1,
        worst_ms: Some(worst_ms),
        censored: false,
        worst_last_byte_ms: Some(worst_ms + 40.0),
        steady_after_ms: Some(Bracket(lo, Some(hi))),
        first_expected_after_ms: Some(Bracket(lo, Some(hi))),
        unavailable_gap_ms: Some(hi - 125.0),
        unavailable_starts_ms: 0.0,
        in_flight: InFlight { served: 1, lost: 0 },
        request_verdict: Verdict::Pass,
        service_verdict: Verdict::Pass,
        support: None,
    }
}

/// What 20 injections show that all went well.
fn support(well: u64) -> Support {
    let bound = |of, percent, at_most_ms, needed| QuantileBound { of, percent, at_most_ms, needed };
    Support {
        well,
        confidence_percent: 95.0,
        at_least_percent: 86.0,
        bounds: vec![
            bound(Measure::Worst, 50, Some(3_900.0), None),
            bound(Measure::Worst, 90, None, Some(29)),
            bound(Measure::Worst, 99, None, Some(299)),
            bound(Measure::Steady, 50, None, None),
        ],
    }
}

/// The third of them was void.
fn event(injection: u32, route: &RouteResult) -> EventResult {
    let counts = injection != 3;
    let why = "no steady state before the fault: agent had 1 replies by cloud-kimi; 3 are needed";
    let routes = vec![EventRoute {
        route: route.route.clone(),
        requests: if counts { 2 } else { 0 },
        ok: if counts { 2 } else { 0 },
        failover: counts.then(|| failover(3_000.0 + 55.0 * f64::from(injection), (3_400.0, 3_460.0))),
        failback: None,
    }];
    EventResult {
        injection,
        counts,
        verdict: if counts { Verdict::Pass } else { Verdict::Inconclusive },
        reasons: if counts { vec![] } else { vec![why.into()] },
        routes,
        faults: vec![],
    }
}

fn source(name: &str, decided: u64, agreed: u64) -> SourceStanding {
    SourceStanding { source: name.into(), decided, agreed, ..SourceStanding::default() }
}

fn balance(alias: &str, served: u64, got: u64, explained: &[(&str, u64)]) -> Balance {
    let source = "upstream journal".into();
    Balance {
        alias: alias.into(),
        source,
        served,
        got,
        missing: 0,
        explained: counts(explained),
        unexplained: 0,
    }
}

fn phase(requests: u64, by: &str) -> PhaseCounts {
    PhaseCounts { requests, ok: requests, served_by: counts(&[(by, requests)]), errors: BTreeMap::new() }
}

fn hop(alias: &str, at_ms: f64, took_ms: Option<f64>, outcome: &str) -> Hop {
    Hop { alias: alias.into(), at_ms, took_ms, outcome: outcome.into() }
}

fn counts(entries: &[(&str, u64)]) -> BTreeMap<String, u64> {
    entries.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

fn story(entries: &[(f64, &str)]) -> Vec<TimelineEntry> {
    entries.iter().map(|(at_ms, what)| TimelineEntry { at_ms: *at_ms, what: (*what).to_owned() }).collect()
}

fn run_requirement(
    id: &str,
    verdict: RequirementVerdict,
    scenarios: &[&str],
    detail: &str,
) -> RunRequirement {
    let scenarios = scenarios.iter().map(|s| (*s).to_owned()).collect();
    RunRequirement { id: id.into(), verdict, scenarios, detail: detail.into() }
}

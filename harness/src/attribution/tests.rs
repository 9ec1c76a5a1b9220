//! What each source is believed, and the known lies of LiteLLM.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::balance::{Balance, Cause, Replied, balance};
use super::hops::{End, Hop, hops};
use super::*;
use crate::journal::{AttemptTimeouts, Censoring, Claim, Outcome, Purpose};

const CHAIN: [&str; 4] = ["cloud-kimi", "cloud-minimax", "vllm-qwen", "ollama-qwen"];

fn names() -> Names {
    let models = ["kimi-k2.5", "minimax-m2.5", "Qwen3", "phi4-mini"];
    let components = ["cloud", "cloud", "vllm", "ollama"];
    let mut names = Names {
        by_upstream_model: models.into_iter().zip(CHAIN).map(|(m, a)| (m.into(), a.into())).collect(),
        components: CHAIN.into_iter().zip(components).map(|(a, c)| (a.into(), c.into())).collect(),
        bases: BTreeMap::from([("vllm.ml".to_owned(), "vllm".to_owned())]),
    };
    names.add_base("https://ollama.com", "cloud");
    names
}

fn probe(claims: &[(ClaimSource, &str)]) -> ProbeRecord {
    ProbeRecord {
        id: "p".into(),
        scenario: "s".into(),
        route: "agent".into(),
        purpose: Purpose::Traffic,
        model: "cloud-kimi".into(),
        streamed: false,
        fresh: true,
        intended_us: 0,
        sent_us: 0,
        headers_us: None,
        first_content_us: None,
        first_answer_us: None,
        ended_us: 10_000_000,
        status: Some(200),
        outcome: Outcome::Ok,
        claims: claims.iter().map(|&(source, value)| Claim { source, value: value.into() }).collect(),
        detail: None,
        longest_gap_us: None,
        broke: None,
    }
}

fn call(model: &str, status: Option<u16>) -> UpstreamCall {
    at(model, status, 1, 2)
}

fn at(model: &str, status: Option<u16>, received_us: u64, ended_us: u64) -> UpstreamCall {
    UpstreamCall {
        component: "c".into(),
        model: model.into(),
        probe: Some("p".into()),
        purpose: None,
        received_us,
        ended_us: Some(ended_us),
        status,
    }
}

fn of(probe: &ProbeRecord, calls: &[UpstreamCall]) -> Attribution {
    attribute(probe, &calls.iter().collect::<Vec<_>>(), &names())
}

#[test]
fn sources_that_agree_name_the_server() {
    use ClaimSource::{BodyModel, HeaderApiBase, HeaderModelGroup, HeaderModelId};
    let probe = probe(&[
        (HeaderModelId, "vllm-qwen"),
        (HeaderModelGroup, "vllm-qwen"),
        (HeaderApiBase, "http://vllm.ml.svc.cluster.local:8000/v1"),
        (BodyModel, "Qwen3"),
    ]);
    let attribution = of(&probe, &[call("kimi-k2.5", None), call("Qwen3", Some(200))]);
    assert_eq!(attribution.alias.as_deref(), Some("vllm-qwen"));
    assert_eq!(attribution.by, Some(Source::Journal));
    let stands: Vec<_> = attribution.stands.into_values().collect();
    assert_eq!((stands, attribution.conflicts), (vec![Stand::Agreed; 5], vec![]));
}

#[test]
fn a_lying_header_is_a_conflict_and_the_upstream_is_believed() {
    let probe = probe(&[(ClaimSource::HeaderModelGroup, "cloud-kimi")]);
    let attribution = of(&probe, &[call("minimax-m2.5", Some(200))]);
    assert_eq!(attribution.alias.as_deref(), Some("cloud-minimax"));
    assert_eq!(attribution.conflicts, ["x-litellm-model-group=cloud-kimi"]);
    assert_eq!(attribution.stands[&Source::HeaderModelGroup], Stand::Conflicted);
    assert_eq!(attribution.stands[&Source::HeaderModelId], Stand::Silent);
}

#[test]
fn another_component_than_the_server_s_is_a_conflict_and_alone_it_is_nobody() {
    let elsewhere = (ClaimSource::HeaderApiBase, "https://ollama.com/api/chat");
    let attribution = of(&probe(&[(ClaimSource::HeaderModelGroup, "vllm-qwen"), elsewhere]), &[]);
    assert_eq!(attribution.by, Some(Source::HeaderModelGroup));
    assert_eq!(attribution.conflicts, ["x-litellm-model-api-base=https://ollama.com/api/chat"]);
    let alone = of(&probe(&[elsewhere]), &[]);
    assert_eq!((alone.alias, alone.conflicts), (None, vec![]));
    let agrees = of(&probe(&[(ClaimSource::HeaderModelGroup, "cloud-minimax"), elsewhere]), &[]);
    assert_eq!(agrees.stands[&Source::HeaderApiBase], Stand::Agreed);
}

#[test]
fn chunks_stamped_with_a_hop_that_broke_are_no_contradiction() {
    let claims = [(ClaimSource::HeaderModelGroup, "cloud-minimax"), (ClaimSource::BodyModel, "vllm-qwen")];
    let streamed = ProbeRecord { streamed: true, ..probe(&claims) };
    let calls = [call("Qwen3", Some(200)), call("minimax-m2.5", Some(200))];
    let told = of(&streamed, &calls);
    assert_eq!((told.alias.as_deref(), told.conflicts.len()), (Some("cloud-minimax"), 0));
    assert_eq!(told.stands[&Source::BodyStreamed], Stand::Unusable);
    let conflicts = ["chunk model=vllm-qwen"];
    assert_eq!(of(&streamed, &calls[1..]).conflicts, conflicts, "vllm-qwen was never asked");
    assert_eq!(of(&streamed, &[]).conflicts, conflicts, "nobody shows that it was asked");
    let whole = of(&probe(&claims), &calls);
    assert_eq!(whole.conflicts, ["body model=vllm-qwen"], "a whole reply has one server");
}

#[test]
fn nobody_named_is_nobody() {
    let probe = probe(&[(ClaimSource::HeaderFallbacks, "1"), (ClaimSource::BodyModel, "gpt-9")]);
    let attribution = of(&probe, &[call("Qwen3", Some(500))]);
    assert_eq!((attribution.alias, attribution.by, attribution.conflicts), (None, None, vec![]));
    assert_eq!(attribution.stands[&Source::BodyWhole], Stand::Unusable);
}

/// Lie: `model` of a whole reply is the name asked for, `provider/model`, or the upstream's own.
#[test]
fn all_that_litellm_writes_into_a_body_is_understood() {
    for (said, alias) in [
        ("cloud-kimi", "cloud-kimi"),
        ("ollama_chat/minimax-m2.5", "cloud-minimax"),
        ("Qwen3", "vllm-qwen"),
        ("ollama-qwen", "ollama-qwen"),
    ] {
        let attribution = of(&probe(&[(ClaimSource::BodyModel, said)]), &[]);
        assert_eq!(attribution.alias.as_deref(), Some(alias), "{said}");
        assert_eq!(attribution.by, Some(Source::BodyWhole));
    }
}

fn way(record: &ProbeRecord, calls: &[UpstreamCall], timeout_ms: Option<u64>) -> Vec<Hop> {
    let names = names();
    let calls: Vec<_> = calls.iter().map(|call| (call, names.of_upstream(&call.model))).collect();
    let limits = |ms| AttemptTimeouts { whole_ms: ms, stream_ms: ms };
    let timeouts = timeout_ms.into_iter().flat_map(|ms| CHAIN.map(|alias| (alias.to_owned(), limits(ms))));
    hops(record, &calls, &CHAIN.map(str::to_owned), &timeouts.collect())
}

fn told(hops: &[Hop]) -> Vec<(String, u64, End)> {
    let took = |hop: &Hop| hop.to_us.map_or(0, |to| (to - hop.from_us) / 1000);
    hops.iter().map(|hop| (hop.aliases.join("+"), took(hop), hop.end)).collect()
}

fn expect(hops: &[Hop], wanted: &[(&str, u64, End)]) {
    let wanted: Vec<_> = wanted.iter().map(|(alias, took, end)| ((*alias).to_owned(), *took, *end)).collect();
    assert_eq!(told(hops), wanted);
}

/// Lie: the hop header says 1 after two hops, and after three.
#[test]
fn hops_are_those_that_the_journals_show_whatever_the_header_counts() {
    let mut record = probe(&[(ClaimSource::HeaderFallbacks, "1")]);
    record.ended_us = 4_150_000;
    let failed = |model, from: u64| at(model, Some(500), from, from + 10_000);
    let calls = [
        failed("kimi-k2.5", 30_000),
        failed("minimax-m2.5", 60_000),
        failed("Qwen3", 90_000),
        at("phi4-mini", Some(200), 120_000, 4_140_000),
    ];
    let e500 = End::Answered(500);
    let three = [
        ("cloud-kimi", 10, e500),
        ("cloud-minimax", 10, e500),
        ("vllm-qwen", 10, e500),
        ("ollama-qwen", 4020, End::Answered(200)),
    ];
    expect(&way(&record, &calls, None), &three);
    let two = [
        failed("kimi-k2.5", 30_000),
        failed("minimax-m2.5", 60_000),
        at("Qwen3", Some(200), 90_000, 100_000),
    ];
    let header = record.claims[0].value.parse::<usize>().unwrap();
    for (calls, hops) in [(&calls[..], 3), (&two[..], 2)] {
        let seen = way(&record, calls, None).len() - 1;
        assert_eq!((seen, header), (hops, 1));
    }
}

#[test]
fn time_that_reached_nobody_is_split_where_it_fits_the_timeouts() {
    let mut record = probe(&[]);
    record.ended_us = 4_150_000;
    let served = [at("Qwen3", Some(200), 4_050_000, 4_140_000)];
    let answer = ("vllm-qwen", 90, End::Answered(200));
    let timed_out = [("cloud-kimi", 2000, End::TimedOut), ("cloud-minimax", 2050, End::TimedOut), answer];
    expect(&way(&record, &served, Some(2000)), &timed_out);
    let unknown = [("cloud-kimi+cloud-minimax", 4050, End::Unreached(None)), answer];
    expect(&way(&record, &served, None), &unknown);
    let served = [at("Qwen3", Some(200), 2_070_000, 2_160_000)];
    let one = [("cloud-kimi+cloud-minimax", 2070, End::Unreached(Some(1))), answer];
    expect(&way(&record, &served, Some(2000)), &one);
    let served = [at("Qwen3", Some(200), 40_000, 130_000)];
    let none = [("cloud-kimi+cloud-minimax", 40, End::PassedOver), answer];
    expect(&way(&record, &served, Some(2000)), &none);
}

/// Lie: sleeps between attempts stand in the overhead header, and hangs do not. The journals show both.
#[test]
fn sleeps_between_attempts_are_told_from_hangs() {
    let mut record = probe(&[]);
    record.ended_us = 3_500_000;
    let calls = [
        at("kimi-k2.5", Some(500), 30_000, 40_000),
        at("kimi-k2.5", Some(500), 640_000, 650_000),
        at("minimax-m2.5", None, 660_000, 2_660_000),
        at("Qwen3", Some(200), 2_700_000, 3_400_000),
    ];
    let wanted = [
        ("cloud-kimi", 10, End::Answered(500)),
        ("", 600, End::Waited),
        ("cloud-kimi", 10, End::Answered(500)),
        ("cloud-minimax", 2000, End::GivenUp),
        ("vllm-qwen", 700, End::Answered(200)),
    ];
    expect(&way(&record, &calls, Some(2000)), &wanted);
}

/// Lie: the client's status is 429 wherever a cooldown is mentioned, whatever the upstreams answered.
#[test]
fn who_was_tried_for_an_error_is_what_the_journals_show_and_not_its_status() {
    let mut record = probe(&[]);
    record.outcome = Outcome::Error("http-429".into());
    (record.status, record.ended_us) = (Some(429), 4_100_000);
    record.detail = Some("all_deployments_in_cooldown: No deployments available".into());
    let calls = [at("kimi-k2.5", Some(500), 30_000, 40_000)];
    let rest = "cloud-minimax+vllm-qwen+ollama-qwen";
    let wanted = [("cloud-kimi", 10, End::Answered(500)), (rest, 4060, End::Unreached(Some(2)))];
    expect(&way(&record, &calls, Some(2000)), &wanted);
    let nobody = [("cloud-kimi+cloud-minimax+vllm-qwen+ollama-qwen", 4100, End::Unreached(None))];
    expect(&way(&record, &[], None), &nobody);
}

#[test]
fn of_a_client_that_left_nobody_knows_how_far_the_gateway_had_come() {
    let mut record = probe(&[]);
    record.outcome = Outcome::Error("client-timeout".into());
    (record.status, record.ended_us) = (None, 30_000_000);
    let all = "cloud-kimi+cloud-minimax+vllm-qwen+ollama-qwen";
    expect(&way(&record, &[], Some(600_000)), &[(all, 30_000, End::Left)]);
}

fn balanced(
    records: &[(ProbeRecord, Attribution)],
    calls: &[UpstreamCall],
    others: bool,
) -> BTreeMap<String, Balance> {
    balanced_after(records, calls, others, 0)
}

/// As [`balanced`], where openclaw made its last request at this time.
fn balanced_after(
    records: &[(ProbeRecord, Attribution)],
    calls: &[UpstreamCall],
    others: bool,
    last_us: u64,
) -> BTreeMap<String, Balance> {
    let probes = records
        .iter()
        .map(|(record, attribution)| (record.id.as_str(), Replied { record, attribution, last_us }));
    balance(&probes.collect(), calls.iter(), &names(), &[], others)
}

fn by(alias: &str) -> Attribution {
    Attribution { alias: Some(alias.into()), ..Attribution::default() }
}

#[test]
fn what_an_upstream_served_beyond_what_clients_got_has_a_cause() {
    let record = |id: &str, outcome: Outcome| ProbeRecord { id: id.into(), outcome, ..probe(&[]) };
    let error = |class: &str| Outcome::Error(class.into());
    let mut control = record("control", Outcome::Ok);
    control.purpose = Purpose::Control;
    let records = [
        (record("got", Outcome::Ok), by("vllm-qwen")),
        (record("broke", Outcome::Ok), by("ollama-qwen")),
        (record("left", error("client-timeout")), Attribution::default()),
        (record("open", Outcome::Censored(Censoring::RunCut)), Attribution::default()),
        (record("failed", error("http-500")), Attribution::default()),
        (control, by("vllm-qwen")),
    ];
    let mut calls = Vec::new();
    for id in ["got", "got", "broke", "left", "open", "failed", "control"] {
        calls.push(UpstreamCall { probe: Some(id.into()), ..call("Qwen3", Some(200)) });
    }
    for purpose in ["witness", "warm-up"] {
        calls.push(UpstreamCall { probe: None, purpose: Some(purpose.into()), ..call("Qwen3", Some(200)) });
    }
    calls.push(UpstreamCall { probe: Some("of-somebody".into()), ..call("Qwen3", Some(200)) });
    calls.push(call("Qwen3", Some(500)));
    let all = balanced(&records, &calls, false);
    let vllm = &all["vllm-qwen"];
    assert_eq!((vllm.served, vllm.got, vllm.missing), (10, 1, 0));
    use Cause::{Control, Error, GivenUp, Resent, WarmUp, WentOn, Witness};
    let one = [Control, Resent, WentOn, Error, Witness, WarmUp].map(|cause| (cause, 1));
    let wanted: BTreeMap<Cause, u64> = one.into_iter().chain([(GivenUp, 2)]).collect();
    assert_eq!((&vllm.explained, vllm.unexplained.len()), (&wanted, 1));
    let ollama = &all["ollama-qwen"];
    assert_eq!((ollama.served, ollama.got, ollama.missing), (0, 1, 1), "nobody shows that reply");
    let others = balanced(&records, &calls, true);
    assert_eq!(others["vllm-qwen"].explained[&Cause::Others], 1);
}

#[test]
fn what_was_served_to_an_earlier_request_of_a_turn_is_not_the_gateways_doing() {
    let record = probe(&[]);
    let asked = |at_us| UpstreamCall {
        probe: Some(record.id.clone()),
        received_us: at_us,
        ..call("Qwen3", Some(200))
    };
    let records = [(ProbeRecord { ended_us: 100, ..record.clone() }, by("vllm-qwen"))];
    let calls = [asked(10), asked(60)];
    let of_a_turn = &balanced_after(&records, &calls, false, 50)["vllm-qwen"];
    assert_eq!(of_a_turn.explained, BTreeMap::from([(Cause::AskedAgain, 1)]));
    assert_eq!((of_a_turn.got, of_a_turn.missing), (1, 0));
    let of_one_request = &balanced(&records, &calls, false)["vllm-qwen"];
    assert_eq!(of_one_request.explained, BTreeMap::from([(Cause::Resent, 1)]));
}

#[test]
fn what_openclaw_asks_for_no_probe_is_its_own_and_nobody_elses() {
    let asked = |at_us| UpstreamCall { probe: None, received_us: at_us, ..call("Qwen3", Some(200)) };
    let all = balance(&BTreeMap::new(), [asked(10), asked(30)].iter(), &names(), &[(5, 20)], false);
    let vllm = &all["vllm-qwen"];
    assert_eq!(vllm.explained, BTreeMap::from([(Cause::Openclaw, 1)]));
    assert_eq!(vllm.unexplained, [30], "that was somebody else");
}

#[test]
fn openclaws_transcript_is_below_the_gateways_side_and_silent_where_it_has_no_such_field() {
    let turn = |claims: &[(ClaimSource, &str)]| attribute_turn(&probe(claims), true, &[], &names());
    let alone = turn(&[(ClaimSource::ResponseModel, "vllm-qwen")]);
    assert_eq!((alone.alias.as_deref(), alone.by), (Some("vllm-qwen"), Some(Source::Transcript)));
    let stream = turn(&[(ClaimSource::BodyModel, "vllm-qwen"), (ClaimSource::ResponseModel, "vllm-qwen")]);
    assert_eq!(stream.by, Some(Source::BodyStreamed));
    assert_eq!(stream.stands[&Source::Transcript], Stand::Agreed);
    let other =
        turn(&[(ClaimSource::HeaderModelGroup, "cloud-kimi"), (ClaimSource::ResponseModel, "vllm-qwen")]);
    assert_eq!(other.alias.as_deref(), Some("cloud-kimi"));
    assert_eq!(other.conflicts, ["openclaw's transcript=vllm-qwen"]);
    // The model asked for, or a stream that names none: nobody is named, and nobody is assumed.
    let none = turn(&[]);
    assert_eq!((none.alias, &none.stands[&Source::Transcript]), (None, &Stand::Silent));
    let unread = attribute_turn(&probe(&[]), false, &[], &names());
    assert_eq!(unread.stands.get(&Source::Transcript), None, "nobody has read it");
}

#[test]
fn a_transcript_repeats_the_lie_of_the_stream_and_is_not_believed_then() {
    let broke = UpstreamCall { status: None, ..call("Qwen3", None) };
    let served = UpstreamCall { received_us: 1, ..call("phi4-mini", Some(200)) };
    let told = probe(&[(ClaimSource::ResponseModel, "vllm-qwen")]);
    let all = attribute_turn(&told, true, &[&broke, &served], &names());
    assert_eq!(all.alias.as_deref(), Some("ollama-qwen"));
    assert_eq!((all.conflicts, all.stands[&Source::Transcript]), (Vec::new(), Stand::Unusable));
}

proptest! {
    /// Nothing that was served is lost or counted twice.
    #[test]
    fn what_was_served_is_what_clients_got_and_the_rest(
        outcomes in prop::collection::vec((0_usize..4, 0_usize..5), 0..12),
        asked in prop::collection::vec((0_usize..16, 0_usize..4, 0_u64..3), 0..40),
        others in any::<bool>(),
    ) {
        let records: Vec<_> = outcomes.iter().enumerate().map(|(index, (server, outcome))| {
            let mut record = probe(&[]);
            record.id = format!("p{index}");
            record.ended_us = 100;
            if *outcome == 0 { record.purpose = Purpose::Control; }
            if *outcome < 3 { return (record, by(CHAIN[*server])); }
            let class = if *outcome == 3 { "client-timeout" } else { "http-500" };
            record.outcome = Outcome::Error(class.into());
            (record, Attribution::default())
        }).collect();
        let models = ["kimi-k2.5", "minimax-m2.5", "Qwen3", "phi4-mini"];
        let calls: Vec<_> = asked.iter().map(|(id, model, late)| UpstreamCall {
            probe: Some(format!("p{id}")),
            received_us: late * 80,
            ..call(models[*model], Some(200))
        }).collect();
        for (alias, own) in balanced(&records, &calls, others) {
            let explained: u64 = own.explained.values().sum();
            let got = own.got - own.missing;
            prop_assert_eq!(own.served, got + explained + own.unexplained.len() as u64, "{}: {:?}", alias, own);
            prop_assert!(own.missing <= own.got && (!others || own.unexplained.is_empty()));
        }
    }

    /// Hops stand in their order, inside the probe's time, and do not overlap.
    #[test]
    fn hops_do_not_overlap(
        asked in prop::collection::vec((0_usize..4, 0_u64..3_000_000, 0_u64..3_000_000, 0_usize..4), 0..8),
        ended_us in 0_u64..20_000_000,
        timeout_ms in prop::option::of(0_u64..5000),
        is_ok in any::<bool>(),
    ) {
        let mut record = probe(&[]);
        record.ended_us = ended_us;
        if !is_ok { record.outcome = Outcome::Error("http-500".into()); }
        let models = ["kimi-k2.5", "minimax-m2.5", "Qwen3", "phi4-mini"];
        let mut now = 0;
        let calls: Vec<_> = asked.iter().map(|(model, gap, took, end)| {
            now += gap;
            let status = [Some(200), Some(500), None, None][*end];
            let ended_us = (*end < 3).then_some(now + took);
            UpstreamCall { ended_us, ..at(models[*model], status, now, now) }
        }).filter(|call| call.received_us <= ended_us).collect();
        let mut at_us = 0;
        for hop in way(&record, &calls, timeout_ms) {
            prop_assert!(hop.from_us >= at_us && hop.to_us.is_none_or(|to| to >= hop.from_us), "{:?}", hop);
            prop_assert!(hop.from_us <= ended_us);
            at_us = hop.to_us.unwrap_or(hop.from_us);
        }
    }

    #[test]
    fn no_text_of_a_gateway_panics(texts in prop::collection::vec("\\PC{0,40}", 4), streamed in any::<bool>()) {
        use ClaimSource::{BodyModel, HeaderApiBase, HeaderModelGroup, HeaderModelId};
        let sources = [HeaderModelId, HeaderModelGroup, HeaderApiBase, BodyModel];
        let claims: Vec<_> = sources.into_iter().zip(texts.iter().map(String::as_str)).collect();
        let attribution = of(&ProbeRecord { streamed, ..probe(&claims) }, &[]);
        prop_assert_eq!(attribution.alias.is_none(), attribution.by.is_none());
    }
}

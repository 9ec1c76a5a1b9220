//! Any result: nasty texts, absent figures, verdicts that need not agree with each other.
//!
//! Strategies are boxed where they nest: by value they would not fit on the stack of a test thread.

use std::collections::BTreeMap;

use harness::verdict::result::*;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

fn text() -> BoxedStrategy<String> {
    prop_oneof![
        Just(String::new()),
        Just("cloud-kimi".to_owned()),
        Just("error".to_owned()),
        Just("http-503".to_owned()),
        Just("</testcase>]]><!-- a|b\\|c `x` [y](z) <b>&amp;".to_owned()),
        Just("\n\n# title\n- item\n|---|\r\n1. one\t".to_owned()),
        Just("\u{1b}[31mred\u{0}\u{7f}\u{fffe}\u{ffff}\u{202e}\u{feff}\u{85}".to_owned()),
        Just("模型 \u{1f4a5} e\u{301}".to_owned()),
        "[|\\\\`<>&\\[\\]*_~#\n\r -]{0,12}",
        any::<String>(),
    ]
    .boxed()
}

/// Milliseconds in whole microseconds, as a clock gives them.
fn ms() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0_i64), -1_000_000..1_000_000_000_i64, Just(5_000_000)].prop_map(|us| us as f64 / 1000.0)
}

fn bracket() -> impl Strategy<Value = Bracket> {
    (ms(), option::of(ms())).prop_map(|(lo, hi)| Bracket(lo, hi))
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![Just(Verdict::Pass), Just(Verdict::Inconclusive), Just(Verdict::Fail)]
}

fn requirement_verdict() -> impl Strategy<Value = RequirementVerdict> {
    use RequirementVerdict as V;
    prop_oneof![Just(V::Pass), Just(V::Inconclusive), Just(V::Fail), Just(V::NotChecked)]
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(text(), 0..3)
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![0..100_u64, Just(u64::MAX)]
}

fn counts() -> BoxedStrategy<BTreeMap<String, u64>> {
    btree_map(text(), count(), 0..3).boxed()
}

prop_compose! {
    fn quantiles()(count in count(), infinite in count(), min in option::of(ms()), p50 in option::of(ms()),
                   p90 in option::of(ms()), p99 in option::of(ms()), max in option::of(ms())) -> Quantiles {
        Quantiles { count, infinite, min, p50, p90, p99, max }
    }
}

prop_compose! {
    fn failover()((limit_ms, worst_ms, worst_last_byte_ms, unavailable_gap_ms, unavailable_starts_ms)
                      in (ms(), option::of(ms()), option::of(ms()), option::of(ms()), ms()),
                  (steady_after_ms, first_expected_after_ms) in (option::of(bracket()), option::of(bracket())),
                  (injections, served, lost) in (count(), count(), count()),
                  censored: bool, request_verdict in verdict(), service_verdict in verdict(),
                  support in option::of(support().boxed())) -> Failover {
        Failover { limit_ms, injections, worst_ms, censored, worst_last_byte_ms, steady_after_ms,
            first_expected_after_ms, unavailable_gap_ms, unavailable_starts_ms,
            in_flight: InFlight { served, lost }, request_verdict, service_verdict, support }
    }
}

prop_compose! {
    fn support()(well in count(), (confidence_percent, at_least_percent) in (ms(), ms()),
                 bounds in vec((any::<bool>(), count(), option::of(ms()), option::of(count())), 0..3)) -> Support {
        let bound = |(is_worst, percent, at_most_ms, needed)| QuantileBound {
            of: if is_worst { Measure::Worst } else { Measure::Steady }, percent, at_most_ms, needed,
        };
        Support { well, confidence_percent, at_least_percent, bounds: bounds.into_iter().map(bound).collect() }
    }
}

prop_compose! {
    fn event()(injection: u32, counts: bool, verdict in verdict(), reasons in texts(),
               routes in vec((text(), count(), count(), option::of(failover()), option::of(failback())).boxed(), 0..2))
        -> EventResult {
        let routes = routes.into_iter().map(|(route, requests, ok, failover, failback)| EventRoute {
            route, requests, ok, failover, failback,
        });
        EventResult { injection, counts, verdict, reasons, routes: routes.collect(), faults: vec![] }
    }
}

prop_compose! {
    fn failback()(first_after_ms in option::of(bracket()), steady_after_ms in option::of(bracket()),
                  errors in count(), flaps in count(), limit_ms in option::of(ms()),
                  verdict in option::of(verdict())) -> Failback {
        Failback { first_after_ms, steady_after_ms, errors, flaps, limit_ms, verdict }
    }
}

prop_compose! {
    fn hop()(alias in text(), at_ms in ms(), took_ms in option::of(ms()), outcome in text()) -> Hop {
        Hop { alias, at_ms, took_ms, outcome }
    }
}

prop_compose! {
    fn worst_probe()(probe in text(), at_ms in ms(), first_content_ms in option::of(ms()),
                     outcome in text(), hops in vec(hop().boxed(), 0..3)) -> WorstProbe {
        WorstProbe { probe, at_ms, first_content_ms, outcome, hops }
    }
}

prop_compose! {
    fn phase_counts()(requests in count(), ok in count(), served_by in counts(), errors in counts())
        -> PhaseCounts {
        PhaseCounts { requests, ok, served_by, errors }
    }
}

prop_compose! {
    fn conflict()((probe, alias, by) in (text(), text(), text()), said in texts()) -> Conflict {
        Conflict { probe, alias, by, said }
    }
}

prop_compose! {
    fn standing()(source in text(), counts in prop::array::uniform5(count())) -> SourceStanding {
        let [decided, agreed, silent, unusable, conflicted] = counts;
        SourceStanding { source, decided, agreed, silent, unusable, conflicted }
    }
}

prop_compose! {
    fn balance()((alias, source) in (text(), text()), numbers in prop::array::uniform4(count()),
                 explained in counts()) -> Balance {
        let [served, got, missing, unexplained] = numbers;
        Balance { alias, source, served, got, missing, explained, unexplained }
    }
}

prop_compose! {
    fn route()((route, model, expected) in (text(), text(), option::of(text())),
               (requests, ok, planned, skipped, late, attribution_conflicts)
                   in (count(), count(), count(), count(), count(), count()),
               (errors, served_by, unjudged) in (counts(), counts(), btree_map(text(), phase_counts().boxed(), 0..3)),
               (latency_ms, ttft_ms, error_reply_ms, control_ms)
                   in (quantiles().boxed(), quantiles().boxed(), option::of(quantiles().boxed()), option::of(quantiles().boxed())),
               failover in option::of(failover().boxed()), failback in option::of(failback().boxed()),
               worst in vec(worst_probe().boxed(), 0..3), turns in option::of(turns().boxed()),
               streams in option::of(streams().boxed()),
               (conflicts, sources) in (vec(conflict().boxed(), 0..2), vec(standing().boxed(), 0..2))) -> RouteResult {
        RouteResult { route, model, expected, requests, ok, errors, planned, skipped, late, served_by,
            attribution_conflicts, conflicts, sources, latency_ms, ttft_ms, error_reply_ms, unjudged, failover, failback,
            control_ms, worst, turns, streams }
    }
}

prop_compose! {
    fn streams()(numbers in prop::array::uniform4(count()), times in prop::array::uniform4(option::of(ms())),
                 tokens_before_break in option::of((count(), count()))) -> Streams {
        let [begun, broken, broken_with_error_event, broken_with_terminator] = numbers;
        let [latest_first_token_ms, first_token_limit_ms, longest_stall_ms, stall_limit_ms] = times;
        Streams { begun, latest_first_token_ms, first_token_limit_ms, longest_stall_ms, stall_limit_ms, broken,
            tokens_before_break, broken_with_error_event, broken_with_terminator }
    }
}

prop_compose! {
    fn turns()((via, version, retries) in (text(), text(), text()),
               (requests, most, several, none) in (count(), count(), count(), count()),
               gateway_ms in quantiles(), before_ms in quantiles(), known_by in counts(), words in texts())
        -> Turns {
        Turns { via, version, retries, requests, most, several, none, gateway_ms, before_ms, known_by, words }
    }
}

prop_compose! {
    fn fault()((component, kind, injected_at) in (text(), text(), text()), inherited: bool, held: bool,
               injection in option::of(any::<u32>()),
               injected_ms in bracket(), effective_ms in option::of(bracket()),
               healed_ms in option::of(bracket()), seen_as in option::of(text()),
               evidence in vec((ms(), text(), text()), 0..12)) -> FaultResult {
        let evidence =
            evidence.into_iter().map(|(at_ms, source, saw)| Evidence { at_ms, source, saw }).collect();
        FaultResult { component, kind, inherited, injection, injected_at, injected_ms, effective_ms, healed_ms, held,
            seen_as, evidence }
    }
}

prop_compose! {
    fn log_count()(source in text(), numbers in prop::array::uniform3(count()), answers in counts(),
                   got in counts(), trouble in option::of(text())) -> LogCount {
        let [calls, ours, missing] = numbers;
        LogCount { source, calls, ours, missing, answers, got, trouble }
    }
}

prop_compose! {
    fn upstream_count()((component, source) in (text(), text()), numbers in prop::array::uniform4(count()),
                        standing in prop_oneof![Just(CountStanding::Agrees), Just(CountStanding::Beyond),
                                                Just(CountStanding::Contradicts), Just(CountStanding::NotKnown),
                                                Just(CountStanding::Silent)],
                        trouble in option::of(text())) -> UpstreamCount {
        let [calls, answered, ours, got] = numbers;
        UpstreamCount { component, source, calls, answered, ours, got, standing, trouble }
    }
}

prop_compose! {
    fn scenario()((name, title) in (text(), text()), verdict in verdict(), reasons in texts(),
                  requirements in vec((text(), requirement_verdict(), text()), 0..3),
                  faults in vec(fault().boxed(), 0..2), routes in vec(route().boxed(), 0..3),
                  timeline in vec((ms(), text()), 0..3), findings in texts(),
                  counts in vec(log_count().boxed(), 0..2),
                  upstream_counts in vec(upstream_count().boxed(), 0..2),
                  events in vec(event().boxed(), 0..2)) -> ScenarioResult {
        let requirements = requirements.into_iter()
            .map(|(id, verdict, detail)| ScenarioRequirement { id, verdict, detail }).collect();
        let timeline = timeline.into_iter().map(|(at_ms, what)| TimelineEntry { at_ms, what }).collect();
        ScenarioResult { name, title, verdict, reasons, requirements, faults, routes, timeline, findings, answered_by: None, counts,
            upstream_counts, events }
    }
}

prop_compose! {
    fn migration_line()((requirement, fact, expected, found) in (text(), text(), text(), text()),
                        standing in prop_oneof![Just(Standing::Holds), Just(Standing::Fails), Just(Standing::NotKnown)],
                        mend in proptest::option::of(text())) -> MigrationLine {
        MigrationLine { requirement, fact, standing, expected, found, mend }
    }
}

prop_compose! {
    /// Any result at all.
    pub(crate) fn any_result()(
        (run_id, environment, started_at, finished_at) in (text(), text(), text(), text()),
        ended in prop_oneof![Just(Ended::Completed), Just(Ended::Interrupted), Just(Ended::Refused),
                             Just(Ended::Aborted)],
        (kind, version, config) in (text(), text(), text()),
        verdict in verdict(), restored: bool, restore_with in proptest::option::of(text()), reasons in texts(),
        requirements in vec((text(), requirement_verdict(), texts(), text()), 0..4),
        scenarios in vec(scenario().boxed(), 0..3), findings in texts(),
        lines in proptest::option::of(vec(migration_line(), 0..3)),
        made_with in vec((text(), text()), 0..3),
        balance in vec(balance().boxed(), 0..3),
    ) -> RunResult {
        let requirements = requirements.into_iter().map(|(id, verdict, scenarios, detail)|
            RunRequirement { id, verdict, scenarios, detail }).collect();
        RunResult { schema: "harness/result/v1".into(), run_id, environment, started_at, finished_at, ended,
            gateway: GatewayIdentity { kind, version, config }, verdict, restored, restore_with, reasons,
            requirements,
            scenarios, outlook: None, migration: lines, findings, made_with, balance }
    }
}

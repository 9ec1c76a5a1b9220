//! Two sets of runs beside each other: a difference is found where there is one, and hardly ever where there is none.

use harness::compare::{Comparison, Figure, NotComparable, Outcome, compare};
use harness::verdict::result::RunResult;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::journal::{Part, Story};

/// A run whose events take so long, in milliseconds; `None`: never answered.
fn run(waits_ms: &[Option<u64>]) -> RunResult {
    let waits = waits_ms.to_vec();
    let number = u32::try_from(waits.len()).unwrap();
    Story::changed("cloud-down", move |scenario| scenario.injections = number)
        .edit(move |slot, told| {
            let place = slot.injection.map_or(0, |number| number as usize - 1);
            if slot.route == "agent" && slot.part == Part::Judged && slot.nth == 1 {
                match waits[place] {
                    Some(ms) => told.after(ms * 1000),
                    None => told.failed("client-timeout"),
                }
            }
        })
        .judge()
}

fn outcome(comparison: &Comparison, figure: Figure) -> &Outcome {
    let is_it = |line: &&harness::compare::Line| line.route == "agent" && line.figure == figure;
    &comparison.lines.iter().find(is_it).unwrap().outcome
}

fn of(first: &[Option<u64>], second: &[Option<u64>]) -> Comparison {
    compare(&[run(first)], &[run(second)]).unwrap()
}

fn around(seed: u64, count: usize, middle_ms: u64) -> Vec<Option<u64>> {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| Some(middle_ms + chance.random_range(0..200))).collect()
}

#[test]
fn a_slower_set_is_found_and_by_how_much() {
    let comparison = of(&around(1, 10, 1000), &around(2, 10, 2000));
    let Outcome::Differs { p, by } = outcome(&comparison, Figure::Worst) else { panic!("{comparison:?}") };
    assert!(*p < 0.001 && (900.0..1100.0).contains(by), "{p} {by}");
    assert!(matches!(outcome(&comparison, Figure::Steady), Outcome::NoDifference { .. }));
}

#[test]
fn what_is_alike_or_too_small_to_matter_is_no_difference() {
    let alike = of(&around(1, 10, 1000), &around(2, 10, 1000));
    assert!(matches!(outcome(&alike, Figure::Worst), Outcome::NoDifference { .. }), "{alike:?}");
    // A rank test is sure of it, and it is less than 250 ms.
    let small = of(&around(1, 10, 1000), &around(2, 10, 1220));
    let Outcome::NoDifference { p } = outcome(&small, Figure::Worst) else { panic!("{small:?}") };
    assert!(*p < 0.01, "{p}");
}

#[test]
fn below_ten_events_nothing_is_compared() {
    let comparison = of(&around(1, 9, 1000), &around(2, 10, 4000));
    let Outcome::NotCompared(why) = outcome(&comparison, Figure::Worst) else { panic!("{comparison:?}") };
    assert_eq!(why, "9 and 10 events; 10 a side are needed");
}

#[test]
fn nights_of_one_configuration_are_pooled_and_others_are_not() {
    let nights = |seed: u64, middle| [0, 1].map(|night| run(&around(seed + night, 5, middle)));
    let comparison = compare(&nights(1, 1000), &nights(5, 3000)).unwrap();
    assert!(matches!(outcome(&comparison, Figure::Worst), Outcome::Differs { .. }), "{comparison:?}");
    let [one, mut other] = nights(1, 1000);
    other.gateway.config = "another".into();
    assert!(matches!(
        compare(&[one.clone(), other], &nights(5, 1000)),
        Err(NotComparable::Mixed { set: "first", .. })
    ));
    let mut elsewhere = one.clone();
    elsewhere.environment = "home".into();
    assert!(matches!(
        compare(std::slice::from_ref(&one), &[elsewhere]),
        Err(NotComparable::Elsewhere { .. })
    ));
    assert_eq!(compare(&[], std::slice::from_ref(&one)), Err(NotComparable::Empty("first")));
    // The same file in another folder is the same.
    let mut moved = one.clone();
    for (label, value) in &mut moved.made_with {
        if label == "environment" {
            *value = format!("/elsewhere/{value}");
        }
    }
    assert!(compare(std::slice::from_ref(&one), &[moved]).is_ok());
    let mut edited = one.clone();
    for (label, value) in &mut edited.made_with {
        if label == "scenario cloud-down" {
            *value = "cloud-down.yaml (sha256 0)".into();
        }
    }
    let comparison = compare(&[one], &[edited]).unwrap();
    let Outcome::NotCompared(why) = outcome(&comparison, Figure::Worst) else { panic!("{comparison:?}") };
    assert!(why.contains("another one"), "{why}");
}

#[test]
fn misses_are_counted_and_rank_last() {
    let missing: Vec<Option<u64>> = (0..10).map(|place| (place >= 8).then_some(3000)).collect();
    let comparison = of(&around(1, 10, 1000), &missing);
    let Outcome::Differs { by, .. } = outcome(&comparison, Figure::Worst) else { panic!("{comparison:?}") };
    assert!(by.is_infinite() && *by > 0.0);
    let Outcome::Differs { by, .. } = outcome(&comparison, Figure::Misses) else { panic!("{comparison:?}") };
    assert_eq!(*by, 80.0);
}

/// A night of thirty outages whose longest waits are drawn: most take a while, some twice as long.
fn night(template: &RunResult, chance: &mut ChaCha8Rng, slower: f64) -> RunResult {
    let mut night = template.clone();
    for event in &mut night.scenarios[0].events {
        let (from, to) = if chance.random_bool(0.3) { (2500.0, 3500.0) } else { (1200.0, 1800.0) };
        for failover in event.routes.iter_mut().filter_map(|route| route.failover.as_mut()) {
            failover.worst_ms = Some(slower * chance.random_range(from..to));
        }
    }
    night
}

/// Of 2,000 pairs of alike nights at most 1 % may differ, and of nights that are half as slow again 80 % must.
#[test]
fn alike_nights_give_no_alarm_and_half_as_slow_again_is_found() {
    let mut template = run(&[Some(1000); 30]);
    let scenario = &mut template.scenarios[0];
    scenario.timeline.clear();
    scenario.faults.clear();
    let chance = &mut ChaCha8Rng::seed_from_u64(20);
    let mut found = |pairs: usize, slower: f64| {
        let differs = |_: &usize| {
            let sets = (night(&template, chance, 1.0), night(&template, chance, slower));
            let comparison = compare(&[sets.0], &[sets.1]).unwrap();
            matches!(outcome(&comparison, Figure::Worst), Outcome::Differs { .. })
        };
        (0..pairs).filter(differs).count()
    };
    let (alarms, hits) = (found(2000, 1.0), found(200, 1.5));
    assert!(alarms <= 20, "{alarms} of 2000");
    assert!(hits >= 160, "{hits} of 200");
}

//! Two sets of runs beside each other: is one slower, or does it miss more often? Pure: results in, lines out.
//!
//! One value stands for one injection. The rule finds a difference only where a rank test does (Mann and Whitney, two-sided,
//! at 1 %, corrected over all that is compared), and the shift is large enough to matter and to be measured; below ten
//! events a side nothing is compared. On pairs of alike nights it is wrong in less than 1 of 100; a difference that it finds is
//! confirmed by another run.

mod events;

use std::collections::BTreeSet;

use crate::statistics::{benjamini_hochberg, fisher_exact, hodges_lehmann, mann_whitney};
use crate::verdict::result::RunResult;

use self::events::{Event, events};

/// At so many events a side anything is compared at all.
pub const EVENTS_MIN: usize = 10;
/// The share of differences that may be chance.
const RATE: f64 = 0.01;
/// A shift below this share of the first set's median is none.
const SHIFT_RATIO: f64 = 0.2;
/// Nor is one below this.
const SHIFT_MS: f64 = 250.0;

/// Why two sets cannot be laid beside each other at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotComparable {
    /// Nothing in one of them.
    #[error("there is no judged run in the {0} set")]
    Empty(&'static str),
    /// Runs of one set do not belong together.
    #[error("the {set} set has runs of different configurations: {one} and {other}; pool only runs of one")]
    Mixed {
        /// `first` or `second`.
        set: &'static str,
        /// What one of them ran with.
        one: String,
        /// What another ran with.
        other: String,
    },
    /// The sets were taken in different environments.
    #[error("the sets were taken in different environments: {one} and {other}")]
    Elsewhere {
        /// That of the first.
        one: String,
        /// That of the second.
        other: String,
    },
}

/// What came of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What each set ran with.
    pub configurations: (String, String),
    /// One entry a scenario, route and figure.
    pub lines: Vec<Line>,
}

/// One figure of one route in one scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Scenario.
    pub scenario: String,
    /// Route.
    pub route: String,
    /// Which figure.
    pub figure: Figure,
    /// Events of the first and of the second set.
    pub events: (usize, usize),
    /// Their medians in milliseconds, `None` where that event never ended; of misses how many there were.
    pub typical: (Option<f64>, Option<f64>),
    /// What the rule says.
    pub outcome: Outcome,
}

/// What each event has once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// The longest wait of a request.
    Worst,
    /// From the fault until service is steady.
    Steady,
    /// From the heal until the primary serves steadily.
    Back,
    /// Whether one of the readings of NFR123 did not hold.
    Misses,
}

impl Figure {
    /// For people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Worst => "longest wait",
            Self::Steady => "steady after",
            Self::Back => "back after",
            Self::Misses => "missed",
        }
    }
}

/// What the rule says of one figure.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It cannot say anything, and why.
    NotCompared(String),
    /// No difference that the rule finds; that is not to say that there is none.
    NoDifference {
        /// The p-value of the test.
        p: f64,
    },
    /// A difference, to be confirmed by another run.
    Differs {
        /// The p-value of the test.
        p: f64,
        /// How much longer the second set takes, in milliseconds, infinite where most of one never ended; of misses how many
        /// more of a hundred.
        by: f64,
    },
}

/// Lay two sets of runs beside each other.
///
/// # Errors
/// Where the sets cannot be compared at all.
pub fn compare(first: &[RunResult], second: &[RunResult]) -> Result<Comparison, NotComparable> {
    let configurations = (configuration(first, "first")?, configuration(second, "second")?);
    let elsewhere = |runs: &[RunResult]| runs.first().map(environment).unwrap_or_default();
    if elsewhere(first) != elsewhere(second) {
        return Err(NotComparable::Elsewhere { one: elsewhere(first), other: elsewhere(second) });
    }
    let (ours, theirs) = (events(first), events(second));
    let both: BTreeSet<&(String, String)> = ours.keys().chain(theirs.keys()).collect();
    let mut drafts: Vec<Draft> = Vec::new();
    for class in both {
        let none = Vec::new();
        let (a, b) = (ours.get(class).unwrap_or(&none), theirs.get(class).unwrap_or(&none));
        let changed = scenario_file(first, &class.0) != scenario_file(second, &class.0);
        drafts.extend(
            [Figure::Worst, Figure::Steady, Figure::Back].map(|figure| times(class, figure, a, b, changed)),
        );
        drafts.push(misses(class, a, b, changed));
    }
    let tested: Vec<f64> = drafts.iter().filter_map(|draft| Some(draft.test.as_ref()?.0)).collect();
    let mut believed = benjamini_hochberg(&tested, RATE).into_iter();
    let lines = drafts.into_iter().map(|draft| draft.decided(&mut believed)).collect();
    Ok(Comparison { configurations, lines })
}

/// A line before the correction for all of them.
struct Draft {
    line: Line,
    /// p-value, shift, and the least shift that counts.
    test: Option<(f64, f64, f64)>,
}

impl Draft {
    fn decided(self, believed: &mut impl Iterator<Item = bool>) -> Line {
        let Some((p, by, least)) = self.test else { return self.line };
        let is_believed = believed.next().unwrap_or(false);
        let outcome = if is_believed && by.abs() >= least {
            Outcome::Differs { p, by }
        } else {
            Outcome::NoDifference { p }
        };
        Line { outcome, ..self.line }
    }
}

fn times(class: &(String, String), figure: Figure, a: &[Event], b: &[Event], changed: bool) -> Draft {
    let of = |events: &[Event]| -> Vec<Option<f64>> {
        events
            .iter()
            .filter_map(|event| match figure {
                Figure::Worst => Some(event.worst_ms),
                Figure::Steady => Some(event.steady_ms),
                Figure::Back => event.back_ms,
                Figure::Misses => None,
            })
            .collect()
    };
    let (ours, theirs) = (of(a), of(b));
    let typical = (median(&ours), median(&theirs));
    let test = why_not(ours.len(), theirs.len(), changed).is_none().then(|| {
        let resolution = a.iter().chain(b).map(|event| event.width_ms).fold(0.0, f64::max);
        let least = (SHIFT_RATIO * typical.0.unwrap_or(0.0)).max(SHIFT_MS).max(2.0 * resolution);
        (mann_whitney(&ours, &theirs), hodges_lehmann(&ours, &theirs).unwrap_or(0.0), least)
    });
    draft(class, figure, (ours.len(), theirs.len()), typical, changed, test)
}

fn misses(class: &(String, String), a: &[Event], b: &[Event], changed: bool) -> Draft {
    let missed = |events: &[Event]| events.iter().filter(|event| event.missed).count() as u64;
    let (ours, theirs) = (missed(a), missed(b));
    let (of, other_of) = (a.len() as u64, b.len() as u64);
    let test = why_not(a.len(), b.len(), changed).is_none().then(|| {
        let more = 100.0 * (theirs as f64 / other_of as f64 - ours as f64 / of as f64);
        (fisher_exact((ours, of), (theirs, other_of)), more, f64::MIN_POSITIVE)
    });
    draft(class, Figure::Misses, (a.len(), b.len()), (Some(ours as f64), Some(theirs as f64)), changed, test)
}

fn draft(
    (scenario, route): &(String, String),
    figure: Figure,
    events: (usize, usize),
    typical: (Option<f64>, Option<f64>),
    changed: bool,
    test: Option<(f64, f64, f64)>,
) -> Draft {
    let why = why_not(events.0, events.1, changed).unwrap_or_default();
    let (scenario, route) = (scenario.clone(), route.clone());
    Draft {
        line: Line { scenario, route, figure, events, typical, outcome: Outcome::NotCompared(why) },
        test,
    }
}

fn why_not(ours: usize, theirs: usize, changed: bool) -> Option<String> {
    if changed {
        return Some("the scenario's file is another one".to_owned());
    }
    (ours.min(theirs) < EVENTS_MIN)
        .then(|| format!("{ours} and {theirs} events; {EVENTS_MIN} a side are needed"))
}

/// The event in the middle, the earlier of two; `None` where it never ended, or there is none.
fn median(events: &[Option<f64>]) -> Option<f64> {
    let mut sorted: Vec<f64> = events.iter().map(|event| event.unwrap_or(f64::INFINITY)).collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len().checked_sub(1)? / 2;
    sorted.get(middle).copied().filter(|value| value.is_finite())
}

fn made_with<'r>(run: &'r RunResult, label: &str) -> &'r str {
    run.made_with.iter().find(|(known, _)| known == label).map_or("not told", |(_, value)| value)
}

fn environment(run: &RunResult) -> String {
    format!("{} (sha256 {})", run.environment, hash(made_with(run, "environment")))
}

/// Of what is told of a file, that which is the same wherever it lies.
fn hash(told: &str) -> &str {
    told.rsplit_once("sha256 ").map_or(told, |(_, hash)| hash.trim_end_matches(')'))
}

/// What all runs of a set ran with.
fn configuration(runs: &[RunResult], set: &'static str) -> Result<String, NotComparable> {
    let of = |run: &RunResult| {
        let gateway = &run.gateway;
        format!("{} {} with {} in {}", gateway.kind, gateway.version, gateway.config, environment(run))
    };
    let one = runs.first().map(of).ok_or(NotComparable::Empty(set))?;
    match runs.iter().map(of).find(|other| *other != one) {
        Some(other) => Err(NotComparable::Mixed { set, one, other }),
        None => Ok(one),
    }
}

/// The files of a scenario that a set has run.
fn scenario_file(runs: &[RunResult], scenario: &str) -> BTreeSet<String> {
    let label = format!("scenario {scenario}");
    runs.iter()
        .filter(|run| run.scenarios.iter().any(|own| own.name == scenario))
        .map(|run| hash(made_with(run, &label)).to_owned())
        .collect()
}

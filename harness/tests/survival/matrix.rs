//! Every kind of call that a program makes (verb, resource, step), failed in every way, in clusters of several variants.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt as _;
use mocks::kubernetes::api::{AuditEntry, ChaosRule, Trouble};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::gate::GATE;
use crate::lane::{Lane, Variant, figures, setting};

/// A verb and a resource, and what of it where a variant adds that: how many calls of the same verb and resource come
/// before each.
type Calls = BTreeMap<(String, String, &'static str), Vec<u32>>;

/// Kinds of call are not told apart by names but for what only a variant has.
fn subject(entry: &AuditEntry) -> &'static str {
    if entry.name.starts_with(GATE) { GATE } else { "" }
}

/// One call, and what becomes of it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    variant: Variant,
    verb: String,
    resource: String,
    /// How many of these calls come through before.
    step: u32,
    /// How many fail; none for all that follow.
    times: Option<u32>,
    trouble: Trouble,
}

impl Case {
    /// From now on, until [`calm`].
    pub(crate) fn begin(&self, lane: &Lane) {
        let Self { verb, resource, step, times, trouble, .. } = self.clone();
        let chaos = lane.stack.household.cluster().chaos();
        chaos.add_after(step, ChaosRule { verb, resource, times, trouble });
    }
}

/// The API is well again.
pub(crate) fn calm(lane: &Lane) {
    lane.stack.household.cluster().chaos().clear();
}

/// What can become of a call: what the API says, what the network does.
fn troubles() -> [(Trouble, Option<u32>); 8] {
    let refused = |code, retry_after| Trouble::Refused { code, retry_after };
    [
        (refused(409, None), Some(1)),
        (refused(429, Some(1)), Some(1)),
        (refused(500, None), Some(1)),
        (refused(503, None), None),
        (refused(403, None), Some(1)),
        (Trouble::Cut, Some(1)),
        (Trouble::Hang, Some(1)),
        (Trouble::LostAnswer, Some(1)),
    ]
}

/// A program whose calls fail.
pub(crate) trait Program: Send + Sync + 'static {
    /// Runs it in a cluster without trouble; from which entry of the audit on it makes its calls.
    fn undisturbed(lane: &Lane) -> impl Future<Output = usize> + Send;
    /// Runs it while that call fails: the exit code, or a complaint.
    fn play(case: &Case, lane: &Lane) -> impl Future<Output = Result<i32, String>> + Send;
}

/// What it calls without trouble.
async fn calls<P: Program>(variant: Variant) -> (Variant, Calls) {
    let lane = Lane::start_as(variant).await;
    let from = P::undisturbed(&lane).await;
    let (mut calls, mut counts) = (Calls::new(), BTreeMap::<(String, String), u32>::new());
    let entries: Vec<AuditEntry> = lane.stack.household.cluster().audit().entries();
    for entry in entries.into_iter().skip(from) {
        let subject = subject(&entry);
        let count = counts.entry((entry.verb.clone(), entry.resource.clone())).or_default();
        calls.entry((entry.verb, entry.resource, subject)).or_default().push(*count);
        *count += 1;
    }
    lane.strike().await;
    (variant, calls)
}

/// All of them: the first, a middle and the last call of each kind that it makes without trouble. In the later variants
/// only kinds that no variant before had.
async fn cases<P: Program>() -> Vec<Case> {
    let mut all = BTreeMap::new();
    // Two at a time: a busy machine would disturb them.
    for some in Variant::ALL.chunks(2) {
        let mut looking: JoinSet<_> = some.iter().copied().map(calls::<P>).collect();
        while let Some(looked) = looking.join_next().await {
            let (variant, calls) = looked.unwrap();
            all.insert(variant, calls);
        }
    }
    let (mut known, mut cases) = (BTreeSet::new(), Vec::new());
    for (variant, calls) in all {
        let new = calls.into_iter().filter(|(kind, _)| known.insert(kind.clone()));
        for ((verb, resource, _), at) in new {
            let mut steps = vec![at[0], at[at.len() / 2], at[at.len() - 1]];
            steps.dedup();
            for step in steps {
                for (trouble, times) in troubles() {
                    let (verb, resource) = (verb.clone(), resource.clone());
                    cases.push(Case { variant, verb, resource, step, times, trouble });
                }
            }
        }
    }
    for variant in Variant::ALL {
        assert!(cases.iter().any(|case| case.variant == variant), "{variant:?} calls nothing of its own");
    }
    cases
}

/// How many cases of each variant.
fn counts(cases: &[Case]) -> String {
    let mut counts = BTreeMap::<Variant, usize>::new();
    for case in cases {
        *counts.entry(case.variant).or_default() += 1;
    }
    format!("{counts:?}")
}

/// How cases ended.
#[derive(Default)]
struct Played {
    codes: BTreeMap<i32, usize>,
    complaints: Vec<String>,
}

/// What a check that did not hold has said: one case is no reason to play no other.
fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}

/// One cluster after the other, each as long as the next case is for its variant and nothing is left in it.
async fn play_some<P: Program>(cases: Arc<Mutex<Vec<Case>>>) -> Played {
    let (mut played, mut lane) = (Played::default(), None::<Lane>);
    loop {
        let Some(case) = cases.lock().await.pop() else { break };
        let fit = match lane.take() {
            Some(fit) if fit.variant == case.variant => fit,
            other => {
                if let Some(other) = other {
                    other.strike().await;
                }
                Lane::start_as(case.variant).await
            }
        };
        let play = AssertUnwindSafe(P::play(&case, &fit)).catch_unwind().await;
        match play.unwrap_or_else(|panic| Err(words_of(panic.as_ref()))) {
            Ok(code) => {
                *played.codes.entry(code).or_default() += 1;
                lane = Some(fit);
            }
            Err(complaint) => {
                let complaint = format!("{case:?}: {complaint}");
                // The whole matrix takes hours: nobody has to wait for its end.
                figures(&format!("{complaint}\n\n"));
                played.complaints.push(complaint);
                // What is left would disturb the next.
                fit.strike().await;
            }
        }
    }
    if let Some(lane) = lane {
        lane.strike().await;
    }
    played
}

/// Plays so many of the cases as the environment or else the default says.
pub(crate) async fn play_all<P: Program>(whose: &str, default: u64) {
    let (seed, wanted) = (setting("HARNESS_TEST_SEED", 7), setting("FAILOVER_TEST_TROUBLES", default));
    let lanes = setting("FAILOVER_TEST_LANES", 5);
    let begun = Instant::now();
    let mut cases = cases::<P>().await;
    let mut words = format!("{whose}: {} kinds of trouble, {}; ", cases.len(), counts(&cases));
    if let Ok(meant) = std::env::var("FAILOVER_TEST_TROUBLES_OF") {
        cases.retain(|case| format!("{case:?}").contains(&meant));
    }
    cases.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    if wanted > 0 {
        cases.truncate(usize::try_from(wanted).unwrap());
    }
    // A cluster need not be replaced as long as its variant stays.
    cases.sort_by_key(|case| case.variant);
    let count = cases.len();
    write!(words, "{count} played, {}", counts(&cases)).unwrap();
    let cases = Arc::new(Mutex::new(cases));
    let mut tasks: JoinSet<Played> = (0..lanes).map(|_| play_some::<P>(Arc::clone(&cases))).collect();
    let mut played = Played::default();
    while let Some(ended) = tasks.join_next().await {
        let some = ended.unwrap();
        for (code, count) in some.codes {
            *played.codes.entry(code).or_default() += count;
        }
        played.complaints.extend(some.complaints);
    }
    let Played { codes, complaints } = played;
    let complaints: Vec<String> =
        complaints.into_iter().map(|complaint| format!("seed {seed}, {complaint}")).collect();
    let took = begun.elapsed().as_secs();
    figures(&format!("{words} in {took} s, exit codes {codes:?}, {} complaints\n", complaints.len()));
    assert!(complaints.is_empty(), "{} of {count}:\n{}", complaints.len(), complaints.join("\n\n"));
    assert!(count > 0 && codes.values().sum::<usize>() == count);
}

//! kill -9 at a random instant, whatever components are taken down by; a third of it followed by an API that is away for a
//! while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mocks::kubernetes::api::{ChaosRule, Trouble};
use mocks::kubernetes::resources::JOBS;
use mocks::kubernetes::store::{ObjectKey, Writer};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::Mutex;

use crate::lane::{Lane, Variant, figures, kill_after, setting};

/// A run with a hold of a second takes about so long.
const RUN_TAKES: Duration = Duration::from_secs(14);

/// The API comes back by then.
const AWAY_AT_MOST: Duration = Duration::from_secs(40);
/// A run completes by then that is started again and again.
const RUNS_AGAIN_WITHIN: Duration = AWAY_AT_MOST.saturating_mul(4);

/// Who comes after a run that was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rescue {
    /// `harness restore` by a person.
    Person,
    /// The sweeper, as its CronJob calls it.
    Sweeper,
    /// The same program in a new run.
    NextRun,
    /// Nothing of ours: the Job's time is over. It cannot write a count, so it is for the cloud only, and only where a
    /// policy cuts that off.
    ControlPlane,
}

impl Rescue {
    /// Those that there are. A packet filter and a gate end by themselves, too, but only after the minutes that a run gives
    /// them.
    fn of(variant: Variant) -> &'static [Self] {
        match variant {
            Variant::Stock | Variant::IsolateAndPause => {
                &[Self::Person, Self::Sweeper, Self::NextRun, Self::ControlPlane]
            }
            Variant::NetnsDrop | Variant::EgressProxy => &[Self::Person, Self::Sweeper, Self::NextRun],
        }
    }
}

/// One run and its end.
struct Case {
    number: u64,
    variant: Variant,
    mode: usize,
    rescue: Rescue,
    /// Counted from when it has begun to write what it will change, or else from its start.
    armed: bool,
    after: Duration,
    away: Option<Duration>,
    chance: ChaCha8Rng,
}

impl Case {
    fn draw(seed: u64, number: u64) -> Self {
        let mut chance = ChaCha8Rng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number));
        // As many of each, beginning with any.
        let first = ChaCha8Rng::seed_from_u64(seed).random_range(0..Variant::ALL.len() as u64);
        let variant = Variant::ALL[usize::try_from((first + number) % Variant::ALL.len() as u64).unwrap()];
        let rescues = Rescue::of(variant);
        let rescue = rescues[chance.random_range(0..rescues.len())];
        let mode = if rescue == Rescue::ControlPlane { 0 } else { chance.random_range(0..4) };
        let after = RUN_TAKES.mul_f64(chance.random_range(0.0..1.0));
        let away = chance.random_range(Duration::from_millis(500)..AWAY_AT_MOST);
        let armed = chance.random_range(0..4) > 0;
        let away = number.is_multiple_of(3).then_some(away);
        Self { number, variant, mode, rescue, armed, after, away, chance }
    }

    /// One for a cluster of this variant, or else of the one that most are left of.
    fn next(cases: &mut Vec<Self>, fit: Option<Variant>) -> Option<Self> {
        let left = |variant| cases.iter().filter(|case| case.variant == variant).count();
        let most = Variant::ALL.into_iter().max_by_key(|variant| left(*variant));
        let variant = fit.filter(|variant| left(*variant) > 0).or(most)?;
        let at = cases.iter().position(|case| case.variant == variant)?;
        Some(cases.remove(at))
    }

    /// What was left right after the kill, or a complaint.
    async fn play(mut self, lane: &mut Lane) -> Result<bool, String> {
        lane.deal(&mut self.chance).await;
        let file = lane.mode(self.mode);
        let mut running = lane.stack.harness("run", std::slice::from_ref(&file));
        if self.armed {
            lane.until_armed(&mut running).await?;
        }
        kill_after(&mut running, self.after).await;
        let was_open = !lane.open_records().is_empty();
        if let Some(away) = self.away {
            let rule = ChaosRule {
                verb: String::new(),
                resource: String::new(),
                times: None,
                trouble: Trouble::Cut,
            };
            let chaos = lane.stack.household.cluster().chaos().clone();
            chaos.add(rule);
            tokio::spawn(async move {
                // The API comes back while somebody is at it.
                let _ = tokio::time::timeout(away, std::future::pending::<()>()).await;
                chaos.clear();
            });
        }
        let mut said = String::new();
        match self.rescue {
            Rescue::Person => drop(lane.restore(&[]).await.expect(0)),
            Rescue::Sweeper => drop(lane.restore(&["--abandoned"]).await.expect(0)),
            Rescue::NextRun => {
                // An API that is away refuses the run; whoever wants it starts it again.
                let (begun, mut again) = (Instant::now(), tokio::time::interval(Duration::from_secs(1)));
                loop {
                    again.tick().await;
                    let ended = lane.stack.harness("run", std::slice::from_ref(&file)).end().await;
                    said.push_str(&format!(
                        "{:?} {}\n{}\n",
                        ended.status.code(),
                        ended.reasons(),
                        ended.stderr
                    ));
                    if ended.result["ended"] == "completed" || begun.elapsed() >= RUNS_AGAIN_WITHIN {
                        break;
                    }
                }
            }
            Rescue::ControlPlane => end_jobs(lane),
        }
        let changed = lane.changed().await;
        if !changed.is_empty() {
            return Err(format!("{said}\n{changed:?}\n{}", lane.story()));
        }
        if self.rescue == Rescue::ControlPlane {
            // What the control plane cannot do is to close the record.
            drop(lane.restore(&[]).await.expect(0));
        }
        let open = lane.open_records();
        if open.is_empty() {
            Ok(was_open)
        } else {
            Err(format!("{said}\nrecords are open: {open:#?}\n{}", lane.story()))
        }
    }
}

/// The time of all Jobs is over in a second: a run gives them minutes.
fn end_jobs(lane: &Lane) {
    let store = lane.stack.household.cluster().store();
    for job in store.list(&JOBS, Some("ml")).items {
        let key = ObjectKey::new(&JOBS, "ml", job["metadata"]["name"].as_str().unwrap());
        let sooner = store.update(&key, Writer::of_object("kubectl"), |object| {
            object["spec"]["activeDeadlineSeconds"] = 1.into();
            Ok(())
        });
        // It may just have gone by itself.
        drop(sooner);
    }
}

/// Of which kind a case was: also whether the API was away, and whether a record was open after the kill.
type Kind = (Variant, Rescue, bool, bool);

/// How cases ended.
#[derive(Default)]
struct Played {
    kinds: BTreeMap<Kind, u64>,
    complaints: Vec<String>,
}

/// One cluster after the other, each as long as there are cases for its variant and nothing is left in it.
async fn play_some(seed: u64, cases: Arc<Mutex<Vec<Case>>>) -> Played {
    let (mut played, mut lane) = (Played::default(), None::<Lane>);
    loop {
        let fit = lane.as_ref().map(|lane| lane.variant);
        let next = Case::next(&mut *cases.lock().await, fit);
        let Some(case) = next else { break };
        let mut fit = match lane.take() {
            Some(fit) if fit.variant == case.variant => fit,
            other => {
                if let Some(other) = other {
                    other.strike().await;
                }
                Lane::start_as(case.variant).await
            }
        };
        let (variant, rescue, away) = (case.variant, case.rescue, case.away.is_some());
        let words = format!(
            "seed {seed}, case {}, {variant:?}: {rescue:?} in mode {} after {:?}",
            case.number, case.mode, case.after
        );
        match case.play(&mut fit).await {
            Ok(was_open) => {
                *played.kinds.entry((variant, rescue, away, was_open)).or_default() += 1;
                lane = Some(fit);
            }
            Err(complaint) => {
                played.complaints.push(format!("{words}: {complaint}"));
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

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_runs_that_are_killed() {
    let (seed, kills) = (setting("HARNESS_TEST_SEED", 7), setting("FAILOVER_TEST_KILLS", 20));
    let only = setting("FAILOVER_TEST_ONLY", 0);
    let cases: Vec<Case> = (1..=kills)
        .filter(|number| only == 0 || *number == only)
        .map(|number| Case::draw(seed, number))
        .collect();
    let wanted = cases.len() as u64;
    let lanes = setting("FAILOVER_TEST_LANES", 5).min(wanted);
    let (begun, cases) = (Instant::now(), Arc::new(Mutex::new(cases)));
    let mut tasks: tokio::task::JoinSet<Played> =
        (0..lanes).map(|_| play_some(seed, Arc::clone(&cases))).collect();
    let mut played = Played::default();
    while let Some(ended) = tasks.join_next().await {
        let some = ended.unwrap();
        for (kind, count) in some.kinds {
            *played.kinds.entry(kind).or_default() += count;
        }
        played.complaints.extend(some.complaints);
    }
    let Played { kinds, complaints } = played;
    let took = begun.elapsed().as_secs();
    let table: Vec<String> = kinds
        .iter()
        .map(|((variant, rescue, away, open), count)| {
            format!("{variant:?}: {rescue:?}, API away {away}, record open {open}: {count}")
        })
        .collect();
    figures(&format!(
        "{kills} runs killed in {took} s, {} left something\n{}\n",
        complaints.len(),
        table.join("\n")
    ));
    assert!(complaints.is_empty(), "{} of {kills}:\n{}", complaints.len(), complaints.join("\n\n"));
    assert_eq!(kinds.values().sum::<u64>(), wanted);
    let variants: BTreeSet<Variant> = kinds.keys().map(|(variant, ..)| *variant).collect();
    assert_eq!(variants.len(), Variant::ALL.len().min(usize::try_from(wanted).unwrap()), "{table:?}");
    let open = kinds.iter().filter(|((.., was_open), _)| *was_open).map(|(_, count)| count).sum::<u64>();
    assert!(wanted < 10 || open * 2 > wanted, "few were killed in the middle: {table:?}");
}

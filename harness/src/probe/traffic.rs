//! The traffic of one mode: ticks of the pacer become probes, and every probe becomes a journal entry.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::{Prober, Request};
use super::pacer::{Pacer, Schedule, Tick};
use crate::journal::{Censoring, Event, Journal, Outcome, ProbeRecord, Purpose};
use crate::plan::{Budget, PlannedRoute};
use crate::scenario::Forms;

/// What a mode's traffic needs.
pub struct TrafficOptions {
    /// Scenario name.
    pub scenario: String,
    /// Which of its injections, where it has more than one.
    pub injection: Option<u32>,
    /// The routes.
    pub routes: Vec<PlannedRoute>,
    /// Sends probes.
    pub prober: Prober,
    /// Where probes end up.
    pub journal: Arc<Journal>,
    /// What is left to ask of each component; shared over the whole run.
    pub budgets: Arc<Mutex<BTreeMap<String, Budget>>>,
    /// For each route of `routes`: the components whose budget a probe may touch.
    pub touches: Vec<Vec<String>>,
    /// For each route of `routes`: tokens of its prompt.
    pub prompt_tokens: Vec<u64>,
    /// First intended start of each route, in microseconds of the run's clock.
    pub first_us: Vec<u64>,
    /// Only on kept-alive connections, whatever the routes say.
    pub always_kept: bool,
}

/// One probe as the run itself sees it while it goes on; the analysis does not use this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveProbe {
    /// Intended start.
    pub intended_us: u64,
    /// `None` while it is open; then who served by the gateway's header, or the error class.
    pub ended: Option<Result<String, String>>,
}

/// What the run can see of its traffic while it goes on.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// Probes by route, in order of their intended starts.
    pub probes: BTreeMap<String, Vec<LiveProbe>>,
}

impl Live {
    /// Whether each probe meant to start up to then has ended.
    #[must_use]
    pub fn all_ended_up_to(&self, intended_us: u64) -> bool {
        self.probes.values().all(|probes| {
            // A probe meant to start by then may still be on its way from a pacer that is late: only one
            // that is meant to start later shows that there is none.
            let all_sent = probes.last().is_some_and(|newest| newest.intended_us > intended_us);
            let meant = probes.iter().filter(|probe| probe.intended_us <= intended_us);
            all_sent && meant.map(|probe| &probe.ended).all(Option::is_some)
        })
    }
}

/// Running traffic.
pub struct Traffic {
    pacer: Pacer,
    spawner: Option<JoinHandle<()>>,
    probes: TaskTracker,
    cut: CancellationToken,
    live: watch::Receiver<Live>,
    paused: Arc<AtomicBool>,
}

impl Traffic {
    /// Start the schedule.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(options: TrafficOptions) -> std::io::Result<Self> {
        let schedules = options.routes.iter().zip(&options.first_us).enumerate();
        let schedules = schedules.map(|(route, (planned, &first_us))| Schedule {
            route,
            first_us,
            interval_us: u64::try_from(planned.rate.interval().as_micros()).unwrap_or(u64::MAX).max(1),
        });
        let (pacer, mut ticks) = Pacer::start(schedules.collect(), options.journal.clock())?;
        let routes = options.routes.iter().map(|planned| (planned.route.clone(), Vec::new()));
        let (sender, live) = watch::channel(Live { probes: routes.collect() });
        let (probes, cut) = (TaskTracker::new(), CancellationToken::new());
        let paused = Arc::new(AtomicBool::new(false));
        let open = options.routes.iter().map(|_| AtomicUsize::new(0)).collect();
        let source = Arc::new(Source { options, live: sender, paused: Arc::clone(&paused), open });
        let (tracker, token) = (probes.clone(), cut.clone());
        let spawner = tokio::spawn(async move {
            while let Some(tick) = ticks.recv().await {
                source.tick(tick, &tracker, &token);
            }
        });
        Ok(Self { pacer, spawner: Some(spawner), probes, cut, live, paused })
    }

    /// Send nothing until [`Self::resume`]: the schedule goes on, and each probe that it plans is journaled as skipped.
    pub fn pause(&self) {
        self.paused.store(true, Ordering::Relaxed);
    }

    /// Send again.
    pub fn resume(&self) {
        self.paused.store(false, Ordering::Relaxed);
    }

    /// What can be seen now, and a way to wait for more.
    #[must_use]
    pub fn live(&self) -> watch::Receiver<Live> {
        self.live.clone()
    }

    /// Plan no more probes, and wait until each one that was sent has ended; each has its own timeout.
    /// `abandon` gives them up at once: they are journaled as censored.
    pub async fn finish(mut self, abandon: &CancellationToken) {
        self.pacer.stop();
        let spawned = match self.spawner.take() {
            Some(spawner) => spawner.await,
            None => Ok(()),
        };
        self.probes.close();
        tokio::select! {
            () = self.probes.wait() => {}
            () = abandon.cancelled() => {
                self.cut.cancel();
                self.probes.wait().await;
            }
        }
        if let Err(error) = spawned
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.pacer.stop();
        self.cut.cancel();
    }
}

struct Source {
    options: TrafficOptions,
    live: watch::Sender<Live>,
    paused: Arc<AtomicBool>,
    /// Probes in flight, by route: counted, since looking through all of them takes longer than a fast schedule has.
    open: Vec<AtomicUsize>,
}

impl Source {
    fn tick(self: &Arc<Self>, tick: Tick, tracker: &TaskTracker, cut: &CancellationToken) {
        let planned = &self.options.routes[tick.route];
        // The open schedule needs room for everything that can be open at once; beyond that something is
        // wrong with the schedule itself, and the probe is skipped, visibly.
        let open_max = (planned.rate.per_second() * planned.timeout.0.as_secs_f64()).ceil() as usize + 16;
        let open = self.open[tick.route].load(Ordering::Relaxed);
        let refused = if self.paused.load(Ordering::Relaxed) {
            Some("traffic is paused so that old connections drain".to_owned())
        } else if open > open_max {
            Some("too many probes in flight".to_owned())
        } else {
            self.spend(tick)
        };
        if let Some(reason) = refused {
            let slot = self.open(&planned.route, tick.intended_us);
            self.end(&planned.route, slot, Err(format!("not sent: {reason}")));
            self.options.journal.append(Event::ProbeSkipped {
                scenario: self.options.scenario.clone(),
                route: planned.route.clone(),
                intended_us: tick.intended_us,
                reason,
            });
            return;
        }
        let (streamed, fresh) = form_of(planned.stream, tick.index);
        let fresh = fresh && !self.options.always_kept;
        let request = Request {
            id: probe_id(&self.options.scenario, self.options.injection, &planned.route, tick),
            scenario: self.options.scenario.clone(),
            route: planned.route.clone(),
            purpose: Purpose::Traffic,
            model: planned.model.clone(),
            streamed,
            fresh,
            max_tokens: planned.max_tokens,
            timeout: planned.timeout.0,
            intended_us: tick.intended_us,
        };
        let slot = self.open(&planned.route, tick.intended_us);
        self.open[tick.route].fetch_add(1, Ordering::Relaxed);
        let (source, cut, route) = (Arc::clone(self), cut.clone(), tick.route);
        tracker.spawn(async move {
            let started_us = source.options.journal.clock().now_us();
            let record = tokio::select! {
                record = source.options.prober.send(&request) => record,
                () = cut.cancelled() => censored(&request, started_us, source.options.journal.clock().now_us()),
            };
            source.open[route].fetch_sub(1, Ordering::Relaxed);
            source.close(&record, slot);
            source.options.journal.append(Event::ProbeEnded(Box::new(record)));
        });
    }

    /// Take one probe from every budget it may touch; the reason where one does not allow it.
    fn spend(&self, tick: Tick) -> Option<String> {
        let prompt = self.options.prompt_tokens[tick.route];
        let tokens = prompt + u64::from(self.options.routes[tick.route].max_tokens);
        let mut budgets = self.options.budgets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let touched = &self.options.touches[tick.route];
        if let Some(name) =
            touched.iter().find(|name| budgets.get(*name).is_some_and(|left| !left.allows(tokens)))
        {
            return Some(format!("the ceiling of {name} is reached"));
        }
        for name in touched {
            if let Some(budget) = budgets.get_mut(name) {
                budget.take(tokens);
            }
        }
        None
    }

    fn open(&self, route: &str, intended_us: u64) -> usize {
        let mut slot = 0;
        self.live.send_modify(|live| {
            let probes = live.probes.entry(route.to_owned()).or_default();
            slot = probes.len();
            probes.push(LiveProbe { intended_us, ended: None });
        });
        slot
    }

    fn close(&self, record: &ProbeRecord, slot: usize) {
        let ended = match &record.outcome {
            Outcome::Ok => Ok(crate::attribution::by_header(record).unwrap_or_else(|| "unknown".into())),
            Outcome::Error(class) => Err(class.clone()),
            Outcome::Censored(_) => Err("censored".into()),
        };
        self.end(&record.route, slot, ended);
    }

    fn end(&self, route: &str, slot: usize, ended: Result<String, String>) {
        self.live.send_modify(|live| {
            if let Some(probe) = live.probes.get_mut(route).and_then(|probes| probes.get_mut(slot)) {
                probe.ended = Some(ended);
            }
        });
    }
}

/// Unique in the run, and short enough for every place that carries it (64 characters).
fn probe_id(scenario: &str, injection: Option<u32>, route: &str, tick: Tick) -> String {
    // Names have no dots.
    let number = injection.map(|number| format!(".{number}")).unwrap_or_default();
    let readable = format!("{scenario}{number}-{route}-{}", tick.index);
    // Intended starts are unique on a route; the route's number keeps two routes apart.
    if readable.len() <= 64 { readable } else { format!("probe-{}-{}", tick.route, tick.intended_us) }
}

/// (streamed, fresh) of the n-th probe.
fn form_of(forms: Forms, index: u64) -> (bool, bool) {
    match forms {
        Forms::Mixed => (index % 2 == 1, index % 4 < 2),
        Forms::Whole => (false, index.is_multiple_of(2)),
        Forms::Streamed => (true, index.is_multiple_of(2)),
    }
}

/// Given up while open: all that is known is that it took longer.
fn censored(request: &Request, sent_us: u64, now_us: u64) -> ProbeRecord {
    ProbeRecord { ended_us: now_us, outcome: Outcome::Censored(Censoring::RunCut), ..request.opened(sent_us) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixed_takes_four_kinds_in_turn() {
        let kinds: Vec<_> = (0..4).map(|index| form_of(Forms::Mixed, index)).collect();
        assert_eq!(kinds, [(false, true), (true, true), (false, false), (true, false)]);
        assert!((0..8).all(|index| !form_of(Forms::Whole, index).0 && form_of(Forms::Streamed, index).0));
    }

    #[test]
    fn a_probe_that_is_not_sent_yet_has_not_ended() {
        let probe = |intended_us, ended: bool| LiveProbe {
            intended_us,
            ended: ended.then(|| Ok("someone".to_owned())),
        };
        let live = |probes: Vec<LiveProbe>| Live { probes: [("agent".to_owned(), probes)].into() };
        assert!(live(vec![probe(1, true), probe(2, true), probe(3, false)]).all_ended_up_to(2));
        assert!(!live(vec![probe(1, true), probe(2, false), probe(3, true)]).all_ended_up_to(2));
        // The pacer may be late with one that is meant to start at 2.
        assert!(!live(vec![probe(1, true)]).all_ended_up_to(2));
        assert!(!live(vec![]).all_ended_up_to(2));
    }
}

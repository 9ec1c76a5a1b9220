//! Live output: one line a mode on a terminal, plain lines elsewhere. It watches the journal and nothing
//! else, so it cannot show what is not recorded.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::printer;
use crate::attribution::by_header;
use crate::journal::{Entry, Event, Outcome, ProbeRecord, Purpose};
use crate::run::Watcher;
use crate::scenario::Scenario;

/// Shows a run as it goes on.
pub(super) struct Progress {
    quiet: bool,
    bars: Option<Bars>,
    counts: Mutex<BTreeMap<String, Counts>>,
}

struct Bars {
    all: MultiProgress,
    work: ProgressBar,
    modes: BTreeMap<String, ProgressBar>,
}

#[derive(Default)]
struct Counts {
    ok: u64,
    errors: u64,
    worst_ms: u64,
    server: String,
    state: String,
}

impl Progress {
    pub(super) fn new(scenarios: &[Scenario], quiet: bool) -> Self {
        let live = !quiet && std::io::stderr().is_terminal();
        let bars = live.then(|| {
            let all = MultiProgress::new();
            let bar = |prefix: &str, template: &str| {
                let style = ProgressStyle::with_template(template)
                    .unwrap_or_else(|_| ProgressStyle::default_spinner());
                let bar = all.add(ProgressBar::new_spinner().with_style(style));
                bar.set_prefix(prefix.to_owned());
                bar
            };
            let work = bar("", "{spinner} {msg}");
            let modes = scenarios.iter().map(|scenario| {
                (scenario.name.clone(), bar(&scenario.name, "{spinner} {prefix:<16} {wide_msg}"))
            });
            let modes = modes.collect();
            Bars { work, modes, all }
        });
        Self { quiet, bars, counts: Mutex::default() }
    }

    /// Leave the terminal to what follows.
    pub(super) fn finish(&self) {
        if let Some(bars) = &self.bars {
            for bar in bars.modes.values().chain([&bars.work]) {
                bar.finish_and_clear();
            }
            let _ = bars.all.clear();
            bars.all.set_draw_target(ProgressDrawTarget::hidden());
        }
    }

    /// A mode's state changed: its line, or a plain line of its own.
    fn state(&self, scenario: &str, state: &str) {
        self.change(scenario, |counts| state.clone_into(&mut counts.state));
        if self.bars.is_none() && !self.quiet {
            printer::tell(&format!("{scenario}: {state}"));
        }
    }

    fn change(&self, scenario: &str, change: impl FnOnce(&mut Counts)) {
        let mut all = self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let counts = all.entry(scenario.to_owned()).or_default();
        change(counts);
        if let Some(bar) = self.bars.as_ref().and_then(|bars| bars.modes.get(scenario)) {
            bar.enable_steady_tick(Duration::from_millis(120));
            bar.set_message(format!(
                "{:<22} {:>4} ok {:>3} errors  worst {:>5} ms  now: {}",
                counts.state, counts.ok, counts.errors, counts.worst_ms, counts.server
            ));
        }
    }

    fn probe(&self, record: &ProbeRecord) {
        if record.purpose != Purpose::Traffic {
            return;
        }
        let took_ms = record.ended_us.saturating_sub(record.intended_us) / 1000;
        self.change(&record.scenario, |counts| {
            counts.worst_ms = counts.worst_ms.max(took_ms);
            match &record.outcome {
                Outcome::Ok => {
                    counts.ok += 1;
                    counts.server = by_header(record).unwrap_or_else(|| "unknown".to_owned());
                }
                Outcome::Error(class) => {
                    counts.errors += 1;
                    counts.server.clone_from(class);
                }
                Outcome::Censored(_) => {}
            }
        });
    }
}

impl Watcher for Progress {
    #[expect(clippy::wildcard_enum_match_arm, reason = "only some events are worth a live line")]
    fn entry(&self, entry: &Entry) {
        match &entry.event {
            Event::ScenarioStarted { scenario, injection, .. } => {
                if let Some(bars) = &self.bars {
                    bars.work.set_message(String::new());
                }
                let number = injection.map(|number| format!(" of injection {number}"));
                self.state(scenario, &format!("baseline{}", number.unwrap_or_default()));
            }
            Event::HoldStarted { scenario, .. } => self.state(scenario, "judging"),
            Event::HoldEnded { scenario } => self.state(scenario, "leaving"),
            Event::BaselineBroken { scenario, .. } => self.state(scenario, "baseline broken"),
            Event::ScenarioEnded { scenario } => {
                self.state(scenario, "measured");
                if let Some(bar) = self.bars.as_ref().and_then(|bars| bars.modes.get(scenario)) {
                    bar.finish();
                }
            }
            Event::ProbeEnded(record) => self.probe(record),
            Event::Interrupted { cause } => {
                self.progress(&format!("{cause}: cut short, everything is undone"))
            }
            _ => {}
        }
    }

    fn progress(&self, line: &str) {
        match &self.bars {
            Some(bars) => {
                bars.work.enable_steady_tick(Duration::from_millis(120));
                bars.work.set_message(line.to_owned());
            }
            None if !self.quiet => printer::tell(line),
            None => {}
        }
    }
}

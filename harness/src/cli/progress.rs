//! Live output: on a terminal a line for each mode, component and route, plain lines elsewhere. It watches the journal and nothing
//! else, so it cannot show what is not recorded.

mod view;

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::view::View;
use super::printer;
use crate::journal::{Entry, Event};
use crate::run::Watcher;

/// How often the lines are drawn again.
const DRAWN_EVERY: Duration = Duration::from_millis(100);

/// Shows a run as it goes on.
pub(super) struct Progress {
    quiet: bool,
    bars: Option<Bars>,
    view: Mutex<View>,
    /// When the lines were drawn, in milliseconds of the run's clock.
    drawn_ms: AtomicU64,
}

struct Bars {
    all: MultiProgress,
    work: ProgressBar,
    /// One a mode, then one a component and route of the mode that goes on.
    lines: Mutex<Vec<ProgressBar>>,
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::new();
        let work = all.add(ProgressBar::new_spinner().with_style(style("{spinner} {wide_msg}")));
        Self { all, work, lines: Mutex::default() }
    }

    fn draw(&self, view: &View) {
        let modes = view.modes().map(|(name, words)| format!("{name:<16} {words}"));
        let details = view.details().into_iter().map(|line| format!("  {line}"));
        let mut texts: Vec<String> = modes.chain(details).collect();
        let mut lines = self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while lines.len() < texts.len() {
            lines.push(self.all.add(ProgressBar::new_spinner().with_style(style("{wide_msg}"))));
        }
        texts.resize(lines.len(), String::new());
        for (line, text) in lines.iter().zip(texts) {
            if line.message() != text {
                line.set_message(text);
            }
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

impl Progress {
    pub(super) fn new(quiet: bool) -> Self {
        let bars = (!quiet && std::io::stderr().is_terminal()).then(Bars::new);
        Self { quiet, bars, view: Mutex::default(), drawn_ms: AtomicU64::new(0) }
    }

    /// Leave the terminal to what follows.
    pub(super) fn finish(&self) {
        if let Some(bars) = &self.bars {
            bars.work.finish_and_clear();
            let _ = bars.all.clear();
            bars.all.set_draw_target(ProgressDrawTarget::hidden());
        }
    }

    /// Whether enough time has gone by to draw again.
    fn is_due(&self, at_us: u64) -> bool {
        let (now_ms, every_ms) = (at_us / 1000, DRAWN_EVERY.as_millis() as u64);
        let drawn_ms = self.drawn_ms.load(Ordering::Relaxed);
        let due = now_ms >= drawn_ms.saturating_add(every_ms);
        if due {
            self.drawn_ms.store(now_ms, Ordering::Relaxed);
        }
        due
    }
}

impl Watcher for Progress {
    fn entry(&self, entry: &Entry) {
        let mut view = self.view.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let lines = view.take(entry);
        match &self.bars {
            Some(bars) => {
                if let Event::ScenarioStarted { .. } = &entry.event {
                    bars.work.set_message(String::new());
                }
                if !lines.is_empty() || self.is_due(entry.at_us) {
                    bars.draw(&view);
                }
            }
            None if !self.quiet => lines.iter().for_each(|line| printer::tell(line)),
            None => {}
        }
        drop(view);
        if let Event::Interrupted { cause } = &entry.event {
            self.progress(&format!("{cause}: cut short, everything is undone"));
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

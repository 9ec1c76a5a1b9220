//! The pacer: one thread that says when each probe starts, by an absolute schedule.
//!
//! A thread of its own wakes within a fraction of a millisecond where an async timer takes several
//! (measured; see the measurement notes in the docs). The schedule never reacts to replies. A late tick
//! keeps its intended time, so that lateness is seen and not hidden.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::journal::Clock;

/// A constant cadence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Which route: an index of the caller's.
    pub route: usize,
    /// First intended start, in microseconds of the run's clock.
    pub first_us: u64,
    /// Time between two starts, in microseconds; at least 1.
    pub interval_us: u64,
}

impl Schedule {
    /// Intended start of the n-th probe.
    #[must_use]
    pub fn start_us(&self, index: u64) -> u64 {
        self.first_us.saturating_add(self.interval_us.max(1).saturating_mul(index))
    }
}

/// Start a probe now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Which route.
    pub route: usize,
    /// Counts the route's probes from 0.
    pub index: u64,
    /// When it should have started.
    pub intended_us: u64,
}

/// A running pacer; stops and joins its thread when dropped.
pub struct Pacer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pacer {
    /// Start pacing. Ticks arrive on the receiver in order of their intended starts.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(schedules: Vec<Schedule>, clock: Clock) -> std::io::Result<(Self, UnboundedReceiver<Tick>)> {
        // Unbounded, but filled at a fixed rate and drained by a task that only spawns.
        let (ticks, receiver) = unbounded_channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("pacer".into())
            .spawn(move || pace(&schedules, clock, &stopped, &ticks))?;
        Ok((Self { stop, thread: Some(thread) }, receiver))
    }

    /// No more ticks after this returns; those already sent stay in the channel.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A pacer that panicked sent fewer ticks; the analysis sees the unsampled stretch.
            let _ = thread.join();
        }
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn pace(schedules: &[Schedule], clock: Clock, stop: &AtomicBool, ticks: &UnboundedSender<Tick>) {
    let mut next = vec![0_u64; schedules.len()];
    while let Some((place, intended_us)) = earliest(schedules, &next) {
        if !sleep_until(clock.instant(intended_us), stop) {
            return;
        }
        let tick = Tick { route: schedules[place].route, index: next[place], intended_us };
        if ticks.send(tick).is_err() {
            return;
        }
        next[place] += 1;
    }
}

fn earliest(schedules: &[Schedule], next: &[u64]) -> Option<(usize, u64)> {
    let starts = schedules.iter().zip(next).map(|(schedule, &index)| schedule.start_us(index));
    starts.enumerate().min_by_key(|&(_, start)| start)
}

/// False when told to stop.
fn sleep_until(at: Instant, stop: &AtomicBool) -> bool {
    loop {
        if stop.load(Ordering::Acquire) {
            return false;
        }
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::park_timeout(left.min(Duration::from_secs(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ticks_keep_their_intended_times_and_stop() {
        let clock = Clock::starting_now();
        let schedules = vec![
            Schedule { route: 7, first_us: 0, interval_us: 1000 },
            Schedule { route: 8, first_us: 500, interval_us: 2000 },
        ];
        let (mut pacer, mut ticks) = Pacer::start(schedules, clock).unwrap();
        let mut seen = Vec::new();
        for _ in 0..30 {
            seen.push(ticks.recv().await.unwrap());
        }
        pacer.stop();
        let of = |route| seen.iter().filter(|tick| tick.route == route).collect::<Vec<_>>();
        assert!(of(7).iter().enumerate().all(|(i, tick)| tick.intended_us == 1000 * i as u64));
        assert!(of(8).iter().enumerate().all(|(i, tick)| tick.intended_us == 500 + 2000 * i as u64));
        assert_eq!(of(7).len(), 20);
        while ticks.recv().await.is_some() {}
    }

    #[test]
    fn a_pacer_that_wakes_late_sends_every_missed_tick_with_its_own_time() {
        let schedules = [Schedule { route: 0, first_us: 100, interval_us: 50 }];
        let clock = Clock::starting_now();
        let (sender, mut ticks) = unbounded_channel();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| pace(&schedules, clock, &stop, &sender));
            let first: Vec<u64> = (0..100).map(|_| ticks.blocking_recv().unwrap().intended_us).collect();
            stop.store(true, Ordering::Release);
            assert_eq!(first, (0..100).map(|i| 100 + 50 * i).collect::<Vec<_>>());
        });
    }
}

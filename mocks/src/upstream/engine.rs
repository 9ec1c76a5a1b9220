//! What an upstream does between a request and its tokens: load the model, wait for a turn, think.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::profile::Timing;

/// A bound for waits that a profile's numbers could make endless.
const WAIT_MAX: Duration = Duration::from_secs(86_400);

#[derive(Debug)]
pub(super) struct Engine {
    timing: Timing,
    models: Vec<String>,
    state: Mutex<State>,
    turns: Option<Turns>,
}

#[derive(Debug)]
struct State {
    chance: ChaCha8Rng,
    gone: Vec<String>,
    /// When each model that was called has finished loading; one load serves all callers.
    loaded_at: HashMap<String, Instant>,
}

/// `working` places to work in, and `all` places to work or wait in.
#[derive(Debug)]
struct Turns {
    all: Arc<Semaphore>,
    working: Arc<Semaphore>,
}

/// A request that the model works on. Its turn ends when it is dropped.
#[derive(Debug)]
pub(super) struct Work {
    /// How long the request waited for the model to load.
    pub(super) load: Duration,
    /// When the request came.
    pub(super) began: Instant,
    /// When its first token is due.
    pub(super) first_token_at: Instant,
    /// How long the model thinks before the first token.
    pub(super) think: Duration,
    /// Tokens in the answer, at least 1.
    pub(super) token_count: u32,
    /// Whether the request's own limit cut the answer.
    pub(super) cut: bool,
    timing: Timing,
    _turn: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

/// Too many requests wait already.
#[derive(Debug)]
pub(super) struct Busy;

impl Engine {
    pub(super) fn new(timing: Timing, models: Vec<String>, seed: u64, stream: u64) -> Self {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        chance.set_stream(stream);
        let turns = timing.parallel.map(|parallel| {
            let working = parallel.clamp(1, Semaphore::MAX_PERMITS / 2);
            let all = working + timing.queue_max.min(Semaphore::MAX_PERMITS / 2);
            Turns { all: Arc::new(Semaphore::new(all)), working: Arc::new(Semaphore::new(working)) }
        });
        let state = Mutex::new(State { chance, gone: Vec::new(), loaded_at: HashMap::new() });
        Self { timing, models, state, turns }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one assignment, so a panic elsewhere cannot leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_gone(&self, models: Vec<String>) {
        self.state().gone = models;
    }

    pub(super) fn gone(&self) -> Vec<String> {
        self.state().gone.clone()
    }

    pub(super) fn unload(&self) {
        self.state().loaded_at.clear();
    }

    /// The models that are there.
    pub(super) fn present(&self) -> Vec<&str> {
        let state = self.state();
        self.models
            .iter()
            .map(String::as_str)
            .filter(|model| !state.gone.iter().any(|g| g == model))
            .collect()
    }

    /// Sixteen random bytes in hex, for an answer's id.
    pub(super) fn draw_id(&self) -> String {
        format!("{:032x}", self.state().chance.random::<u128>())
    }

    /// Loads `model` if need be and waits for a turn. `model` must be one of those present; `limit` is the most
    /// tokens that the request wants.
    pub(super) async fn begin(&self, model: &str, limit: Option<u32>) -> Result<Work, Busy> {
        let began = Instant::now();
        let place = match &self.turns {
            Some(turns) => Some(Arc::clone(&turns.all).try_acquire_owned().map_err(|_| Busy)?),
            None => None,
        };
        let mut load = Duration::ZERO;
        if let Some(whole_load) = self.timing.load {
            let ready =
                *self.state().loaded_at.entry(model.to_owned()).or_insert(began + whole_load.min(WAIT_MAX));
            load = ready.saturating_duration_since(began);
            tokio::time::sleep_until(ready).await;
        }
        let turn = match (&self.turns, place) {
            (Some(turns), Some(place)) => {
                let working = Arc::clone(&turns.working).acquire_owned().await;
                Some((working.expect("nobody closes the semaphore"), place))
            }
            _ => None,
        };
        let think = self.timing.draw_first_token(&mut self.state().chance).min(WAIT_MAX);
        let (token_count, cut) = self.timing.answer_length(limit);
        let first_token_at = Instant::now() + think;
        let timing = self.timing.clone();
        Ok(Work { load, began, first_token_at, think, token_count, cut, timing, _turn: turn })
    }
}

impl Work {
    /// How long after the first token the token with this index is due.
    pub(super) fn token_offset(&self, index: u32) -> Duration {
        self.timing.token_offset(index).min(WAIT_MAX)
    }

    /// How long after the first token the last one is due.
    pub(super) fn last_token_offset(&self) -> Duration {
        self.token_offset(self.token_count - 1)
    }

    /// When the last token is due.
    pub(super) fn last_token_at(&self) -> Instant {
        self.first_token_at + self.last_token_offset()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    fn engine(change: impl FnOnce(&mut Timing)) -> Engine {
        let mut timing = Profile::fast().ollama;
        change(&mut timing);
        Engine::new(timing, vec!["phi4-mini".to_owned(), "other".to_owned()], 3, 0)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_callers_share_one_load_and_later_ones_wait_for_none() {
        let engine = engine(|_| {});
        let begin = || engine.begin("phi4-mini", None);
        let start = Instant::now();
        let (first, second) = tokio::join!(begin(), begin());
        assert_eq!(start.elapsed(), Duration::from_millis(40));
        assert_eq!(first.unwrap().load, second.unwrap().load);
        assert_eq!(begin().await.unwrap().load, Duration::ZERO);
        engine.unload();
        assert_eq!(begin().await.unwrap().load, Duration::from_millis(40));
    }

    #[tokio::test(start_paused = true)]
    async fn works_on_no_more_at_once_than_its_profile_says_and_bounds_the_queue() {
        let engine = engine(|timing| {
            timing.load = None;
            timing.parallel = Some(1);
            timing.queue_max = 1;
        });
        let first = engine.begin("phi4-mini", None).await.unwrap();
        let mut second = Box::pin(engine.begin("phi4-mini", None));
        assert!(futures::poll!(&mut second).is_pending());
        assert!(engine.begin("phi4-mini", None).await.is_err());
        drop(first);
        assert!(second.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_caller_that_leaves_gives_its_place_back() {
        let engine = engine(|timing| {
            timing.load = None;
            timing.parallel = Some(1);
            timing.queue_max = 1;
        });
        let _working = engine.begin("phi4-mini", None).await.unwrap();
        for _ in 0..3 {
            assert!(futures::poll!(Box::pin(engine.begin("phi4-mini", None))).is_pending());
        }
    }

    #[test]
    fn gone_models_are_not_present() {
        let engine = engine(|_| {});
        engine.set_gone(vec!["other".to_owned()]);
        assert_eq!(engine.present(), ["phi4-mini"]);
        assert_eq!(engine.gone(), ["other"]);
        engine.set_gone(Vec::new());
        assert_eq!(engine.present(), ["phi4-mini", "other"]);
    }
}

//! How fast the mock models are.

use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};

/// The timing of one kind of component.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// The shortest time from the start of work on a request to its first token.
    pub first_token_min: Duration,
    /// The longest. Draws are log-uniform between the two; where this is not the larger one, each draw is
    /// `first_token_min`.
    pub first_token_max: Duration,
    /// Tokens a second after the first; 0 or less is taken as endlessly fast.
    pub tokens_per_s: f64,
    /// The length of an answer that the request does not cut, in tokens; at least 1 is sent.
    pub answer_tokens: u32,
    /// How long a model takes to load on its first call after a start; `None`: it is always loaded.
    pub load: Option<Duration>,
    /// How many requests are worked on at once; `None`: all.
    pub parallel: Option<usize>,
    /// How many requests may wait for their turn where `parallel` bounds the work; a further one gets a 503.
    pub queue_max: usize,
}

/// The timings of a world's components.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// A hosted model: slow to start because of the way there, then fast.
    pub cloud: Timing,
    /// A model on a GPU.
    pub vllm: Timing,
    /// A model on a CPU, loaded on demand.
    pub ollama: Timing,
}

/// Which of a profile's timings a component has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimingKind {
    /// [`Profile::cloud`].
    Cloud,
    /// [`Profile::vllm`].
    Vllm,
    /// [`Profile::ollama`].
    Ollama,
}

impl Profile {
    /// Times as a person at the system sees them.
    #[must_use]
    pub fn realistic() -> Self {
        Self {
            cloud: Timing::of_ms(300, 1200, 80.0),
            vllm: Timing::of_ms(80, 180, 80.0),
            ollama: Timing {
                load: Some(Duration::from_millis(400)),
                parallel: Some(4),
                ..Timing::of_ms(100, 200, 40.0)
            },
        }
    }

    /// The same order of things in a few milliseconds, for tests.
    #[must_use]
    pub fn fast() -> Self {
        Self {
            cloud: Timing::of_ms(5, 15, 1000.0),
            vllm: Timing::of_ms(2, 5, 1000.0),
            ollama: Timing {
                load: Some(Duration::from_millis(40)),
                parallel: Some(4),
                ..Timing::of_ms(3, 8, 1000.0)
            },
        }
    }

    /// The timing of this kind.
    #[must_use]
    pub fn timing(&self, kind: TimingKind) -> &Timing {
        match kind {
            TimingKind::Cloud => &self.cloud,
            TimingKind::Vllm => &self.vllm,
            TimingKind::Ollama => &self.ollama,
        }
    }
}

impl Timing {
    fn of_ms(first_token_min_ms: u64, first_token_max_ms: u64, tokens_per_s: f64) -> Self {
        Self {
            first_token_min: Duration::from_millis(first_token_min_ms),
            first_token_max: Duration::from_millis(first_token_max_ms),
            tokens_per_s,
            answer_tokens: 200,
            load: None,
            parallel: None,
            queue_max: 512,
        }
    }

    /// Draws the time to the first token.
    pub(crate) fn draw_first_token(&self, chance: &mut impl rand::Rng) -> Duration {
        let share: f64 = chance.random();
        let (min, max) = (self.first_token_min.as_secs_f64(), self.first_token_max.as_secs_f64());
        if max <= min {
            return self.first_token_min;
        }
        // A logarithmic scale has no zero; a microsecond stands for it.
        let low = min.max(1e-6);
        let drawn = (low * (max / low).powf(share)).clamp(min, max);
        Duration::try_from_secs_f64(drawn).unwrap_or(self.first_token_max)
    }

    /// How long after the first token the token with this index (from 0) is sent.
    pub(crate) fn token_offset(&self, index: u32) -> Duration {
        if self.tokens_per_s <= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(f64::from(index) / self.tokens_per_s).unwrap_or(Duration::MAX)
    }

    /// How many tokens an answer has, and whether the request's own limit cut it.
    pub(crate) fn answer_length(&self, limit: Option<u32>) -> (u32, bool) {
        let whole = self.answer_tokens.max(1);
        match limit {
            Some(limit) if limit < whole => (limit.max(1), true),
            _ => (whole, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn draws_lie_in_range_on_a_logarithmic_scale_and_follow_the_seed() {
        let timing = Profile::realistic().cloud;
        let draw = |seed| {
            let mut chance = ChaCha8Rng::seed_from_u64(seed);
            (0..4000).map(|_| timing.draw_first_token(&mut chance)).collect::<Vec<_>>()
        };
        let mut draws = draw(7);
        assert_eq!(draws, draw(7));
        assert_ne!(draws, draw(8));
        assert!(draws.iter().all(|d| (timing.first_token_min..=timing.first_token_max).contains(d)));
        draws.sort();
        // The median of a log-uniform draw is the geometric mean of its ends: 0.6 s.
        let median = draws[2000].as_secs_f64();
        assert!((0.57..0.63).contains(&median), "{median}");
    }

    #[test]
    fn odd_settings_do_not_panic() {
        let mut chance = ChaCha8Rng::seed_from_u64(1);
        let mut timing = Timing::of_ms(0, 0, 0.0);
        assert_eq!(timing.draw_first_token(&mut chance), Duration::ZERO);
        assert_eq!(timing.token_offset(u32::MAX), Duration::ZERO);
        timing.first_token_max = Duration::from_millis(5);
        assert!(timing.draw_first_token(&mut chance) <= timing.first_token_max);
        timing.first_token_max = Duration::MAX;
        assert!(timing.draw_first_token(&mut chance) >= timing.first_token_min);
        timing.tokens_per_s = f64::MIN_POSITIVE;
        assert_eq!(timing.token_offset(9), Duration::MAX);
        timing.tokens_per_s = f64::NAN;
        assert_eq!(timing.token_offset(9), Duration::MAX);
        timing.answer_tokens = 0;
        assert_eq!(timing.answer_length(None), (1, false));
    }

    #[test]
    fn an_answer_is_cut_by_the_request_but_never_empty() {
        let timing = Profile::fast().vllm;
        assert_eq!(timing.answer_length(None), (200, false));
        assert_eq!(timing.answer_length(Some(5)), (5, true));
        assert_eq!(timing.answer_length(Some(0)), (1, true));
        assert_eq!(timing.answer_length(Some(200)), (200, false));
    }
}

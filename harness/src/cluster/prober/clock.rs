//! The pod's clock in terms of the run's.

use std::collections::VecDeque;

/// Echoes that are remembered: one a second, so those of the last minute.
const ECHOES_MAX: usize = 64;
/// How far two monotonic clocks may drift apart, in microseconds a second. Both may be slewed by up to 500.
const DRIFT_US_PER_S: u64 = 1000;

/// What is known of a pod's monotonic clock from echo round trips. The pod answered somewhere between the sending
/// of a question and the arrival of its answer, so half the round trip is the error of one echo.
#[derive(Clone, Debug, Default)]
pub(super) struct PodClock {
    echoes: VecDeque<Echo>,
}

#[derive(Clone, Copy, Debug)]
struct Echo {
    sent_us: u64,
    received_us: u64,
    pod_ns: u64,
}

/// An instant of the pod on the run's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    /// The best estimate, in microseconds since the run's zero.
    pub at_us: u64,
    /// The truth lies no further away than this.
    pub error_us: u64,
}

impl Mapped {
    /// The earliest that it can have been.
    #[must_use]
    pub(super) fn earliest_us(self) -> u64 {
        self.at_us.saturating_sub(self.error_us)
    }

    /// The latest that it can have been.
    #[must_use]
    pub(super) fn latest_us(self) -> u64 {
        self.at_us.saturating_add(self.error_us)
    }
}

impl PodClock {
    /// Take in one round trip: sent and received by the run's clock, answered by the pod's.
    pub(super) fn take(&mut self, sent_us: u64, received_us: u64, pod_ns: u64) {
        if received_us < sent_us {
            return;
        }
        if self.echoes.len() == ECHOES_MAX {
            self.echoes.pop_front();
        }
        self.echoes.push_back(Echo { sent_us, received_us, pod_ns });
    }

    /// Whether anything can be mapped.
    #[must_use]
    pub(super) fn is_known(&self) -> bool {
        !self.echoes.is_empty()
    }

    /// An instant of the pod on the run's clock, by the echo that leaves the smallest error; `None` before the
    /// first echo.
    #[must_use]
    pub(super) fn map(&self, pod_ns: u64) -> Option<Mapped> {
        let mapped = self.echoes.iter().map(|echo| echo.map(pod_ns));
        mapped.min_by_key(|mapped| mapped.error_us)
    }
}

impl Echo {
    fn map(&self, pod_ns: u64) -> Mapped {
        let round_trip_us = self.received_us - self.sent_us;
        let middle_us = self.sent_us + round_trip_us / 2;
        let apart_us = pod_ns.abs_diff(self.pod_ns) / 1000;
        let at_us = if pod_ns >= self.pod_ns {
            middle_us.saturating_add(apart_us)
        } else {
            middle_us.saturating_sub(apart_us)
        };
        let drift_us = apart_us / 1_000_000 * DRIFT_US_PER_S
            + (apart_us % 1_000_000 * DRIFT_US_PER_S).div_ceil(1_000_000);
        // Two more for what was rounded down.
        Mapped { at_us, error_us: (round_trip_us / 2).saturating_add(drift_us).saturating_add(2) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::PodClock;

    #[test]
    fn the_quickest_echo_tells_best() {
        let mut clock = PodClock::default();
        assert_eq!(clock.map(5), None);
        clock.take(1_000_000, 1_400_000, 7_200_000_000);
        assert_eq!(clock.map(7_200_000_000).map(|mapped| mapped.error_us), Some(200_002));
        clock.take(2_000_000, 2_002_000, 8_001_000_000);
        let mapped = clock.map(8_001_000_000).expect("there are echoes");
        assert_eq!((mapped.at_us, mapped.error_us), (2_001_000, 1002));
        assert!(clock.map(7_200_000_000).expect("there are echoes").error_us < 2_000);
    }

    #[test]
    fn an_answer_before_its_question_is_none() {
        let mut clock = PodClock::default();
        clock.take(10, 9, 1);
        assert!(!clock.is_known());
    }

    proptest! {
        /// Whatever the delays, and however a clock drifts within its bound, the truth is inside the error.
        #[test]
        fn the_truth_lies_inside_the_error(
            offset_us in 0_u64..10_000_000_000,
            drift_ppm in -900_i64..900,
            echoes in prop::collection::vec((1_u64..60_000_000, 0_u64..500_000, 0_u64..500_000), 1..40),
            asked_us in 0_u64..60_000_000,
        ) {
            let pod_ns = |run_us: u64| {
                let run_ns = i128::from(run_us) * 1000;
                u64::try_from(i128::from(offset_us) * 1000 + run_ns + run_ns * i128::from(drift_ppm) / 1_000_000)
                    .expect("far from both ends")
            };
            let mut clock = PodClock::default();
            for (sent, there, back) in echoes {
                clock.take(sent, sent + there + back, pod_ns(sent + there));
            }
            let mapped = clock.map(pod_ns(asked_us)).expect("there are echoes");
            prop_assert!(mapped.earliest_us() <= asked_us && asked_us <= mapped.latest_us(), "{asked_us} {mapped:?}");
        }

        #[test]
        fn nothing_overflows(echoes in prop::collection::vec(any::<(u64, u64, u64)>(), 0..80), asked in any::<u64>()) {
            let mut clock = PodClock::default();
            for (sent, received, pod) in echoes {
                clock.take(sent, received, pod);
            }
            if let Some(mapped) = clock.map(asked) {
                prop_assert!(mapped.earliest_us() <= mapped.latest_us());
            }
        }
    }
}

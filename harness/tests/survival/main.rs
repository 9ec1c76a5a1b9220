//! Many runs, each with one accident: killed at a random instant, or with an API that fails one of its calls, or of those
//! that restore what it has left. Whoever comes after them must find the cluster as it was.
//!
//! `FAILOVER_TEST_KILLS` sets how many runs are killed, `FAILOVER_TEST_TROUBLES` how many calls fail of runs, and how many
//! of restores (0 for each of them in each way), `FAILOVER_TEST_TROUBLES_OF` some words of those that are meant, `FAILOVER_TEST_LANES` how many
//! clusters there are at a time, `FAILOVER_TEST_ONLY` the number of the one run to kill, `HARNESS_TEST_SEED` what is drawn,
//! `FAILOVER_TEST_FIGURES` a file for what came of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

#[expect(dead_code, reason = "it is shared with tests that do more with it")]
#[path = "../cluster/child.rs"]
mod child;
#[path = "../cluster/gate.rs"]
mod gate;
mod kill;
mod lane;
mod matrix;
mod rescue;
#[expect(dead_code, reason = "it is shared with tests that do more with it")]
#[path = "../cluster/stack.rs"]
mod stack;
mod trouble;

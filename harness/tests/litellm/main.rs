//! The life of a real LiteLLM, of the guard above it, and what its replies say about who served.
//!
//! `HARNESS_TEST_LITELLM` names a LiteLLM to use; without it the pinned version is installed in the cache.

mod guard;
mod hops;
mod life;
mod truth;
mod world;

use std::ffi::OsString;

/// Arguments after `--`: this program was started by one of its tests, to play a part.
fn part() -> Option<Vec<OsString>> {
    let mut args = std::env::args_os().skip_while(|arg| arg != "--");
    args.next()?;
    Some(args.collect())
}

/// Not a test by itself: the guard, when started as such.
#[test]
#[expect(clippy::exit, reason = "the guard's exit code is this process's exit code")]
fn play_guard() {
    if let Some(command) = part() {
        std::process::exit(harness::gateway::litellm::supervise::supervise(command).into());
    }
}

/// Not a test by itself: a harness that starts LiteLLM (executable and run directory given) and never stops it.
#[tokio::test]
async fn play_harness() {
    if let Some(args) = part() {
        life::start_and_wait_forever(&args[0], &args[1]).await;
    }
}

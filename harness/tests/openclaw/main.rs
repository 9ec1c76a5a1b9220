//! A real openclaw: its life, and whole runs of turns through it.
//!
//! `HARNESS_TEST_OPENCLAW` names an openclaw to use (with a Node on PATH that it takes); without it the pinned version is
//! installed in the cache, with its Node, by npm.

mod life;
mod relay;
mod turns;
mod world;

use std::ffi::OsString;

/// Arguments after `--`: this program was started by one of its tests, to play a part.
fn part() -> Option<Vec<OsString>> {
    let mut args = std::env::args_os().skip_while(|arg| arg != "--");
    args.next()?;
    Some(args.collect())
}

/// Not a test by itself: a harness that starts openclaw (run directory given) and never stops it.
#[tokio::test]
async fn play_harness() {
    if let Some(args) = part() {
        life::start_and_wait_forever(&args[0]).await;
    }
}

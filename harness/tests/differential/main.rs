//! The mock gateway beside a real LiteLLM: the same configuration, the same kind of upstreams, request by request.
//!
//! `HARNESS_TEST_LITELLM` names a LiteLLM to use; without it the pinned version is installed in the cache.

mod alone;
mod ask;
mod cell;
mod compare;
mod facts;
mod fault;
mod listing;
mod matrix;
mod pair;
mod run;
mod upstream;

use std::path::PathBuf;

use harness::gateway::litellm::find::{FindOptions, find};
use tokio::sync::OnceCell;

/// The LiteLLM to compare with.
async fn litellm() -> PathBuf {
    static BIN: OnceCell<PathBuf> = OnceCell::const_new();
    let find_it = || async {
        let bin = std::env::var_os("HARNESS_TEST_LITELLM").map(PathBuf::from);
        let options = FindOptions { install: bin.is_none(), bin, ..FindOptions::default() };
        find(&options, &mut |_| {}).await.expect("a LiteLLM to compare with").bin
    };
    BIN.get_or_init(find_it).await.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn explore() {
    let Ok(wanted) = std::env::var("DIFFERENTIAL_CELLS") else { return };
    let bin = litellm().await;
    for settings in matrix::settings() {
        let cells: Vec<_> = matrix::all(&settings)
            .into_iter()
            .filter(|cell| wanted.split(',').any(|w| format!("{}/{}", settings.name, cell.name).contains(w)))
            .collect();
        if cells.is_empty() {
            continue;
        }
        let started = std::time::Instant::now();
        let n = cells.len();
        let outcomes = run::run(&bin, &settings, cells, 24, 1).await;
        println!(
            "=== {}: {n} cells in {:?}\n{}",
            settings.name,
            started.elapsed(),
            listing::listing(&outcomes)
        );
    }
}

//! openclaw and the Node that it needs, in a folder of the cache, as npm installs them.
//!
//! As with LiteLLM a marker file is written last, without which the folder is made anew, and a lock keeps two
//! installations apart.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use tokio::process::Command;

use super::find::{Found, version};
use super::{NODE_VERSION, OPENCLAW_VERSION};
use crate::gateway::litellm::find::on_path;
use crate::gateway::litellm::install::{InstallError, cache_dir, file_error, lock, step};
use crate::gateway::litellm::surroundings;

/// Written last; holds the version.
const MARKER: &str = ".complete";

/// Where the two packages are in a folder of the cache.
fn found_in(directory: &Path, path: &OsStr) -> Found {
    let modules = directory.join("node_modules");
    let node = modules.join("node/bin/node");
    Found {
        command: vec![node.into(), modules.join("openclaw/openclaw.mjs").into()],
        version: OPENCLAW_VERSION.to_owned(),
        path: before(&modules.join("node/bin"), path),
        compiled: Some(directory.join("compiled")),
    }
}

/// A search path that begins with this folder.
fn before(folder: &Path, path: &OsStr) -> OsString {
    let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(path));
    std::env::join_paths(folders).unwrap_or_else(|_| path.to_owned())
}

/// openclaw in the cache, installed now unless it is there and whole.
pub(super) async fn install(
    path: &OsStr,
    cache: Option<&Path>,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<Option<Found>, InstallError> {
    let cache = cache.map_or_else(cache_dir, |cache| Ok(cache.to_owned()))?;
    let name = format!("openclaw-{OPENCLAW_VERSION}-node{NODE_VERSION}");
    let directory = cache.join(&name);
    let found = found_in(&directory, path);
    if is_whole(&directory, &found).await {
        return Ok(Some(found));
    }
    let Some(npm) = on_path(path, "npm") else { return Ok(None) };
    std::fs::create_dir_all(&cache).map_err(file_error(&cache))?;
    let lock = lock(&cache.join(format!("{name}.lock")), progress).await?;
    // Another installation may have finished while this one waited.
    if is_whole(&directory, &found).await {
        return Ok(Some(found));
    }
    if directory.exists() {
        progress("removing an unfinished installation");
        std::fs::remove_dir_all(&directory).map_err(file_error(&directory))?;
    }
    std::fs::create_dir_all(&directory).map_err(file_error(&directory))?;
    // openclaw's own installation stops on any other Node, so that comes first.
    for package in [format!("node@{NODE_VERSION}"), format!("openclaw@{OPENCLAW_VERSION}")] {
        progress(&format!("installing {package} in {}", directory.display()));
        step(
            &format!("npm install {package}"),
            npm_install(&npm, &directory, &found.path, &package),
            &lock,
            progress,
        )
        .await?;
    }
    let marker = directory.join(MARKER);
    std::fs::write(&marker, OPENCLAW_VERSION).map_err(file_error(&marker))?;
    progress("openclaw is installed");
    Ok(Some(found))
}

fn npm_install(npm: &Path, directory: &Path, path: &OsStr, package: &str) -> Command {
    let mut command = Command::new(npm);
    surroundings::of_an_installer(&mut command)
        .args(["install", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error", "--prefix"])
        .arg(directory)
        .arg(package)
        .env("PATH", path);
    command
}

/// Whether an installation was finished and still runs.
async fn is_whole(directory: &Path, found: &Found) -> bool {
    let marked = std::fs::read_to_string(directory.join(MARKER)).is_ok_and(|text| text == OPENCLAW_VERSION);
    marked && version(&found.command, &found.path).await.is_ok_and(|version| version == OPENCLAW_VERSION)
}

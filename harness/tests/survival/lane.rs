//! A cluster in which one run after the other has its accident.

use std::path::PathBuf;
use std::time::Duration;

use mocks::kubernetes::resources::{CONFIG_MAPS, DEPLOYMENTS, JOBS, NETWORK_POLICIES, Resource};
use mocks::kubernetes::store::ObjectKey;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::child::{Ended, Running};
use crate::stack::{Stack, Staging};

/// Backends whose count a run changes.
const BACKENDS: [&str; 2] = ["vllm", "ollama"];
/// What is on its way is done by then, on a busy machine too.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// Somebody who tries again finds an API that answers by then.
const TRIES: usize = 10;

/// Modes with short holds.
const MODES: [(&str, &str); 4] = [
    ("cloud-down", "components: { cloud: down }"),
    ("gaming", "components: { vllm: down }"),
    ("cloud-gpu-down", "components: { cloud: down, vllm: down }"),
    ("full-outage", "components: { cloud: down, vllm: down, ollama: down }"),
];

pub(crate) struct Lane {
    pub(crate) stack: Stack,
    /// What each backend is to have.
    counts: [u64; 2],
}

/// The figures, for a person who has asked for them.
pub(crate) fn figures(words: &str) {
    if let Ok(path) = std::env::var("FAILOVER_TEST_FIGURES") {
        std::fs::write(path, words).unwrap();
    }
}

/// How many, from the environment.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// kill -9, unless it has ended before.
pub(crate) async fn kill_after(running: &mut Running, after: Duration) {
    if tokio::time::timeout(after, running.child.wait()).await.is_err() {
        running.child.kill().await.unwrap();
    }
}

impl Lane {
    pub(crate) async fn start() -> Self {
        Self { stack: Stack::start(Staging::default()).await, counts: [1, 1] }
    }

    /// Draws how many pods the backends have, so that a count that comes back by chance is noticed.
    pub(crate) async fn deal(&mut self, chance: &mut ChaCha8Rng) {
        for (name, count) in BACKENDS.iter().zip(&mut self.counts) {
            *count = chance.random_range(1..=3);
            self.stack
                .change(&DEPLOYMENTS, "ml", name, |object| object["spec"]["replicas"] = (*count).into());
        }
        self.stack.household.ready(SETTLED_WITHIN).await.unwrap();
        // Its time never comes: without this, later runs of a lane would be refused.
        self.stack.swept();
    }

    /// A mode of those, with a hold of a second.
    pub(crate) fn mode(&self, which: usize) -> PathBuf {
        let (name, components) = MODES[which % MODES.len()];
        self.stack.scenario(
            name,
            &format!(
                "requirements: [FR217]\n{components}\ntraffic:\n  - {{ route: agent, rate: 2/s, for: 1s, stream: mixed }}\n\
                 expect:\n  agent: {{ {} within: 30s }}\n",
                ["served_by: vllm-qwen,", "served_by: cloud-kimi,", "served_by: ollama-qwen,", "error: true,"]
                    [which % MODES.len()]
            ),
        )
    }

    /// Somebody restores, again and again where the API does not answer.
    pub(crate) async fn restore(&self, how: &[&str]) -> Ended {
        let arguments = [&["restore", "--env", "cluster.yaml"], how].concat();
        let mut tries = 0;
        let mut again = tokio::time::interval(Duration::from_secs(1));
        loop {
            again.tick().await;
            tries += 1;
            let ended = self.stack.command(&arguments).end().await;
            if ended.status.code() == Some(0) || tries == TRIES {
                return ended;
            }
        }
    }

    /// What differs from how it was, in words; waits for what is on its way.
    pub(crate) async fn changed(&self) -> Vec<String> {
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        let from = std::time::Instant::now();
        loop {
            looks.tick().await;
            let changed = self.differences();
            if changed.is_empty() || from.elapsed() > SETTLED_WITHIN {
                return changed;
            }
        }
    }

    fn differences(&self) -> Vec<String> {
        let store = self.stack.household.cluster().store();
        let mut differences = Vec::new();
        for (name, count) in BACKENDS.iter().zip(self.counts) {
            let found = store.get(&ObjectKey::new(&DEPLOYMENTS, "ml", name)).unwrap();
            let found = found["spec"]["replicas"].as_u64().unwrap_or(0);
            if found != count {
                differences.push(format!("{name} has {found} instead of {count}"));
            }
        }
        for resource in [&JOBS, &NETWORK_POLICIES] {
            let left = self.names(resource);
            if !left.is_empty() {
                differences.push(format!("left: {left:?}"));
            }
        }
        differences
    }

    fn names(&self, resource: &'static Resource) -> Vec<String> {
        let items = self.stack.household.cluster().store().list(resource, Some("ml")).items;
        items.iter().map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until a run has made its record; a complaint when it ended before.
    pub(crate) async fn until_armed(&self, running: &mut Running) -> Result<(), String> {
        let mut looks = tokio::time::interval(Duration::from_millis(10));
        while self.open_records().is_empty() {
            if let Some(status) = running.child.try_wait().unwrap() {
                return Err(format!("it ended before it changed anything: {status}"));
            }
            looks.tick().await;
        }
        Ok(())
    }

    /// Records that are not closed.
    pub(crate) fn open_records(&self) -> Vec<Value> {
        let maps = self.stack.household.cluster().store().list(&CONFIG_MAPS, Some("ml")).items;
        let records = maps.iter().filter_map(|map| map["data"]["record.json"].as_str());
        let records = records.map(|record| serde_json::from_str::<Value>(record).unwrap());
        records.filter(|record| record["phase"] != "restored").collect()
    }

    /// What the API has in the places that runs write to.
    pub(crate) fn story(&self) -> String {
        let entries = self.stack.household.cluster().audit().entries();
        let changes = entries.iter().filter(|entry| entry.is_mutation());
        let lines: Vec<String> = changes
            .map(|entry| {
                format!("{} {} {} {} {}", entry.at_us, entry.verb, entry.resource, entry.name, entry.code)
            })
            .collect();
        format!("{}\nrecords: {:#?}", lines[lines.len().saturating_sub(60)..].join("\n"), self.open_records())
    }
}

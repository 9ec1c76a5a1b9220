//! A cluster in which one run after the other has its accident.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use mocks::gate::GateMode;
use mocks::kubernetes::controllers::Opponent;
use mocks::kubernetes::resources::{
    APPLICATIONS, CONFIG_MAPS, DEPLOYMENTS, JOBS, KUSTOMIZATIONS, NETWORK_POLICIES, Resource, SCALED_OBJECTS,
};
use mocks::kubernetes::store::ObjectKey;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::child::{Ended, Running};
use crate::gate::{Gate, staged};
use crate::stack::{Stack, Staging};

/// Backends whose count a run changes.
const BACKENDS: [&str; 2] = ["vllm", "ollama"];
/// What is on its way is done by then, on a busy machine too.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// Somebody who tries again finds an API that answers by then, and nothing that can still come through.
const TRIES: usize = 12;

/// Modes with short holds.
const MODES: [(&str, &str); 4] = [
    ("cloud-down", "components: { cloud: down }"),
    ("gaming", "components: { vllm: down }"),
    ("cloud-gpu-down", "components: { cloud: down, vllm: down }"),
    ("full-outage", "components: { cloud: down, vllm: down, ollama: down }"),
];

/// All components are down in it, so it makes every call.
pub(crate) const FULL_OUTAGE: usize = 3;

/// By what components are taken down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Variant {
    /// A policy cuts the cloud off, and backends are scaled to 0.
    Stock,
    /// A packet filter cuts the cloud off.
    NetnsDrop,
    /// A gate before the cloud falls silent.
    EgressProxy,
    /// A backend is isolated, and whoever else would undo a fault is told to wait.
    IsolateAndPause,
}

impl Variant {
    pub(crate) const ALL: [Self; 4] =
        [Self::Stock, Self::NetnsDrop, Self::EgressProxy, Self::IsolateAndPause];
}

/// Whoever is told to wait: where that is written.
const SWITCHES: [(&Resource, &str, &str); 3] = [
    (&SCALED_OBJECTS, "vllm", "/metadata/annotations/autoscaling.keda.sh~1paused"),
    (&APPLICATIONS, "household", "/metadata/annotations/argocd.argoproj.io~1skip-reconcile"),
    (&KUSTOMIZATIONS, "household", "/spec/suspend"),
];

pub(crate) struct Lane {
    pub(crate) stack: Stack,
    pub(crate) variant: Variant,
    gate: Option<Gate>,
    /// What each backend is to have.
    counts: [u64; 2],
}

/// The figures, for a person who has asked for them; after those of others.
pub(crate) fn figures(words: &str) {
    if let Ok(path) = std::env::var("FAILOVER_TEST_FIGURES") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(words.as_bytes()).unwrap();
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
    pub(crate) async fn start_as(variant: Variant) -> Self {
        let (stack, gate) = match variant {
            Variant::Stock => (Stack::start(Staging::default()).await, None),
            Variant::NetnsDrop => {
                let stack = Stack::start(Staging::default()).await;
                stack.blackhole_by("netns-drop");
                (stack, None)
            }
            Variant::EgressProxy => {
                let (stack, gate, _) = staged(Staging::default()).await;
                (stack, Some(gate))
            }
            Variant::IsolateAndPause => {
                let opponents = vec![Opponent::Keda, Opponent::Argo, Opponent::Flux];
                let stack = Stack::start(Staging { opponents, ..Staging::default() }).await;
                stack.edit("components:\n", "opponents: { pause: [keda, argo-cd, flux] }\ncomponents:\n");
                stack.edit(
                    "deployment: ml/ollama, down: scale-to-zero",
                    "deployment: ml/ollama, down: isolate",
                );
                (stack, None)
            }
        };
        // What the gateway still does for a run that has just ended looks like somebody else's to the next.
        stack.edit("components:\n", "users: { postpone: 1m }\ncomponents:\n");
        Self { stack, variant, gate, counts: [1, 1] }
    }

    pub(crate) async fn strike(self) {
        if let Some(gate) = self.gate {
            gate.end().await;
        }
        self.stack.strike().await;
    }

    /// Draws how many pods the backends have, so that a count that comes back by chance is noticed; but where somebody
    /// holds them to the count that he knows.
    pub(crate) async fn deal(&mut self, chance: &mut ChaCha8Rng) {
        let dealt = BACKENDS.iter().zip(&mut self.counts);
        for (name, count) in dealt.filter(|_| self.variant != Variant::IsolateAndPause) {
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
        self.mode_for(which, "1s")
    }

    /// One that is held for so long.
    pub(crate) fn mode_for(&self, which: usize, hold: &str) -> PathBuf {
        let (name, components) = MODES[which % MODES.len()];
        self.stack.scenario(
            name,
            &format!(
                "requirements: [FR217]\n{components}\ntraffic:\n  - {{ route: agent, rate: 2/s, for: {hold}, stream: mixed }}\n\
                 expect:\n  agent: {{ {} within: 30s }}\n",
                ["served_by: vllm-qwen,", "served_by: cloud-kimi,", "served_by: ollama-qwen,", "error: true,"]
                    [which % MODES.len()]
            ),
        )
    }

    /// Somebody restores, again and again where the API does not answer, or a record stays open since what was sent may
    /// still come through.
    pub(crate) async fn restore(&self, how: &[&str]) -> Ended {
        let arguments = [&["restore", "--env", "cluster.yaml"], how].concat();
        let mut tries = 0;
        let mut again = tokio::time::interval(Duration::from_secs(1));
        loop {
            again.tick().await;
            tries += 1;
            let ended = self.stack.command(&arguments).end().await;
            if (ended.status.code() == Some(0) && self.open_records().is_empty()) || tries == TRIES {
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
            let changed = self.differences().await;
            if changed.is_empty() || from.elapsed() > SETTLED_WITHIN {
                return changed;
            }
        }
    }

    async fn differences(&self) -> Vec<String> {
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
        for (address, mode) in self.stack.household.plane().network().host_modes("ollama.com") {
            if mode != GateMode::Pass {
                differences.push(format!("the cloud at {address} is behind {mode:?}"));
            }
        }
        if let Some(gate) = &self.gate {
            let standing = gate.standing().await;
            if standing.now != GateMode::Pass || standing.run.is_some() {
                differences.push(format!("the gate holds {:?} for {:?}", standing.now, standing.run));
            }
        }
        if self.variant == Variant::IsolateAndPause {
            for (resource, name, pointer) in SWITCHES {
                let object = store.get(&ObjectKey::new(resource, "ml", name)).unwrap();
                let waits = object.pointer(pointer).unwrap_or(&Value::Null);
                if !waits.is_null() {
                    differences.push(format!("{} {name} waits: {waits}", resource.plural));
                }
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

    /// Waits until a run holds its faults; false when it ended before.
    pub(crate) async fn until_it_holds(&self, running: &mut Running) -> bool {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while running.child.try_wait().unwrap().is_none() {
            // The newest run is this one once it has its own record.
            if !self.open_records().is_empty() && self.stack.journal().contains("\"hold-started\"") {
                return true;
            }
            looks.tick().await;
        }
        false
    }

    /// Records that are not closed.
    pub(crate) fn open_records(&self) -> Vec<Value> {
        let maps = self.stack.household.cluster().store().list(&CONFIG_MAPS, Some("ml")).items;
        let records = maps.iter().filter_map(|map| map["data"]["record.json"].as_str());
        let records = records.map(|record| serde_json::from_str::<Value>(record).unwrap());
        records.filter(|record| record["phase"] != "restored").collect()
    }

    /// How many requests there were so far.
    pub(crate) fn asked(&self) -> usize {
        self.stack.household.cluster().audit().entries().len()
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
        let journal = self.stack.journal();
        let told: Vec<&str> = journal
            .lines()
            .filter(|line| !line.contains("\"probe-ended\":") && !line.contains("witness-"))
            .collect();
        format!(
            "{}\n{}\nrecords: {:#?}",
            lines[lines.len().saturating_sub(60)..].join("\n"),
            told[told.len().saturating_sub(40)..].join("\n"),
            self.open_records()
        )
    }
}

//! A mock cluster with a gateway in it, the example deployed, and the harness's image on its node: the built program.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use harness::gateway::config::resolve_environment;
use harness::gateway::local::{ConfigSource, against};
use harness::input;
use mocks::gateway::{Gateway, GatewayOptions, Secret};
use mocks::kubernetes::api::AuditEntry;
use mocks::kubernetes::cluster::{Cluster, ClusterOptions};
use mocks::kubernetes::controllers::Timing;
use mocks::kubernetes::household::{Household, HouseholdOptions};
use mocks::kubernetes::network::Cni;
use mocks::kubernetes::resources::{
    CONFIG_MAPS, CRON_JOBS, CrdGroup, DEPLOYMENTS, JOBS, NETWORK_POLICIES, PODS, ROLE_BINDINGS, ROLES,
};
use mocks::kubernetes::stack::{StackOptions, WorldProcesses};
use mocks::kubernetes::store::{Deletion, ObjectKey, Store, Writer};
use mocks::profile::Profile;
use mocks::time::Epoch;
use mocks::world::{World, WorldOptions};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::apply::{self, DRILL, EXAMPLE, SWEEPER};

/// Nothing here takes longer, on a busy machine either.
const LIMIT: Duration = Duration::from_secs(180);
/// A minute of the sweeper.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(5);
const OUTSIDE: &str = "context: mock";
const READY_WITHIN: Duration = Duration::from_secs(30);
pub(crate) const CLOUD_PORT: u16 = 8443;
const KEY: &str = "sk-of-the-mock-cluster";
/// What is said by what goes on.
const SAID: &str = "said";
const WRITER: Writer<'static> = Writer { manager: "test", subresource: "", records: false };

pub(crate) struct House {
    pub(crate) household: Household,
    world: Arc<World>,
    gateway: Gateway,
    dir: TempDir,
}

impl House {
    /// `minute` is how long a minute of the sweeper is.
    pub(crate) async fn start(minute: Duration) -> Self {
        let house = Self::without_image(minute).await;
        house.household.run_image("failover-harness", Path::new(env!("CARGO_BIN_EXE_harness")));
        house
    }

    /// Here the harness's pods do nothing, and do it well.
    pub(crate) async fn without_image(minute: Duration) -> Self {
        let epoch = Epoch::starting_now();
        let world =
            Arc::new(World::start(WorldOptions::five_aliases(epoch, 1, Profile::fast())).await.unwrap());
        let socket = |name: &str| world.gate(name).unwrap().address();
        let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut cluster = ClusterOptions::new(epoch, 1, &[]);
        cluster.open_port = true;
        // Where there is no KEDA nobody is asked about it.
        cluster.crds = vec![CrdGroup::Keda];
        let household = Household::start(HouseholdOptions {
            cluster,
            cni: Cni::K3s,
            timing: Timing { minute, ..Timing::fast() },
            stack: StackOptions {
                cloud: socket("cloud"),
                cloud_host: "ollama.com".to_owned(),
                cloud_port: CLOUD_PORT,
                vllm: socket("vllm"),
                ollama: socket("ollama"),
                gateway: nobody,
                master_key: Secret::new(KEY),
                gateway_replicas: 1,
                vllm_ready_after: None,
                opponents: Vec::new(),
            },
            processes: Arc::new(WorldProcesses::new(Arc::clone(&world))),
        });
        let household = household.await.unwrap();
        household.ready(READY_WITHIN).await.unwrap();
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("environment.yaml"), environment(OUTSIDE)).unwrap();
        let gateway = gateway(&household, dir.path()).await;
        gateway.keep_idle(Duration::from_secs(1));
        let address = gateway.url().trim_start_matches("http://").parse().unwrap();
        let kubelet = household.plane().kubelet().clone();
        assert!(kubelet.set_backing("ml", "litellm", address));
        gateway.log_access(move |client, line| {
            kubelet.log_line_for("ml", "litellm", "litellm", Some(client), line);
        });
        Self { household, world, gateway, dir }
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        self.household.cluster()
    }

    /// The example, with what differs here: processes of the mock cluster have a kubeconfig instead of their account's
    /// files, and so reach the gateway by a port-forward; nobody may listen at 443; and one short scenario.
    pub(crate) async fn deploy(&self, scenario: &str) {
        self.deploy_folder(EXAMPLE, scenario).await;
    }

    /// The same of another overlay.
    pub(crate) async fn deploy_folder(&self, folder: &str, scenario: &str) {
        // First what is mounted: the sweeper starts as soon as it is there.
        apply::apply(self.cluster(), folder).await;
        let store = self.cluster().store();
        for map in store.list(&CONFIG_MAPS, Some("ml")).items {
            let name = map["metadata"]["name"].as_str().unwrap();
            let data = if name.starts_with("failover-harness-environment-") {
                json!({ "environment.yaml": environment(OUTSIDE) })
            } else {
                json!({ "short.yaml": scenario })
            };
            let changed = store.update(&ObjectKey::new(&CONFIG_MAPS, "ml", name), WRITER, |map| {
                map["data"] = data.clone();
                Ok(())
            });
            changed.unwrap();
        }
        let rules =
            json!([{ "apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get", "create"] }]);
        let name = json!({ "name": "test-port-forward" });
        store.create(&ROLES, "ml", json!({ "metadata": name, "rules": rules }), WRITER).unwrap();
        let binding = json!({
            "metadata": name,
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "test-port-forward" },
            "subjects": [{ "kind": "ServiceAccount", "name": DRILL, "namespace": "ml" }],
        });
        store.create(&ROLE_BINDINGS, "ml", binding, WRITER).unwrap();
    }

    /// `harness ARGUMENTS --env ...`, as one of the accounts but from outside.
    pub(crate) async fn harness(&self, account: &str, arguments: &[&str]) -> Output {
        let output = self.command(account, arguments).output();
        tokio::time::timeout(LIMIT, output).await.expect("it ends in time").unwrap()
    }

    /// The same, while it goes on; it writes what it says to a file.
    pub(crate) fn start_harness(&self, account: &str, arguments: &[&str]) -> Child {
        let said = || std::fs::File::options().create(true).append(true).open(self.path(SAID)).unwrap();
        self.command(account, arguments).stdout(said()).stderr(said()).spawn().unwrap()
    }

    /// What that has said so far.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.path(SAID)).unwrap_or_default()
    }

    fn command(&self, account: &str, arguments: &[&str]) -> Command {
        let kubeconfig = self.cluster().kubeconfig_of_account("ml", account).expect("the account is there");
        let file = self.dir.path().join(account);
        std::fs::write(&file, kubeconfig.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command
            .args(arguments)
            .args(["--env", "environment.yaml"])
            .current_dir(self.dir.path())
            .env("KUBECONFIG", file)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Where a file is in the folder that it is started in.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// `kubectl create job NAME --from=cronjob/CRON_JOB`: it runs now. (kubectl itself would send protobuf.)
    pub(crate) fn run_now(&self, cron_job: &str, name: &str) {
        let owner = apply::object(self.cluster(), &CRON_JOBS, cron_job);
        let job = json!({
            "metadata": {
                "name": name,
                "annotations": { "cronjob.kubernetes.io/instantiate": "manual" },
                "labels": owner["spec"]["jobTemplate"]["metadata"]["labels"],
                "ownerReferences": [{
                    "apiVersion": "batch/v1", "kind": "CronJob", "name": cron_job, "controller": true,
                    "uid": owner["metadata"]["uid"],
                }],
            },
            "spec": owner["spec"]["jobTemplate"]["spec"],
        });
        self.cluster().store().create(&JOBS, "ml", job, WRITER).unwrap();
    }

    /// Waits until something holds of the cluster.
    pub(crate) async fn until<T>(&self, what: &str, look: impl Fn(&Cluster) -> Option<T>) -> T {
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        let seen = async {
            loop {
                if let Some(seen) = look(self.cluster()) {
                    return seen;
                }
                looks.tick().await;
            }
        };
        match tokio::time::timeout(LIMIT, seen).await {
            Ok(seen) => seen,
            Err(_) => panic!("never: {what}\n{}", self.told()),
        }
    }

    /// Waits for the end of a Job; whether it is complete, and what its pods have told.
    pub(crate) async fn end_of(&self, job: &str) -> (bool, String) {
        let what = format!("{job} ends");
        let ended = self.until(&what, |cluster| {
            let job = cluster.store().get(&ObjectKey::new(&JOBS, "ml", job))?;
            let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let is = |kind: &str| conditions.iter().any(|one| one["type"] == kind && one["status"] == "True");
            (is("Complete") || is("Failed")).then(|| is("Complete"))
        });
        (ended.await, self.told())
    }

    /// The status and the log of each pod that is of a Job.
    fn told(&self) -> String {
        let mut told = String::new();
        for pod in self.cluster().store().list(&PODS, Some("ml")).items {
            if pod["metadata"]["labels"]["batch.kubernetes.io/job-name"].is_string() {
                let log = self.household.plane().kubelet().log_of(&pod, "harness").join("\n");
                told.push_str(&format!(
                    "{}: {}\n{log}\n",
                    pod["metadata"]["name"], pod["status"]["containerStatuses"]
                ));
            }
        }
        told
    }

    /// The folders of the runs that the drill has left in its claim, oldest first.
    pub(crate) fn runs(&self) -> Vec<PathBuf> {
        runs_in(&self.household.plane().kubelet().claim_folder("ml", "failover-harness-reports"))
    }

    /// What this account has asked of the API, reviews of access left out.
    pub(crate) fn asked_by(&self, account: &str) -> Vec<AuditEntry> {
        let user = format!("system:serviceaccount:ml:{account}");
        let mut entries = self.cluster().audit().entries();
        entries.retain(|entry| entry.user == user && !entry.resource.starts_with("selfsubject"));
        entries
    }

    pub(crate) fn replicas(&self, name: &str) -> u64 {
        replicas_of(self.cluster().store(), name)
    }

    /// Waits for the first success of the sweeper.
    pub(crate) async fn until_swept(&self) {
        self.until("the sweeper succeeds", |cluster| {
            let sweeper = apply::object(cluster, &CRON_JOBS, SWEEPER);
            sweeper["status"]["lastSuccessfulTime"].is_string().then_some(())
        })
        .await;
    }

    /// Waits until the cloud is cut off and these are at 0.
    pub(crate) async fn until_faulted(&self, deployments: &[&str]) {
        self.until("the faults are made", |cluster| {
            let store = cluster.store();
            let is_cut = !store.list(&NETWORK_POLICIES, Some("ml")).items.is_empty();
            (is_cut && deployments.iter().all(|name| replicas_of(store, name) == 0)).then_some(())
        })
        .await;
    }

    /// The names of a Job's pods.
    pub(crate) fn pods_of(&self, job: &str) -> Vec<String> {
        let pods = self.cluster().store().list(&PODS, Some("ml")).items;
        let of_job =
            pods.iter().filter(|pod| pod["metadata"]["labels"]["batch.kubernetes.io/job-name"] == job);
        of_job.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Its processes are killed without a warning.
    pub(crate) fn kill_pods(&self, job: &str) {
        self.delete_pods(job, &Deletion::now());
    }

    /// As by a drain of the node: its processes have the grace period to end.
    pub(crate) fn evict_pods(&self, job: &str) {
        self.delete_pods(job, &Deletion::default());
    }

    fn delete_pods(&self, job: &str, deletion: &Deletion) {
        for pod in self.pods_of(job) {
            self.cluster().store().delete(&ObjectKey::new(&PODS, "ml", &pod), deletion, "test").unwrap();
        }
    }

    /// Its processes are killed, and the Job goes first.
    pub(crate) fn lose_job(&self, job: &str) {
        let key = ObjectKey::new(&JOBS, "ml", job);
        self.cluster().store().delete(&key, &Deletion::now(), "test").unwrap();
        self.kill_pods(job);
    }

    /// No policy and no Job of a run is left.
    pub(crate) fn assert_clean(&self) {
        let store = self.cluster().store();
        let left: BTreeSet<String> = [&JOBS, &NETWORK_POLICIES]
            .iter()
            .flat_map(|resource| store.list(resource, None).items)
            .map(|object| object["metadata"]["name"].as_str().unwrap().to_owned())
            .filter(|name| name.starts_with("drill-"))
            .collect();
        assert_eq!(left, BTreeSet::new());
    }

    pub(crate) async fn strike(self) {
        self.gateway.shutdown().await;
        self.household.shutdown().await;
        self.world.shutdown().await;
    }
}

pub(crate) fn replicas_of(store: &Store, name: &str) -> u64 {
    let object = store.get(&ObjectKey::new(&DEPLOYMENTS, "ml", name)).unwrap();
    object["spec"]["replicas"].as_u64().unwrap()
}

/// The example's environment file, for the mock cluster, reached in this way.
pub(crate) fn environment(reach: &str) -> String {
    let text = std::fs::read_to_string(apply::root().join(EXAMPLE).join("ml/environment.yaml")).unwrap();
    let mut changed = text.clone();
    for (from, to) in
        [("in_cluster: true", reach), ("https://ollama.com", &format!("http://ollama.com:{CLOUD_PORT}"))]
    {
        assert!(changed.contains(from), "{from}: {text}");
        changed = changed.replace(from, to);
    }
    changed
}

/// A mock LiteLLM that reaches its upstreams as a pod of the cluster would.
async fn gateway(household: &Household, dir: &Path) -> Gateway {
    let path = dir.join("environment.yaml");
    let environment = input::load(&[], path.to_str()).unwrap().environment;
    let plane = household.plane();
    let url = |address: Option<&std::net::Ipv4Addr>, port: u16| format!("http://{}:{port}", address.unwrap());
    let urls = BTreeMap::from([
        ("cloud".to_owned(), url(plane.network().host("ollama.com").first(), CLOUD_PORT)),
        ("vllm".to_owned(), url(plane.resolve("ml", "vllm").first(), 8000)),
        ("ollama".to_owned(), url(plane.resolve("ml", "ollama").first(), 11_434)),
    ]);
    let config = against(&ConfigSource::tuned().unwrap(), &environment, &urls).unwrap();
    let lookup = |name: &str| (name == "LITELLM_MASTER_KEY").then(|| KEY.to_owned());
    let config = resolve_environment(&config.value, &lookup);
    Gateway::start(GatewayOptions { config, seed: 1, master_key: Some(Secret::new(KEY)), port: 0 })
        .await
        .unwrap()
}

/// Nothing answers any more.
pub(crate) const ALL_DOWN: &str = "\
scenario: short
title: For a test
requirements: [NFR123]
components: { cloud: down, vllm: down, ollama: down }
traffic:
  - { route: agent, rate: 2/s, for: 6s, stream: mixed }
expect:
  agent: { error: true, within: 5s }
recover:
  agent: { served_by: cloud-kimi, within: 60s }
";

/// Ollama is what is left.
pub(crate) const CLOUD_AND_GPU_DOWN: &str = "\
scenario: short
title: For a test
requirements: [FR217, NFR123, NFR125]
components: { cloud: down, vllm: down }
traffic:
  - { route: agent, rate: 2/s, for: 6s, stream: mixed }
expect:
  agent: { served_by: ollama-qwen, within: 5s, errors: 0 }
recover:
  agent: { served_by: cloud-kimi, within: 60s }
";

pub(crate) fn lines(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The folders of runs, oldest first.
pub(crate) fn runs_in(reports: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(reports).unwrap().map(|entry| entry.unwrap().path());
    let mut runs: Vec<PathBuf> = entries.filter(|path| path.is_dir() && !path.is_symlink()).collect();
    runs.sort();
    runs
}

/// `result.json` of a run.
pub(crate) fn result(dir: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(dir.join("result.json")).unwrap()).unwrap()
}

/// Whether there are records of runs, and each says that all is restored.
pub(crate) fn all_restored(cluster: &Cluster) -> bool {
    let maps = cluster.store().list(&CONFIG_MAPS, Some("ml")).items;
    let records = maps.iter().filter_map(|map| map["data"]["record.json"].as_str());
    let phases: Vec<Value> =
        records.map(|record| serde_json::from_str::<Value>(record).unwrap()["phase"].clone()).collect();
    !phases.is_empty() && phases.iter().all(|phase| phase == "restored")
}

//! A mock cluster with a gateway in it, and the binary that is run against it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use harness::gateway::config::resolve_environment;
use harness::gateway::local::{ConfigSource, against};
use harness::input;
use mocks::gateway::{Gateway, GatewayOptions, Secret};
use mocks::kubernetes::api::User;
use mocks::kubernetes::cluster::ClusterOptions;
use mocks::kubernetes::controllers::{Opponent, Timing};
use mocks::kubernetes::household::{Household, HouseholdOptions};
use mocks::kubernetes::network::Cni;
use mocks::kubernetes::resources::Resource;
use mocks::kubernetes::stack::{StackOptions, WorldProcesses};
use mocks::kubernetes::store::{ObjectKey, Writer};
use mocks::profile::Profile;
use mocks::time::Epoch;
use mocks::world::{World, WorldOptions};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

/// Nothing here takes longer, on a busy machine either.
const LIMIT: Duration = Duration::from_secs(180);
const READY_WITHIN: Duration = Duration::from_secs(30);
const CLOUD_PORT: u16 = 8443;
const KEY: &str = "sk-of-the-mock-cluster";

/// What differs between the clusters of tests.
pub(crate) struct Staging {
    pub(crate) cni: Cni,
    pub(crate) opponents: Vec<Opponent>,
    /// As whom the harness asks; as the one who may do everything where there is none.
    pub(crate) user: Option<User>,
    /// Whether there is a sweeper that has just done its work.
    pub(crate) sweeper: bool,
}

impl Default for Staging {
    fn default() -> Self {
        Self { cni: Cni::K3s, opponents: Vec::new(), user: None, sweeper: true }
    }
}

pub(crate) struct Stack {
    pub(crate) household: Household,
    world: Arc<World>,
    gateway: Gateway,
    dir: TempDir,
}

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// `result.json`, if there is a run directory.
    pub(crate) result: Value,
    /// `report.md`.
    pub(crate) report: String,
}

impl Stack {
    pub(crate) async fn start(staging: Staging) -> Self {
        let epoch = Epoch::starting_now();
        let world =
            Arc::new(World::start(WorldOptions::five_aliases(epoch, 1, Profile::fast())).await.unwrap());
        let socket = |name: &str| world.gate(name).unwrap().address();
        let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut cluster = ClusterOptions::new(epoch, 1, &[]);
        let user = staging.user.as_ref().map(|user| user.name.clone());
        cluster.users = staging.user.into_iter().collect();
        let household = Household::start(HouseholdOptions {
            cluster,
            cni: staging.cni,
            timing: Timing::fast(),
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
                opponents: staging.opponents,
            },
            processes: Arc::new(WorldProcesses::new(Arc::clone(&world))),
        });
        let household = household.await.unwrap();
        household.ready(READY_WITHIN).await.unwrap();
        if staging.sweeper {
            sweeper(&household);
        }
        let dir = TempDir::new().unwrap();
        let kubeconfig = match &user {
            Some(user) => household.cluster().kubeconfig_for(user).unwrap(),
            None => household.cluster().kubeconfig(),
        };
        std::fs::write(dir.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
        std::fs::write(dir.path().join("cluster.yaml"), ENVIRONMENT).unwrap();
        let gateway = gateway(&household, dir.path()).await;
        // A policy leaves old connections alone; the shorter they are kept the sooner a run goes on.
        gateway.keep_idle(Duration::from_secs(1));
        let address = gateway.url().trim_start_matches("http://").parse().unwrap();
        assert!(household.plane().kubelet().set_backing("ml", "litellm", address));
        Self { household, world, gateway, dir }
    }

    /// From now on the cloud is taken down by this mechanism.
    pub(crate) fn blackhole_by(&self, mechanism: &str) {
        let text = ENVIRONMENT.replace("network-policy", mechanism);
        std::fs::write(self.dir.path().join("cluster.yaml"), text).unwrap();
    }

    /// A scenario of these lines.
    pub(crate) fn scenario(&self, name: &str, body: &str) -> PathBuf {
        let path = self.dir.path().join(format!("{name}.yaml"));
        std::fs::write(&path, format!("scenario: {name}\ntitle: For a test\n{body}")).unwrap();
        path
    }

    /// Another environment file than the stock one.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        self.edit_file("cluster.yaml", from, to);
    }

    /// The kubeconfig names another server.
    pub(crate) fn lead_kubeconfig_to(&self, server: &str) {
        self.edit_file("kubeconfig", &self.household.cluster().url(), server);
    }

    fn edit_file(&self, name: &str, from: &str, to: &str) {
        let path = self.dir.path().join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}: {text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }

    /// Somebody with kubectl changes an object.
    pub(crate) fn change(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        change: impl Fn(&mut Value),
    ) {
        let key = ObjectKey::new(resource, namespace, name);
        self.household
            .cluster()
            .store()
            .update(&key, Writer::of_object("kubectl"), |object| {
                change(object);
                Ok(())
            })
            .unwrap();
    }

    /// `harness COMMAND --env cluster.yaml FILES`.
    pub(crate) fn harness(&self, command: &str, files: &[PathBuf]) -> Running {
        let files = files.iter().map(|file| file.to_str().unwrap());
        let mut arguments: Vec<&str> = [command, "--env", "cluster.yaml"].into_iter().chain(files).collect();
        if command == "run" {
            arguments.extend(["--out", "out"]);
        }
        self.command(&arguments)
    }

    /// `harness ARGUMENTS` in the directory of the kubeconfig.
    pub(crate) fn command(&self, arguments: &[&str]) -> Running {
        self.command_with(arguments, &[])
    }

    /// The same with environment variables.
    pub(crate) fn command_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_harness"));
        child.args(arguments).current_dir(self.dir.path());
        child.env_remove("KUBECONFIG").env_remove("RUST_BACKTRACE").env("NO_COLOR", "1");
        child.env_remove("HARNESS_JOB_UID").envs(variables.iter().copied());
        child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = child.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        Running { child, stderr, said: String::new(), out: self.dir.path().join("out") }
    }

    /// A file in that directory.
    pub(crate) fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    /// Who changed something in the cluster through the API, as `VERB RESOURCE NAMESPACE/NAME`, dry runs left out, and
    /// what runs keep there for themselves.
    pub(crate) fn mutations(&self) -> Vec<String> {
        let entries = self.household.cluster().audit().entries();
        let made = entries.iter().filter(|entry| entry.is_mutation() && !entry.dry_run);
        let made = made.filter(|entry| !["leases", "configmaps"].contains(&entry.resource.as_str()));
        made.map(|entry| format!("{} {} {}/{}", entry.verb, entry.resource, entry.namespace, entry.name))
            .collect()
    }

    /// How many pods a Deployment of `ml` is to have.
    pub(crate) fn replicas(&self, name: &str) -> u64 {
        use mocks::kubernetes::resources::DEPLOYMENTS;
        let object = self.household.cluster().store().get(&ObjectKey::new(&DEPLOYMENTS, "ml", name)).unwrap();
        object["spec"]["replicas"].as_u64().unwrap()
    }

    /// Nothing that a run makes is left.
    pub(crate) fn assert_clean(&self) {
        use mocks::kubernetes::resources::{JOBS, NETWORK_POLICIES};
        let store = self.household.cluster().store();
        for resource in [&JOBS, &NETWORK_POLICIES] {
            let left = store.list(resource, None).items;
            assert!(left.is_empty(), "left behind: {left:?}");
        }
    }

    /// Waits until there is a NetworkPolicy.
    pub(crate) async fn until_policy(&self) {
        use mocks::kubernetes::resources::NETWORK_POLICIES;
        let store = self.household.cluster().store();
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        let there = async {
            while store.list(&NETWORK_POLICIES, None).items.is_empty() {
                looks.tick().await;
            }
        };
        tokio::time::timeout(LIMIT, there).await.expect("a policy is made");
    }

    pub(crate) async fn strike(self) {
        self.gateway.shutdown().await;
        self.household.shutdown().await;
        self.world.shutdown().await;
    }
}

/// A CronJob that restores each minute, as far as a run can tell; its time never comes here.
fn sweeper(household: &Household) {
    use mocks::kubernetes::resources::CRON_JOBS;
    let store = household.cluster().store();
    let container = json!({ "name": "sweeper", "image": "registry.invalid/harness" });
    let template = json!({ "spec": { "restartPolicy": "Never", "containers": [container] } });
    let object = json!({
        "metadata": {
            "name": "failover-harness-sweeper",
            "labels": {
                "app.kubernetes.io/name": "failover-harness", "app.kubernetes.io/component": "sweeper",
            },
        },
        "spec": { "schedule": "0 0 1 1 *", "jobTemplate": { "spec": { "template": template } } },
    });
    store.create(&CRON_JOBS, "ml", object, Writer::of_object("kubectl")).unwrap();
    let now = format!("{:.0}", jiff::Timestamp::now());
    let key = ObjectKey::new(&CRON_JOBS, "ml", "failover-harness-sweeper");
    let succeeded = store.update(&key, Writer::of_status("kube-controller-manager"), |object| {
        object["status"] = json!({ "lastSuccessfulTime": now });
        Ok(())
    });
    succeeded.unwrap();
}

/// A mock LiteLLM that reaches its upstreams as a pod of the cluster would.
async fn gateway(household: &Household, dir: &Path) -> Gateway {
    let path = dir.join("cluster.yaml");
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

pub(crate) struct Running {
    child: Child,
    stderr: Lines<BufReader<ChildStderr>>,
    said: String,
    out: PathBuf,
}

impl Running {
    /// Listens until it says so on stderr.
    pub(crate) async fn until_it_says(&mut self, wanted: &str) {
        let listening = async {
            while let Some(line) = self.stderr.next_line().await.unwrap() {
                self.said.push_str(&line);
                self.said.push('\n');
                if line.contains(wanted) {
                    return;
                }
            }
            panic!("never said {wanted:?}:\n{}", self.said);
        };
        tokio::time::timeout(LIMIT, listening).await.expect("it says so in time");
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Any signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Whether it has not ended yet.
    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// kill -9, unless it has ended before.
    pub(crate) async fn kill_after(&mut self, after: Duration) {
        if tokio::time::timeout(after, self.child.wait()).await.is_err() {
            self.child.kill().await.unwrap();
        }
    }

    pub(crate) async fn end(mut self) -> Ended {
        let ending = async {
            let mut stdout = String::new();
            let mut pipe = self.child.stdout.take().unwrap();
            let read = pipe.read_to_string(&mut stdout);
            let said = async {
                while let Some(line) = self.stderr.next_line().await.unwrap() {
                    self.said.push_str(&line);
                    self.said.push('\n');
                }
            };
            let (read, ()) = tokio::join!(read, said);
            read.unwrap();
            (self.child.wait().await.unwrap().code(), stdout)
        };
        let (code, stdout) = tokio::time::timeout(LIMIT, ending).await.expect("it ends in time");
        let file =
            |name: &str| std::fs::read_to_string(self.out.join("latest").join(name)).unwrap_or_default();
        let result = serde_json::from_str(&file("result.json")).unwrap_or(Value::Null);
        assert!(!self.said.contains("panicked"), "{}", self.said);
        assert!(!self.said.contains(KEY) && !stdout.contains(KEY), "the key is shown");
        assert!(
            !file("journal.jsonl").contains(KEY) && !file("report.md").contains(KEY),
            "the key is written"
        );
        Ended { code, stdout, stderr: self.said, result, report: file("report.md") }
    }
}

impl Ended {
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}\n{:#}", self.stdout, self.stderr, self.result["reasons"]);
        self
    }

    /// All reasons of the result in one text.
    pub(crate) fn reasons(&self) -> String {
        self.result["reasons"].to_string()
    }
}

/// The cloud is cut off and vLLM stopped, at a gateway whose user nobody else is.
pub(crate) const CLOUD_AND_GPU_DOWN: &str = "\
requirements: [FR217, NFR123, NFR125]
components: { cloud: down, vllm: down }
traffic:
  - { route: agent, rate: 8/s, for: 6s, stream: mixed }
expect:
  agent: { served_by: ollama-qwen, within: 5s, errors: 0 }
";

/// Only the cloud is cut off.
pub(crate) const CLOUD_DOWN: &str = "\
requirements: [FR217, NFR123, NFR125]
components: { cloud: down }
traffic:
  - { route: agent, rate: 8/s, for: 6s, stream: mixed }
expect:
  agent: { served_by: vllm-qwen, within: 5s, errors: 0 }
";

const ENVIRONMENT: &str = r#"
environment: test-cluster
kubernetes: { kubeconfig: kubeconfig, context: mock, namespaces: [ml, apps] }
gateway:
  service: ml/litellm
  port: 4000
  pods: "app=litellm"
  key: { secret: apps/openclaw-secrets, field: LITELLM_MASTER_KEY }
components:
  cloud:
    aliases: [cloud-kimi, cloud-minimax, cloud-qwen3-coder]
    endpoint: "http://ollama.com:8443"
    down: { blackhole: network-policy }
    ready_within: 30s
  vllm: { aliases: [vllm-qwen], deployment: ml/vllm, down: scale-to-zero, ready_within: 30s }
  ollama: { aliases: [ollama-qwen], deployment: ml/ollama, down: scale-to-zero, ready_within: 30s }
routes:
  agent: { model: cloud-kimi, fallbacks: [cloud-minimax, vllm-qwen, ollama-qwen] }
  coder: { model: cloud-qwen3-coder }
"#;

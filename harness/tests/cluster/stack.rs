//! A mock cluster with a gateway in it, and the binary that is run against it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use harness::cluster::permissions::Need;
use harness::environment::Environment;
use harness::gateway::config::resolve_environment;
use harness::gateway::local::{ConfigSource, against};
use harness::input;
use mocks::gateway::{Gateway, GatewayOptions, Secret};
use mocks::kubernetes::api::{Rule, User};
use mocks::kubernetes::cluster::ClusterOptions;
use mocks::kubernetes::controllers::{Opponent, Timing};
use mocks::kubernetes::household::{Household, HouseholdOptions};
use mocks::kubernetes::network::Cni;
use mocks::kubernetes::resources::{CONFIG_MAPS, CRON_JOBS, CrdGroup, Resource};
use mocks::kubernetes::stack::{StackOptions, WorldProcesses};
use mocks::kubernetes::store::{ObjectKey, Writer};
use mocks::profile::Profile;
use mocks::time::Epoch;
use mocks::world::{World, WorldOptions};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::child::Running;

const READY_WITHIN: Duration = Duration::from_secs(30);
const CLOUD_PORT: u16 = 8443;
/// What kubectl reads: it sends no token over plain HTTP.
const KUBECTL_CONFIG: &str = "kubectl-config";
pub(crate) const KEY: &str = "sk-of-the-mock-cluster";

/// What differs between the clusters of tests.
pub(crate) struct Staging {
    pub(crate) cni: Cni,
    pub(crate) timing: Timing,
    pub(crate) opponents: Vec<Opponent>,
    /// Custom resources beside those of the opponents.
    pub(crate) crds: Vec<CrdGroup>,
    /// Pods of the gateway.
    pub(crate) gateway_replicas: u32,
    /// How long vLLM takes to start.
    pub(crate) vllm_ready_after: Option<Duration>,
    /// As whom the harness asks; as the one who may do everything where there is none.
    pub(crate) user: Option<User>,
    /// Whether there is a sweeper that has just done its work.
    pub(crate) sweeper: bool,
}

impl Default for Staging {
    fn default() -> Self {
        Self {
            cni: Cni::K3s,
            timing: Timing::fast(),
            opponents: Vec::new(),
            crds: Vec::new(),
            gateway_replicas: 1,
            vllm_ready_after: None,
            user: None,
            sweeper: true,
        }
    }
}

pub(crate) struct Stack {
    pub(crate) household: Household,
    world: Arc<World>,
    gateway: Gateway,
    dir: TempDir,
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
        cluster.crds = staging.crds;
        cluster.open_port = true;
        let household = Household::start(HouseholdOptions {
            cluster,
            cni: staging.cni,
            timing: staging.timing,
            stack: StackOptions {
                cloud: socket("cloud"),
                cloud_host: "ollama.com".to_owned(),
                cloud_port: CLOUD_PORT,
                vllm: socket("vllm"),
                ollama: socket("ollama"),
                gateway: nobody,
                master_key: Secret::new(KEY),
                gateway_replicas: staging.gateway_replicas,
                vllm_ready_after: staging.vllm_ready_after,
                opponents: staging.opponents,
            },
            processes: Arc::new(WorldProcesses::new(Arc::clone(&world))),
        });
        let household = household.await.unwrap();
        household.ready(READY_WITHIN).await.unwrap();
        if staging.sweeper {
            sweeper(&household, ENVIRONMENT);
        }
        let dir = TempDir::new().unwrap();
        let kubeconfig = match &user {
            Some(user) => household.cluster().kubeconfig_for(user).unwrap(),
            None => household.cluster().kubeconfig(),
        };
        std::fs::write(dir.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
        let kubectl = household.cluster().kubectl_config().unwrap();
        std::fs::write(dir.path().join(KUBECTL_CONFIG), kubectl.to_string()).unwrap();
        std::fs::write(dir.path().join("cluster.yaml"), ENVIRONMENT).unwrap();
        let cloud = SocketAddr::from((household.plane().network().host("ollama.com")[0], CLOUD_PORT));
        let gateway = gateway(&household, dir.path(), cloud).await;
        // A policy leaves old connections alone; the shorter they are kept the sooner a run goes on.
        gateway.keep_idle(Duration::from_secs(1));
        put_behind_pods(&gateway, &household);
        let stack = Self { household, world, gateway, dir };
        if staging.sweeper {
            stack.swept();
        }
        stack
    }

    /// The gateway keeps connections that it does not use for so long.
    pub(crate) fn keep_idle(&self, limit: Duration) {
        self.gateway.keep_idle(limit);
    }

    /// Another gateway, which reaches the cloud there.
    pub(crate) async fn lead_cloud_to(&mut self, cloud: SocketAddr) {
        let gateway = gateway(&self.household, self.dir.path(), cloud).await;
        gateway.keep_idle(Duration::from_secs(1));
        put_behind_pods(&gateway, &self.household);
        std::mem::replace(&mut self.gateway, gateway).shutdown().await;
    }

    /// From now on the cloud is taken down by this mechanism.
    pub(crate) fn blackhole_by(&self, mechanism: &str) {
        self.edit("network-policy", mechanism);
    }

    /// A scenario of these lines.
    pub(crate) fn scenario(&self, name: &str, body: &str) -> PathBuf {
        let path = self.dir.path().join(format!("{name}.yaml"));
        std::fs::write(&path, format!("scenario: {name}\ntitle: For a test\n{body}")).unwrap();
        path
    }

    /// The environment file as it is read.
    pub(crate) fn environment(&self) -> Environment {
        input::load(&[], self.path("cluster.yaml").to_str()).unwrap().environment
    }

    /// Another environment file than the stock one.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        self.edit_file("cluster.yaml", from, to);
        // The sweeper is of the same environment.
        let text = std::fs::read_to_string(self.dir.path().join("cluster.yaml")).unwrap();
        let key = ObjectKey::new(&CONFIG_MAPS, "ml", SWEPT);
        let store = self.household.cluster().store();
        if store.get(&key).is_some() {
            let told = store.update(&key, Writer::of_object("kubectl"), |object| {
                object["data"] = json!({ "environment.yaml": text });
                Ok(())
            });
            told.unwrap();
        }
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

    /// As if the sweeper had just done its work.
    pub(crate) fn swept(&self) {
        let now = format!("{:.0}", jiff::Timestamp::now());
        let key = ObjectKey::new(&CRON_JOBS, "ml", "failover-harness-sweeper");
        let store = self.household.cluster().store();
        let succeeded = store.update(&key, Writer::of_status("kube-controller-manager"), |object| {
            object["status"] = json!({ "lastSuccessfulTime": now });
            Ok(())
        });
        succeeded.unwrap();
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
        let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
        command.args(arguments).env_remove("HARNESS_JOB_UID").envs(variables.iter().copied());
        self.start_command(command)
    }

    /// Any command in the directory of the kubeconfig.
    pub(crate) fn start_command(&self, command: Command) -> Running {
        Running::start(command, self.dir.path())
    }

    /// The real kubectl. `FAILOVER_TEST_KUBECTL` names the program; without it, `kubectl` of the path.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) {
        let program = std::env::var("FAILOVER_TEST_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
        let mut command = Command::new(program);
        command.args(arguments).args(["--kubeconfig", KUBECTL_CONFIG]).env("HOME", self.dir.path());
        let ended = self.start_command(command).end().await.expect(0);
        assert!(!ended.stdout.is_empty(), "kubectl says what it did");
    }

    /// A person types a line with `kubectl` that the harness gave them; what it prints. `FAILOVER_TEST_APPLY_KUBECTL` is
    /// the newer one, where there are two: older ones than 1.27 do not know all the lines.
    pub(crate) async fn type_in(&self, line: &str) -> String {
        // The same context in the same file, but without a token.
        std::fs::copy(self.path(KUBECTL_CONFIG), self.path("kubeconfig")).unwrap();
        let named = ["FAILOVER_TEST_APPLY_KUBECTL", "FAILOVER_TEST_KUBECTL"]
            .into_iter()
            .find_map(|name| std::env::var(name).ok());
        let program = named.unwrap_or_else(|| "kubectl".to_owned());
        let line = line.strip_prefix("kubectl ").map(|rest| format!("{program} {rest}")).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", &line]).env("HOME", self.dir.path());
        self.start_command(command).end().await.expect(0).stdout
    }

    /// Where a file in that directory is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file in that directory.
    pub(crate) fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    /// What the newest run has written down so far.
    pub(crate) fn journal(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("out/latest/journal.jsonl")).unwrap_or_default()
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

    /// The gateway prints a line.
    pub(crate) fn gateway_prints(&self, line: &str) {
        use mocks::kubernetes::resources::PODS;
        let pods = self.household.cluster().store().list(&PODS, Some("ml")).items;
        let gateways = pods.iter().filter(|pod| pod["metadata"]["labels"]["app"] == "litellm");
        for pod in gateways {
            self.household.plane().kubelet().log_line(pod, "litellm", line);
        }
    }

    /// How many model calls the logs of the gateway's pods show.
    pub(crate) fn calls_printed(&self) -> usize {
        use mocks::kubernetes::resources::PODS;
        let pods = self.household.cluster().store().list(&PODS, Some("ml")).items;
        let kubelet = self.household.plane().kubelet();
        let lines = pods.iter().flat_map(|pod| kubelet.log_of(pod, "litellm"));
        lines.filter(|line| line.contains("\"POST /v1/chat/completions HTTP/1.1\"")).count()
    }

    /// The field managers of all changes to an object through the API, in their order.
    pub(crate) fn writers(&self, resource: &str, name: &str) -> Vec<String> {
        let entries = self.household.cluster().audit().entries().into_iter();
        let made =
            entries.filter(|entry| entry.is_mutation() && entry.resource == resource && entry.name == name);
        made.map(|entry| entry.manager).collect()
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

    /// Waits for something that nothing announces.
    pub(crate) async fn eventually(&self, what: &str, within: Duration, check: impl Fn(&Self) -> bool) {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        let there = async {
            while !check(self) {
                looks.tick().await;
            }
        };
        tokio::time::timeout(within, there).await.unwrap_or_else(|_| panic!("never seen: {what}"));
    }

    /// What the gateway prints is taken there, too, beside its pod's log.
    pub(crate) fn gateway_prints_to(&self, also: impl Fn(&str) + Send + Sync + 'static) {
        let kubelet = self.household.plane().kubelet().clone();
        self.gateway.log_access(move |client, line| {
            also(line);
            kubelet.log_line_for("ml", "litellm", "litellm", Some(client), line);
        });
    }

    /// Of what vLLM prints only these lines reach its pod's log.
    pub(crate) fn vllm_prints(&self, is_printed: impl Fn(&str) -> bool + Send + Sync + 'static) {
        let kubelet = self.household.plane().kubelet().clone();
        let print = move |line: &str| {
            if is_printed(line) {
                kubelet.log_line_for("ml", "vllm", "vllm", None, line);
            }
        };
        self.world.log_to("vllm", Arc::new(print)).unwrap();
    }

    pub(crate) async fn strike(self) {
        // What prints holds the kubelet that it prints into.
        self.world.log_to("vllm", Arc::new(|_| {})).unwrap();
        self.gateway.shutdown().await;
        self.household.shutdown().await;
        self.world.shutdown().await;
    }
}

/// A role that allows these needs and nothing else.
pub(crate) fn rules(needs: &[Need]) -> Vec<Rule> {
    let rule = |need: &Need| Rule {
        namespaces: need.namespace.iter().cloned().collect(),
        groups: vec![need.group.clone()],
        resources: vec![need.resource.clone()],
        names: need.name.iter().cloned().collect(),
        verbs: vec![need.verb.clone()],
    };
    // What everybody may.
    let reviews = Rule {
        namespaces: Vec::new(),
        groups: vec!["authorization.k8s.io".to_owned()],
        resources: vec!["selfsubjectaccessreviews".to_owned()],
        names: Vec::new(),
        verbs: vec!["create".to_owned()],
    };
    needs.iter().map(rule).chain([reviews]).collect()
}

/// The ConfigMap with the sweeper's environment.
pub(crate) const SWEPT: &str = "swept-environment";

/// A CronJob that restores each minute in this environment, as far as a run can tell; its time never comes here.
fn sweeper(household: &Household, environment: &str) {
    let store = household.cluster().store();
    let map = json!({ "metadata": { "name": SWEPT }, "data": { "environment.yaml": environment } });
    store.create(&CONFIG_MAPS, "ml", map, Writer::of_object("kubectl")).unwrap();
    let container = json!({
        "name": "sweeper", "image": "registry.invalid/harness",
        "args": ["restore", "--env=/etc/harness/environment.yaml", "--abandoned"],
        "volumeMounts": [{ "name": "environment", "mountPath": "/etc/harness" }],
    });
    let volume = json!({ "name": "environment", "configMap": { "name": SWEPT } });
    let template =
        json!({ "spec": { "restartPolicy": "Never", "containers": [container], "volumes": [volume] } });
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
}

/// The gateway's pods are this gateway, and print what it does.
fn put_behind_pods(gateway: &Gateway, household: &Household) {
    let address = gateway.url().trim_start_matches("http://").parse().unwrap();
    let kubelet = household.plane().kubelet();
    assert!(kubelet.set_backing("ml", "litellm", address));
    let kubelet = kubelet.clone();
    gateway.log_access(move |client, line| {
        kubelet.log_line_for("ml", "litellm", "litellm", Some(client), line);
    });
}

/// A mock LiteLLM that reaches its upstreams as a pod of the cluster would, and the cloud at this address.
async fn gateway(household: &Household, dir: &Path, cloud: SocketAddr) -> Gateway {
    let path = dir.join("cluster.yaml");
    let environment = input::load(&[], path.to_str()).unwrap().environment;
    let plane = household.plane();
    let url = |address: Option<&std::net::Ipv4Addr>, port: u16| format!("http://{}:{port}", address.unwrap());
    let urls = BTreeMap::from([
        ("cloud".to_owned(), format!("http://{cloud}")),
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

/// The cloud is cut off and vLLM stopped, at a gateway whose user nobody else is.
pub(crate) const CLOUD_AND_GPU_DOWN: &str = "\
requirements: [FR217, NFR123, NFR125]
components: { cloud: down, vllm: down }
traffic:
  - { route: agent, rate: 4/s, for: 6s, stream: mixed }
expect:
  agent: { served_by: ollama-qwen, within: 5s, errors: 0 }
";

/// Only the cloud is cut off.
pub(crate) const CLOUD_DOWN: &str = "\
requirements: [FR217, NFR123, NFR125]
components: { cloud: down }
traffic:
  - { route: agent, rate: 4/s, for: 6s, stream: mixed }
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

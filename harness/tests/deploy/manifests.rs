//! What the manifests say, as kubectl builds them and as the API keeps them.

use std::path::PathBuf;

use harness::cluster::dead_man::LABELS;
use harness::environment::{Environment, Reach};
use harness::input;
use harness::run::{Schedule, lead, schedule};
use harness::units::Period;
use mocks::kubernetes::resources::{CLUSTER_ROLES, CONFIG_MAPS, CRON_JOBS, ROLES};
use serde_json::Value;

use crate::apply::{self, DRILL, EXAMPLE, SWEEPER, job_and_pod, object, root};

const ENVIRONMENT: &str = "deploy/overlays/example/ml/environment.yaml";

fn environment(file: &str) -> Environment {
    input::load(&[], root().join(file).to_str()).unwrap().environment
}

#[tokio::test]
async fn the_example_is_taken_whole_and_can_be_applied_again() {
    let cluster = apply::empty().await;
    let made = apply::apply(&cluster, EXAMPLE).await;
    let mut names: Vec<String> = made
        .iter()
        .map(|line| {
            // The suffix of a generated ConfigMap is that of its content.
            let name = line.split_once(' ').unwrap_or_else(|| panic!("{line}")).0;
            if name.starts_with("configmap/") {
                name.rsplit_once('-').unwrap().0.to_owned()
            } else {
                name.to_owned()
            }
        })
        .collect();
    names.sort();
    let wanted = [
        "configmap/failover-harness-environment",
        "configmap/failover-harness-scenarios",
        "cronjob.batch/failover-harness-drill",
        "cronjob.batch/failover-harness-sweeper",
        "persistentvolumeclaim/failover-harness-reports",
        "role.rbac.authorization.k8s.io/failover-harness-drill",
        "role.rbac.authorization.k8s.io/failover-harness-gateway-key",
        "role.rbac.authorization.k8s.io/failover-harness-sweeper",
        "rolebinding.rbac.authorization.k8s.io/failover-harness-drill",
        "rolebinding.rbac.authorization.k8s.io/failover-harness-gateway-key",
        "rolebinding.rbac.authorization.k8s.io/failover-harness-sweeper",
        "serviceaccount/failover-harness-drill",
        "serviceaccount/failover-harness-sweeper",
    ];
    assert_eq!(names, wanted, "{made:#?}");
    let again = apply::apply(&cluster, EXAMPLE).await;
    let changed: Vec<&String> = again.iter().filter(|line| !line.ends_with(" unchanged")).collect();
    assert!(changed.is_empty(), "{changed:?}");
    for folder in [
        "deploy/optional/nodes",
        "deploy/optional/netns-drop",
        "deploy/optional/egress-proxy",
        "deploy/optional/openclaw",
    ] {
        // Without an overlay a binding has no namespace for its accounts.
        let built = apply::must(&cluster, &["kustomize", folder]).await;
        assert!(built.contains("Binding"), "{folder}: {built}");
    }
}

#[tokio::test]
async fn a_run_always_has_the_time_to_restore() {
    let cluster = apply::with(EXAMPLE).await;
    let (job, pod) = job_and_pod(&cluster, DRILL);
    let environment = environment(ENVIRONMENT);
    let scenarios =
        input::load(&[root().join("scenarios")], root().join(ENVIRONMENT).to_str()).unwrap().scenarios;
    let plan = harness::plan::resolve(&scenarios, &environment, lead(&environment), 0);
    let needed = schedule(&plan, &environment);
    let given = Given::of(&job, &pod);
    assert_eq!(given.lacks(&needed), Vec::<String>::new(), "{needed:?}");
    // And the comparison can fail.
    let less = Given { deadline: needed.longest.as_secs(), active_deadline: given.deadline, grace: 30 };
    assert_eq!(less.lacks(&needed).len(), 3);
    let (job, pod) = job_and_pod(&cluster, SWEEPER);
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    let until = job["activeDeadlineSeconds"].as_u64().unwrap() + grace;
    assert!(until < 60, "one sweep is over before the next: {until} s");
}

/// What a Job is given.
struct Given {
    deadline: u64,
    active_deadline: u64,
    grace: u64,
}

impl Given {
    fn of(job: &Value, pod: &Value) -> Self {
        let arguments = pod["containers"][0]["args"].as_array().unwrap();
        let deadline = arguments.iter().find_map(|argument| argument.as_str()?.strip_prefix("--deadline="));
        let deadline: Period = deadline.expect("a deadline").parse().unwrap();
        Self {
            deadline: deadline.0.as_secs(),
            active_deadline: job["activeDeadlineSeconds"].as_u64().unwrap(),
            grace: pod["terminationGracePeriodSeconds"].as_u64().unwrap(),
        }
    }

    fn lacks(&self, needed: &Schedule) -> Vec<String> {
        let deadline = needed.deadline.0.as_secs();
        // Whatever the deadline is, the Job's own comes as much later as it must.
        let later = needed.active_deadline.as_secs() - deadline;
        let all = [
            ("--deadline", self.deadline, deadline),
            ("activeDeadlineSeconds", self.active_deadline, self.deadline.max(deadline) + later),
            ("terminationGracePeriodSeconds", self.grace, needed.grace.as_secs()),
        ];
        let lacking = all.iter().filter(|(_, given, needed)| given < needed);
        lacking.map(|(what, given, needed)| format!("{what} is {given}, and {needed} are needed")).collect()
    }
}

#[tokio::test]
async fn the_jobs_survive_a_lost_node_and_do_not_wait_for_each_other() {
    let cluster = apply::with(EXAMPLE).await;
    for (name, concurrency, seconds, backoff) in
        [(DRILL, "Forbid", 20..=30, 2), (SWEEPER, "Allow", 20..=20, 0)]
    {
        let cron_job = object(&cluster, &CRON_JOBS, name);
        let (job, pod) = job_and_pod(&cluster, name);
        assert_eq!(cron_job["spec"]["concurrencyPolicy"], concurrency, "{name}");
        assert_eq!(cron_job["spec"]["suspend"], false, "{name}");
        assert!(job["podFailurePolicy"].is_null(), "a replacement would wait for a pod on a dead node");
        assert_eq!(job["backoffLimit"], backoff, "{name}");
        assert_eq!(pod["restartPolicy"], "Never", "{name}");
        assert_eq!(pod["containers"][0]["imagePullPolicy"], "IfNotPresent", "{name}");
        for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
            let tolerations = pod["tolerations"].as_array().unwrap();
            let found = tolerations.iter().find(|toleration| toleration["key"] == key).unwrap();
            assert!(seconds.contains(&found["tolerationSeconds"].as_u64().unwrap()), "{name}: {found}");
            assert_eq!(found["effect"], "NoExecute", "{name}");
        }
        let resources = &pod["containers"][0]["resources"];
        for pointer in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
            assert!(resources.pointer(pointer).is_some_and(Value::is_string), "{name}: {pointer}");
        }
    }
    let drill = object(&cluster, &CRON_JOBS, DRILL);
    assert_eq!(drill["spec"]["schedule"], "0 2 * * *");
    assert_eq!(drill["spec"]["startingDeadlineSeconds"], 300);
    assert!(drill["spec"]["timeZone"].is_string(), "2 in the morning is that of somebody");
    let sweeper = object(&cluster, &CRON_JOBS, SWEEPER);
    assert_eq!(sweeper["spec"]["schedule"], "* * * * *");
    assert_eq!(sweeper["spec"]["successfulJobsHistoryLimit"], 1);
    for (label, value) in [("name", "failover-harness"), ("component", "sweeper")] {
        let key = format!("app.kubernetes.io/{label}");
        let looked_for = format!("{key}={value}");
        assert!(LABELS.split(',').any(|label| label == looked_for), "{LABELS}");
        assert_eq!(sweeper["metadata"]["labels"][key], value, "a run looks for the sweeper by its labels");
    }
}

#[tokio::test]
async fn no_role_has_a_wildcard_or_more_of_a_secret_than_its_own() {
    let cluster = apply::with(EXAMPLE).await;
    let roles = cluster.store().list(&ROLES, None).items;
    assert_eq!(roles.len(), 3);
    assert!(
        cluster.store().list(&CLUSTER_ROLES, None).items.is_empty(),
        "nothing is given outside the namespaces"
    );
    for role in &roles {
        for rule in role["rules"].as_array().unwrap() {
            for field in ["apiGroups", "resources", "verbs"] {
                let texts = rule[field].as_array().unwrap();
                assert!(!texts.iter().any(|text| text.as_str().unwrap().contains('*')), "{rule}");
            }
            let named = ["deployments/scale", "secrets"];
            let resources = rule["resources"].as_array().unwrap();
            if resources.iter().any(|resource| named.contains(&resource.as_str().unwrap())) {
                assert!(!rule["resourceNames"].as_array().unwrap().is_empty(), "{rule}");
            }
        }
    }
    let environment = environment(ENVIRONMENT);
    let deployments = environment.components.values().filter_map(|component| component.deployment.as_ref());
    let mut scaled: Vec<&str> = deployments.map(|deployment| deployment.name.as_str()).collect();
    scaled.sort_unstable();
    for name in [DRILL, SWEEPER] {
        let role = object(&cluster, &ROLES, name);
        let mut named: Vec<&str> =
            role["rules"][0]["resourceNames"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        named.sort_unstable();
        assert_eq!(named, scaled, "{name}");
    }
}

#[tokio::test]
async fn the_files_in_the_cluster_are_those_that_are_committed() {
    let cluster = apply::with(EXAMPLE).await;
    let maps = cluster.store().list(&CONFIG_MAPS, Some("ml")).items;
    let map = |beginning: &str| {
        maps.iter().find(|map| map["metadata"]["name"].as_str().unwrap().starts_with(beginning)).unwrap()
    };
    let scenarios = map("failover-harness-scenarios-")["data"].as_object().unwrap().clone();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(root().join("scenarios")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    assert_eq!(scenarios.len(), files.len(), "each scenario is deployed");
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert_eq!(scenarios[name], std::fs::read_to_string(&file).unwrap(), "{name}");
    }
    let (_, pod) = job_and_pod(&cluster, DRILL);
    let volumes = pod["volumes"].to_string();
    for map in &maps {
        let name = map["metadata"]["name"].as_str().unwrap();
        assert!(volumes.contains(name), "{name} is mounted: {volumes}");
    }
}

#[test]
fn the_example_is_the_home_cluster_seen_from_inside() {
    let mut inside = environment(ENVIRONMENT);
    let outside = environment("scenarios/environments/home-cluster.yaml");
    inside.source = outside.source.clone();
    let harness::environment::Kind::Kubernetes(cluster) = &mut inside.kind else { panic!("a cluster") };
    assert_eq!(cluster.reach, Reach::InCluster);
    cluster.reach = outside.cluster().unwrap().reach.clone();
    assert_eq!(inside, outside);
}

//! The Pod Security level `restricted`, field by field, and a root that cannot be written.

use mocks::kubernetes::resources::PODS;
use serde_json::{Value, json};

use crate::apply::{self, DRILL, EXAMPLE, SWEEPER, job_and_pod};

const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// What the level does not allow in a pod.
fn violations(pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            found.push(what.to_owned());
        }
    };
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        must(!is_true(&pod[field]), field);
    }
    let of_pod = &pod["securityContext"];
    must(of_pod["sysctls"].as_array().is_none_or(Vec::is_empty), "sysctls");
    must(of_pod["runAsUser"] != 0, "runAsUser of the pod");
    must(!is_true(&of_pod["windowsOptions"]["hostProcess"]), "hostProcess");
    for volume in pod["volumes"].as_array().into_iter().flatten() {
        let mut kinds = volume.as_object().unwrap().keys().filter(|key| *key != "name");
        must(kinds.all(|kind| VOLUMES.contains(&kind.as_str())), "volumes");
    }
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let containers = lists.iter().flat_map(|list| pod[*list].as_array().into_iter().flatten());
    for container in containers {
        let own = &container["securityContext"];
        let either =
            |field: &str| if own[field].is_null() { of_pod[field].clone() } else { own[field].clone() };
        must(!is_true(&own["privileged"]), "privileged");
        must(own["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation");
        must(is_true(&either("runAsNonRoot")), "runAsNonRoot");
        must(own["runAsUser"] != 0, "runAsUser");
        let seccomp = either("seccompProfile")["type"].clone();
        must(seccomp == "RuntimeDefault" || seccomp == "Localhost", "seccompProfile");
        let listed = |list: &str| own["capabilities"][list].as_array().cloned().unwrap_or_default();
        must(listed("drop").contains(&json!("ALL")), "capabilities.drop");
        must(listed("add").iter().all(|one| *one == "NET_BIND_SERVICE"), "capabilities.add");
        must(own["procMount"].is_null() || own["procMount"] == "Default", "procMount");
        let mut ports = container["ports"].as_array().into_iter().flatten();
        must(ports.all(|port| port["hostPort"].is_null()), "hostPort");
        // Not part of the level.
        must(own["readOnlyRootFilesystem"] == true, "readOnlyRootFilesystem");
    }
    found
}

fn is_true(value: &Value) -> bool {
    *value == true
}

#[tokio::test]
async fn pods_satisfy_the_level_restricted() {
    let cluster = apply::with(EXAMPLE).await;
    apply::must(&cluster, &["-n", "ml", "apply", "--validate=strict", "-k", "deploy/optional/reports"]).await;
    let reader = apply::object(&cluster, &PODS, "failover-harness-reader");
    assert_eq!(violations(&reader["spec"]), Vec::<String>::new());
    for name in [DRILL, SWEEPER] {
        let (_, pod) = job_and_pod(&cluster, name);
        assert_eq!(pod["containers"].as_array().unwrap().len(), 1, "there is something to look at");
        assert_eq!(violations(&pod), Vec::<String>::new(), "{name}");
        // Each thing that the level demands is missed when it is not there.
        for (pointer, worse, named) in [
            ("/hostNetwork", json!(true), "hostNetwork"),
            ("/volumes/0", json!({ "name": "x", "hostPath": { "path": "/" } }), "volumes"),
            ("/securityContext/runAsNonRoot", json!(false), "runAsNonRoot"),
            ("/securityContext/runAsUser", json!(0), "runAsUser of the pod"),
            ("/securityContext/seccompProfile", json!(null), "seccompProfile"),
            (
                "/containers/0/securityContext/allowPrivilegeEscalation",
                json!(null),
                "allowPrivilegeEscalation",
            ),
            ("/containers/0/securityContext/capabilities", json!({ "add": ["ALL"] }), "capabilities.drop"),
            ("/containers/0/securityContext/readOnlyRootFilesystem", json!(null), "readOnlyRootFilesystem"),
        ] {
            let mut pod = pod.clone();
            if pointer == "/hostNetwork" {
                pod["hostNetwork"] = worse;
            } else {
                *pod.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = worse;
            }
            assert!(violations(&pod).contains(&named.to_owned()), "{pointer}: {:?}", violations(&pod));
        }
    }
}

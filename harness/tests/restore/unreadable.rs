//! Records that this program cannot read: written by a newer one, or broken by somebody.

use mocks::kubernetes::resources::CONFIG_MAPS;
use serde_json::Value;

use crate::records::{killed, replicas, two_pods};
use crate::stack::Stack;

/// The name of the one record, and what it holds.
fn record(stack: &Stack) -> (String, Value) {
    let maps = stack.household.cluster().store().list(&CONFIG_MAPS, Some("ml")).items;
    let component = "app.kubernetes.io/component";
    let map = maps.iter().find(|map| map["metadata"]["labels"][component] == "record");
    let map = map.expect("there is a record");
    (map["metadata"]["name"].as_str().unwrap().to_owned(), map["data"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_is_named_with_what_to_do_and_never_skipped() {
    let stack = two_pods().await;
    let file = killed(&stack).await;
    let (name, good) = record(&stack);
    let json = good["record.json"].as_str().unwrap();
    let newer = json.replace("\"format\": 1", "\"format\": 2, \"more\": 0");
    let more = json.replace("\"format\": 1", "\"format\": 1, \"more\": 0");
    let cases = [
        (Some(newer), "its format 2 is newer than this program"),
        (Some(more), "it says what this program does not know (line"),
        (Some(json[..json.len() / 2].to_owned()), "it is broken (line"),
        (None, "it has no record.json"),
    ];
    let what_to_do = [
        format!(
            "kubectl --kubeconfig kubeconfig --context mock -n ml get configmap {name} -o jsonpath='{{.data.restore\\.txt}}'"
        ),
        format!("kubectl --kubeconfig kubeconfig --context mock -n ml delete configmap {name}"),
    ];
    for (place, (json, why)) in cases.into_iter().enumerate() {
        stack.change(&CONFIG_MAPS, "ml", &name, |map| {
            map["data"] = good.clone();
            match &json {
                Some(json) => map["data"]["record.json"] = json.clone().into(),
                None => drop(map["data"].as_object_mut().unwrap().remove("record.json")),
            }
        });
        let left = record(&stack);
        let told = |words: &str| {
            assert!(words.contains(why), "{why}: {words}");
            for line in &what_to_do {
                assert!(words.contains(line), "{line}: {words}");
            }
        };
        let sweep = stack.command(&["restore", "--env", "cluster.yaml", "--abandoned"]).end().await.expect(4);
        told(&sweep.stdout);
        if place == 0 {
            told(&stack.command(&["restore", "--env", "cluster.yaml"]).end().await.expect(4).stdout);
            // Nothing is begun on top of it.
            let ended = stack.harness("run", std::slice::from_ref(&file)).end().await.expect(4);
            assert_eq!(ended.result["ended"], "refused");
            // Quoted as JSON.
            told(&ended.reasons().replace(r"\\", r"\"));
        }
        assert_eq!(record(&stack), left, "it is left as it is");
        assert_eq!(replicas(&stack, "vllm"), 0);
    }
    // Whoever understands it restores.
    stack.change(&CONFIG_MAPS, "ml", &name, |map| map["data"] = good.clone());
    stack.command(&["restore", "--env", "cluster.yaml"]).end().await.expect(0);
    assert_eq!(replicas(&stack, "vllm"), 2);
    stack.assert_clean();
    stack.strike().await;
}

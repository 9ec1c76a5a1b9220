//! The alarm about what is not undone, while the API has a bad time: then it is needed most.

use std::time::{Duration, Instant};

use harness::cluster::access::Access;
use harness::cluster::alarm::{Alarm, Stuck};
use harness::cluster::faults::scale::Scale;
use harness::cluster::mutation::Mutation;
use harness::environment::ObjectName;
use mocks::kubernetes::api::{ChaosRule, Trouble};
use mocks::kubernetes::cluster::{Cluster, ClusterOptions};
use mocks::kubernetes::resources::EVENTS;
use mocks::time::Epoch;
use tokio::time::timeout;

fn stuck(name: &str) -> Stuck {
    let deployment = ObjectName::new("ml", name);
    Stuck {
        mutation: Mutation::Scale(Scale { deployment, uid: "u1".into(), replicas: 2 }),
        why: "no".to_owned(),
        command: format!("kubectl -n ml scale deployment/{name}"),
    }
}

#[tokio::test]
async fn an_event_that_could_not_be_made_is_made_by_the_next_alarm_and_no_event_twice() {
    let options = ClusterOptions::new(Epoch::from_instant(Instant::now()), 1, &["ml"]);
    let cluster = Cluster::start(options, |_| None).await.unwrap();
    let access = Access::with_kubeconfig(&cluster.kubeconfig(), "mock", &["ml".to_owned()]).await.unwrap();
    let of = || {
        let events = cluster.store().list(&EVENTS, Some("ml")).items;
        let mut of: Vec<String> =
            events.iter().map(|event| event["involvedObject"]["name"].as_str().unwrap().to_owned()).collect();
        of.sort();
        of
    };
    let troubled = |trouble| ChaosRule {
        verb: "create".to_owned(),
        resource: "events".to_owned(),
        times: Some(1),
        trouble,
    };
    let alarm = Alarm::default();
    // Whoever waits for an alarm may be cut short.
    cluster.chaos().add(troubled(Trouble::Hang));
    let given_up = timeout(Duration::from_millis(500), alarm.raise(Some(&access), &[stuck("vllm")])).await;
    assert!(given_up.is_err(), "it hangs");
    assert!(alarm.end(&stuck("vllm").mutation), "it was told");
    cluster.chaos().add(troubled(Trouble::Refused { code: 503, retry_after: None }));
    let told = alarm.raise(Some(&access), &[stuck("vllm")]).await;
    assert_eq!(told, [stuck("vllm").words()], "it is told all the same");
    assert_eq!(of(), Vec::<String>::new());
    let told = alarm.raise(Some(&access), &[stuck("ollama")]).await;
    assert_eq!(told, [stuck("ollama").words()], "of the other one nothing is new");
    assert_eq!(of(), ["ollama", "vllm"]);
    let told = alarm.raise(Some(&access), &[stuck("vllm")]).await;
    assert_eq!(told, Vec::<String>::new(), "it is kept once");
    let slow = |seconds: &str| Stuck { why: format!("no answer within {seconds} s"), ..stuck("ollama") };
    assert_eq!(alarm.raise(Some(&access), &[slow("8.41")]).await.len(), 1);
    let told = alarm.raise(Some(&access), &[slow("10")]).await;
    assert_eq!(told, Vec::<String>::new(), "how long it took is no other reason");
    let other = Stuck { why: "not allowed".to_owned(), ..stuck("vllm") };
    let told = alarm.raise(Some(&access), std::slice::from_ref(&other)).await;
    assert_eq!(told, [other.words()], "and again when its words change");
    assert_eq!(of(), ["ollama", "vllm"]);
    assert!(alarm.end(&stuck("vllm").mutation), "it was told");
    assert!(!alarm.end(&stuck("vllm").mutation), "that is over");
    let told = alarm.raise_if_due(Some(&access), &[stuck("vllm")]).await;
    assert_eq!(told, Vec::<String>::new(), "not yet again");
}

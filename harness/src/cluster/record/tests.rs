use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use proptest::prelude::*;

use super::{BYTES_MAX, Change, Phase, Record, State};
use crate::cluster::faults::scale::Scale;
use crate::cluster::mutation::{Kubectl, Mutation};
use crate::environment::ObjectName;

const RUN: &str = "20261123T004551Z-0a1b2c";

fn scale(name: &str, replicas: i32) -> Mutation {
    Mutation::Scale(Scale { deployment: ObjectName::new("ml", name), uid: "u1".into(), replicas })
}

fn record() -> Record {
    let now: Timestamp = "2026-11-23T00:45:51Z".parse().unwrap();
    Record::new(RUN, "home", "attic", None, now, "2026-11-23T01:45:51Z".parse().unwrap())
}

fn kubectl() -> Kubectl {
    Kubectl::new(Some("home"))
}

#[test]
fn the_first_intent_keeps_the_original_count() {
    let mut record = record();
    assert_eq!(record.intend(&scale("vllm", 2), &kubectl()), Ok(0));
    let refused = record.intend(&scale("vllm", 0), &kubectl()).unwrap_err();
    assert!(refused.to_string().contains("deployments/scale ml/vllm"), "{refused}");
    assert_eq!(record.intend(&scale("ollama", 1), &kubectl()), Ok(1));
    record.note(0, State::Undone);
    assert_eq!(record.intend(&scale("vllm", 2), &kubectl()), Ok(2), "it is back, and may go down again");
    record.phase = Phase::Restored;
    assert_eq!(record.holds(&scale("ollama", 1)), None, "nothing is open in a record that is closed");
}

#[test]
fn a_person_is_told_what_to_type_and_in_which_order() {
    let mut record = record();
    record.intend(&scale("vllm", 2), &kubectl()).unwrap();
    record.intend(&scale("ollama", 1), &kubectl()).unwrap();
    record.note(0, State::Made);
    insta::assert_snapshot!(record.text(), @r"
    # What the run 20261123T004551Z-0a1b2c (environment home, on attic, since 2026-11-23T00:45:51.000Z) has changed in this cluster.
    # `harness restore --env ENVIRONMENT` undoes it. By hand, in this order:

    # scale Deployment ml/ollama from 1 pod to 0 (may have been done)
    kubectl --context home -n ml scale deployment/ollama --current-replicas=0 --replicas=1

    # scale Deployment ml/vllm from 2 pods to 0 (done)
    kubectl --context home -n ml scale deployment/vllm --current-replicas=0 --replicas=2
    ");
    record.note(0, State::Undone);
    record.note(1, State::LeftAlone);
    assert!(record.text().contains("Nothing of it is left to undo"), "{}", record.text());
    assert!(record.text().contains("changed it since: deployments/scale ml/ollama"), "{}", record.text());
}

#[test]
fn what_is_no_record_or_a_newer_one_is_told_apart() {
    let name = Record::name("ml", RUN);
    assert_eq!(name.name, "failover-harness-20261123t004551z-0a1b2c");
    let map = record().manifest(&name, Some("7")).unwrap();
    assert_eq!(Record::read(&map), Some(Ok(record())));
    let changed = |from: &str, to: &str| {
        let mut map = map.clone();
        let json = map.data.as_mut().unwrap().get_mut("record.json").unwrap();
        *json = json.replace(from, to);
        Record::read(&map).unwrap().unwrap_err()
    };
    assert!(changed("\"format\": 1", "\"format\": 2, \"new\": 0").contains("newer than this program"));
    assert!(changed("\"format\": 1", "\"format\": 1, \"new\": 0").contains("this program does not know"));
    assert!(changed("{", "").contains("it is broken (line"));
    let mut empty = map.clone();
    empty.data = None;
    assert!(Record::read(&empty).unwrap().unwrap_err().contains("no record.json"), "it is one by its label");
    assert!(changed("2026-11-23T01:45:51Z", "tomorrow").contains("deadline"));
    assert_eq!(Record::read(&ConfigMap::default()), None);
}

#[test]
fn a_record_is_bounded() {
    let mut record = record();
    let change = |seq| Change {
        seq,
        object: "x".repeat(1000),
        words: String::new(),
        undo: String::new(),
        mutation: scale("vllm", 1),
        state: State::NotMade,
        intended_at: None,
    };
    record.changes = (0..u32::try_from(BYTES_MAX / 1000).unwrap()).map(change).collect();
    let why = record.manifest(&Record::name("ml", RUN), None).unwrap_err();
    assert!(why.contains("is the most"), "{why}");
}

#[test]
fn what_is_not_known_to_be_made_may_land_for_a_while() {
    let mut record = record();
    record.intend(&scale("vllm", 2), &kubectl()).unwrap();
    let mut change = record.changes.remove(0);
    change.intended_at = Some("2026-11-23T00:45:51.000Z".into());
    let (young, old) = ("2026-11-23T00:48:20Z".parse().unwrap(), "2026-11-23T00:48:21Z".parse().unwrap());
    assert!(change.may_still_land(young) && !change.may_still_land(old));
    let behind = "2026-11-23T00:40:00Z".parse().unwrap();
    assert!(change.may_still_land(behind), "the clock of whoever restores may be slow");
    assert!(!Change { state: State::Made, ..change.clone() }.may_still_land(young));
    assert!(!Change { intended_at: None, ..change }.may_still_land(young));
}

#[test]
fn its_time_is_over_after_the_deadline() {
    let record = record();
    assert!(!record.is_overdue("2026-11-23T01:45:51Z".parse().unwrap()));
    assert!(record.is_overdue("2026-11-23T01:45:52Z".parse().unwrap()));
}

proptest! {
    #[test]
    fn whatever_happens_an_open_original_is_never_overwritten(
        steps in proptest::collection::vec((0..3_usize, 1..5_i32, 0..5_usize), 0..40)
    ) {
        let mut record = record();
        let names = ["vllm", "ollama", "other"];
        let mut open = std::collections::BTreeMap::new();
        for (place, count, state) in steps {
            let mutation = scale(names[place], count);
            match record.intend(&mutation, &kubectl()) {
                Ok(seq) => prop_assert_eq!(open.insert(place, (seq, count)), None),
                Err(_) => prop_assert!(open.contains_key(&place)),
            }
            let (seq, first) = open[&place];
            let kept = record.changes.iter().find(|change| change.seq == seq).unwrap();
            prop_assert_eq!(&kept.mutation, &scale(names[place], first));
            let states =
                [State::Intended, State::Made, State::NotMade, State::Undone, State::LeftAlone];
            record.note(seq, states[state]);
            if !states[state].is_open() {
                open.remove(&place);
            }
            prop_assert_eq!(record.to_undo().count(), open.len());
        }
    }

    #[test]
    fn no_content_panics(json in ".{0,200}") {
        let mut map = record().manifest(&Record::name("ml", RUN), None).unwrap();
        map.data.as_mut().unwrap().insert("record.json".to_owned(), json);
        let _ = Record::read(&map);
    }
}

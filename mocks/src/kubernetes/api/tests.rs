//! Whatever arrives, the server answers.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::patch::PatchKind;
use super::{scale, strict};
use crate::kubernetes::clock::Clock;
use crate::kubernetes::resources::{ALL, NAMESPACES};
use crate::kubernetes::rules::{ownership, shape};
use crate::kubernetes::store::{Deletion, ObjectKey, Store, Writer};
use crate::time::Epoch;

const WRITER: Writer<'static> = Writer { manager: "test", subresource: "", records: true };
/// Names that somebody looks at.
const FIELDS: [&str; 31] = [
    "metadata",
    "spec",
    "status",
    "data",
    "stringData",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "managedFields",
    "template",
    "jobTemplate",
    "selector",
    "matchLabels",
    "containers",
    "ephemeralContainers",
    "ports",
    "strategy",
    "replicas",
    "egress",
    "to",
    "ipBlock",
    "cidr",
    "except",
    "name",
    "image",
    "schedule",
    "podFailurePolicy",
    "$patch",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
];

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z0-9./]{0,12}".prop_map(Value::from),
        prop::sample::select(
            &["replace", "delete", "TCP", "10.0.0.0/8", "::/0", "*/5 * * * *", "1.2.3.4/32"][..]
        )
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 5, |inner| {
        let field = prop::sample::select(&FIELDS[..]).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((field, inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn a_good_one(kind: &str) -> Value {
    let template = json!({
        "metadata": { "labels": { "app": "x" } },
        "spec": { "restartPolicy": "Never", "containers": [{ "name": "main", "image": "x:1" }] },
    });
    let spec = match kind {
        "Pod" => template["spec"].clone(),
        "CronJob" => json!({ "schedule": "* * * * *", "jobTemplate": { "spec": { "template": template } } }),
        "Job" => json!({ "template": template }),
        "Service" => json!({ "ports": [{ "port": 80 }] }),
        "PersistentVolumeClaim" => {
            json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } })
        }
        _ => json!({ "selector": { "matchLabels": { "app": "x" } }, "template": template }),
    };
    if kind.ends_with("RoleBinding") {
        let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" });
        return json!({ "metadata": { "name": "good" }, "roleRef": role });
    }
    json!({ "metadata": { "name": "good" }, "spec": spec })
}

fn store() -> Store {
    let store = Store::new(1, Clock::new(Epoch::starting_now()));
    store.create(&NAMESPACES, "", json!({ "metadata": { "name": "ml" } }), WRITER).unwrap();
    store
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_object_and_no_patch_panics(
        at in 0..ALL.len(),
        object in anything(),
        patch in anything(),
        subresource in prop::sample::select(&["", "status", "scale", "ephemeralcontainers"][..]),
    ) {
        let (store, resource) = (store(), ALL[at]);
        let mut whole = object.clone();
        let checked = strict::check(resource, &mut whole, Some("Warn"));
        if checked.is_ok() && whole.is_object() {
            let mut named = whole;
            if named["metadata"].is_object() {
                named["metadata"]["name"] = "given".into();
            }
            if let Ok(made) = store.create(resource, "ml", named, WRITER) {
                prop_assert!(made["metadata"]["uid"].is_string());
            }
        }
        store.create(resource, "ml", a_good_one(resource.kind), WRITER).unwrap();
        let key = ObjectKey::new(resource, "ml", "good");
        let now = store.clock().now();
        for kind in [PatchKind::Merge, PatchKind::Strategic, PatchKind::Json] {
            let writer = Writer { manager: "other", subresource, records: true };
            // Refused or not: what counts is that it comes back.
            let _either = store.update(&key, writer, |found| match subresource {
                "scale" => {
                    let mut of_scale = scale::of(found);
                    kind.change(&mut of_scale, &patch)?;
                    scale::put(resource, found, &of_scale)
                }
                _ => {
                    kind.change(found, &patch)?;
                    strict::check(resource, found, None).map(drop)
                }
            });
        }
        let _either = store.update(&key, Writer { manager: "applier", subresource, records: false }, |found| {
            shape::check(resource, &patch)?;
            ownership::apply(found, &patch, WRITER, true, now)
        });
        if let Some(found) = store.get(&key) {
            prop_assert_eq!(&found["metadata"]["name"], "good");
            prop_assert!(scale::of(&found).is_object());
            prop_assert_eq!(super::table::cells_of(resource, &found, now), super::table::columns_of(resource));
            store.delete(&key, &Deletion::now(), "test").unwrap();
        }
    }
}

use serde_json::json;

use super::*;
use crate::kubernetes::refusal::Refusal;

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

fn deployment(replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "vllm", "labels": { "app": "v" } },
        "spec": { "replicas": replicas, "template": { "spec": { "containers": [{ "name": "m", "image": "x" }] } } },
    })
}

fn owners_of(object: &Value, field: &str) -> Vec<String> {
    let has = |owner: &&Owner| owner.fields.iter().any(|path| path.join("/") == field);
    owners(object)
        .iter()
        .filter(has)
        .map(|owner| format!("{}/{}", owner.manager, owner.subresource))
        .collect()
}

const REPLICAS: &str = "f:spec/f:replicas";

fn scaled(mut object: Value, replicas: i64, writer: Writer<'_>) -> Value {
    let old = object.clone();
    object["spec"]["replicas"] = replicas.into();
    record(Some(&old), &mut object, writer, now());
    object
}

#[test]
fn scaling_to_zero_erases_every_owner_and_scaling_back_records_none() {
    let mut object = deployment(1);
    record(None, &mut object, Writer::of_object("kubectl"), now());
    assert_eq!(owners_of(&object, REPLICAS), ["kubectl/"]);
    let object = scaled(object, 2, Writer::of_scale("a"));
    assert_eq!(owners_of(&object, REPLICAS), ["a/scale"]);
    let object = scaled(object, 0, Writer::of_scale("b"));
    assert!(owners_of(&object, REPLICAS).is_empty());
    let object = scaled(object, 1, Writer::of_scale("b"));
    assert!(owners_of(&object, REPLICAS).is_empty());
    let object = scaled(object, 0, Writer::of_object("c"));
    assert_eq!(owners_of(&object, REPLICAS), ["c/"]);
}

#[test]
fn an_apply_over_what_others_own_is_a_conflict_unless_forced() {
    let mut object = deployment(1);
    record(None, &mut object, Writer::of_object("kubectl"), now());
    let argo = Writer::of_object("argocd-controller");
    let refused = apply(&mut object.clone(), &deployment(3), argo, false, now()).unwrap_err();
    let Refusal::ApplyConflict { causes } = &refused else { panic!("{refused}") };
    assert_eq!(causes[0].field, ".spec.replicas");
    assert_eq!(causes[0].message, "conflict with \"kubectl\" using apps/v1");
    apply(&mut object, &deployment(3), argo, true, now()).unwrap();
    assert_eq!(owners_of(&object, REPLICAS), ["argocd-controller/"]);
    assert_eq!(owners_of(&object, "f:metadata/f:labels/f:app"), ["argocd-controller/", "kubectl/"]);
}

#[test]
fn what_an_applier_no_longer_names_goes() {
    let mut object = json!({ "apiVersion": "apps/v1", "metadata": {} });
    let argo = Writer::of_object("argo");
    apply(&mut object, &deployment(3), argo, false, now()).unwrap();
    let mut fewer = deployment(3);
    fewer["spec"].as_object_mut().unwrap().shift_remove("replicas");
    fewer["metadata"].as_object_mut().unwrap().shift_remove("labels");
    apply(&mut object, &fewer, argo, false, now()).unwrap();
    assert!(object["spec"].get("replicas").is_none());
    assert!(object["metadata"].get("labels").is_none());
    assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["image"], "x");
}

#[test]
fn fields_are_read_back_as_they_were_written() {
    let fields: BTreeSet<Path> = leaves(&deployment(1)).into_keys().collect();
    assert_eq!(parse(&render(&fields)), fields);
    assert!(fields.iter().any(|path| path.iter().any(|step| step == "k:{\"name\":\"m\"}")));
}

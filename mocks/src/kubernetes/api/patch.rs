//! Changing an object by a patch: merge (RFC 7386), JSON (RFC 6902) and strategic merge.

mod json;
mod strategic;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value};

use crate::kubernetes::refusal::Refusal;

/// How deep a patch may go.
const DEPTH_MAX: usize = 64;

/// The kinds of patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PatchKind {
    Merge,
    Strategic,
    Json,
    Apply,
}

impl PatchKind {
    /// Reads the content type. Custom resources have no strategic merge.
    pub(super) fn read(headers: &HeaderMap, is_custom: bool) -> Result<Self, Refusal> {
        let header = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match header.split(';').next().unwrap_or_default().trim() {
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" if !is_custom => Ok(Self::Strategic),
            "application/json-patch+json" => Ok(Self::Json),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ => {
                let strategic = if is_custom { "" } else { ", application/strategic-merge-patch+json" };
                Err(Refusal::UnsupportedMediaType(format!(
                    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml{strategic}"
                )))
            }
        }
    }

    /// Changes `object` as `patch` says. An apply is not done here.
    pub(super) fn change(self, object: &mut Value, patch: &Value) -> Result<(), Refusal> {
        match self {
            Self::Json => json::change(object, patch),
            Self::Merge if patch.is_object() => {
                merge(object, patch);
                Ok(())
            }
            Self::Strategic if patch.is_object() => strategic::change(object, patch),
            Self::Merge | Self::Strategic | Self::Apply => {
                Err(Refusal::BadRequest("the patch is no JSON object".to_owned()))
            }
        }
    }
}

fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Some(fields) = object.as_object_mut() else { return };
    for (field, value) in patch {
        if value.is_null() {
            fields.shift_remove(field);
        } else {
            merge(fields.entry(field.as_str()).or_insert(Value::Null), value);
        }
    }
}

/// Whether maps and lists go deeper than a patch or an object may. serde_json stops at 128 by itself.
pub(super) fn is_too_deep(value: &Value) -> bool {
    fn goes_below(value: &Value, left: usize) -> bool {
        match value {
            _ if left == 0 => true,
            Value::Object(fields) => fields.values().any(|value| goes_below(value, left - 1)),
            Value::Array(items) => items.iter().any(|value| goes_below(value, left - 1)),
            _ => false,
        }
    }
    goes_below(value, DEPTH_MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(kind: PatchKind, object: Value, patch: Value, expected: Value) {
        let mut changed = object;
        kind.change(&mut changed, &patch).unwrap();
        assert_eq!(changed, expected);
    }

    #[test]
    fn merges_replace_lists_and_take_out_nulls() {
        let object = json!({ "a": { "b": 1, "c": [1, 2] }, "d": 1 });
        let patch = json!({ "a": { "b": null, "c": [3] }, "e": { "f": null } });
        check(PatchKind::Merge, object, patch, json!({ "a": { "c": [3] }, "d": 1, "e": {} }));
    }

    #[test]
    fn strategic_merges_go_by_the_keys_of_items() {
        let object = json!({ "spec": { "containers": [{ "name": "a", "image": "1" }, { "name": "b", "image": "1" }] } });
        let patch = json!({ "spec": {
            "$setElementOrder/containers": [{ "name": "c" }, { "name": "b" }],
            "containers": [{ "name": "b", "image": "2" }, { "name": "c", "image": "3" }, { "name": "a", "$patch": "delete" }],
        } });
        let expected = json!({ "spec": { "containers": [{ "name": "c", "image": "3" }, { "name": "b", "image": "2" }] } });
        check(PatchKind::Strategic, object, patch, expected);
        let object = json!({ "spec": { "ephemeralContainers": [{ "name": "a" }], "tolerations": [1] } });
        let patch = json!({ "spec": { "ephemeralContainers": [{ "name": "b" }], "tolerations": [2] } });
        let expected = json!({ "spec": { "ephemeralContainers": [{ "name": "a" }, { "name": "b" }], "tolerations": [2] } });
        check(PatchKind::Strategic, object, patch, expected);
    }

    #[test]
    fn strategic_directives_replace_retain_and_delete() {
        let object = json!({ "spec": { "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1 } } } });
        let patch = json!({ "spec": { "strategy": { "$retainKeys": ["type"], "type": "Recreate" } } });
        check(PatchKind::Strategic, object, patch, json!({ "spec": { "strategy": { "type": "Recreate" } } }));
        let object = json!({ "metadata": { "finalizers": ["a", "b"], "labels": { "x": "1" } } });
        let patch = json!({ "metadata": {
            "$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"], "labels": { "$patch": "replace", "y": "2" },
        } });
        let expected = json!({ "metadata": { "finalizers": ["b", "c"], "labels": { "y": "2" } } });
        check(PatchKind::Strategic, object, patch, expected);
    }

    #[test]
    fn json_patches_do_their_operations_in_order_or_none() {
        let object = json!({ "a": { "b/c": 1 }, "l": [1, 3] });
        let patch = json!([
            { "op": "test", "path": "/a/b~1c", "value": 1 },
            { "op": "add", "path": "/l/1", "value": 2 },
            { "op": "add", "path": "/l/-", "value": 4 },
            { "op": "replace", "path": "/a/b~1c", "value": 5 },
            { "op": "move", "from": "/l/0", "path": "/first" },
            { "op": "copy", "from": "/first", "path": "/again" },
            { "op": "remove", "path": "/a" },
        ]);
        check(PatchKind::Json, object.clone(), patch, json!({ "l": [2, 3, 4], "first": 1, "again": 1 }));
        for bad in [
            json!([{ "op": "test", "path": "/l/0", "value": 2 }]),
            json!([{ "op": "remove", "path": "/none" }]),
            json!([{ "op": "replace", "path": "/l/9", "value": 1 }]),
            json!([{ "op": "add", "path": "/x/y", "value": 1 }]),
        ] {
            let refused = PatchKind::Json.change(&mut object.clone(), &bad).unwrap_err();
            assert_eq!(refused.code(), http::StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
        }
    }
}

//! JSON Patch, RFC 6902.

use serde_json::Value;

use crate::kubernetes::refusal::Refusal;

/// As many operations as the real server takes.
const OPERATIONS_MAX: usize = 10_000;

pub(super) fn change(object: &mut Value, patch: &Value) -> Result<(), Refusal> {
    let operations =
        patch.as_array().ok_or_else(|| Refusal::BadRequest("the patch is no JSON list".to_owned()))?;
    if operations.len() > OPERATIONS_MAX {
        return Err(Refusal::TooLarge(OPERATIONS_MAX));
    }
    for operation in operations {
        carry_out(object, operation)?;
    }
    Ok(())
}

fn refuse(operation: &Value) -> Refusal {
    Refusal::Unprocessable(format!(
        "the server rejected our request due to an error in our request: {} of {} cannot be done",
        operation["op"], operation["path"]
    ))
}

fn carry_out(object: &mut Value, operation: &Value) -> Result<(), Refusal> {
    let text = |field: &str| operation[field].as_str();
    let (Some(word), Some(path)) = (text("op"), text("path")) else {
        return Err(Refusal::BadRequest("an operation needs op and path".to_owned()));
    };
    let from = text("from");
    let value = || operation.get("value").cloned().ok_or_else(|| refuse(operation));
    let done = match (word, from) {
        ("add", _) => add(object, path, value()?),
        ("replace", _) => {
            let value = value()?;
            object.pointer_mut(path).map(|place| *place = value)
        }
        ("remove", _) => remove(object, path).map(drop),
        ("test", _) => (object.pointer(path) == Some(&value()?)).then_some(()),
        ("move", Some(from)) => remove(object, from).and_then(|value| add(object, path, value)),
        ("copy", Some(from)) => object.pointer(from).cloned().and_then(|value| add(object, path, value)),
        _ => return Err(Refusal::BadRequest(format!("there is no operation {word:?}"))),
    };
    done.ok_or_else(|| refuse(operation))
}

/// The pointer of what holds the last step, and the last step.
fn split(path: &str) -> Option<(&str, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn add(object: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *object = value;
        return Some(());
    }
    let (parent, last) = split(path)?;
    match object.pointer_mut(parent)? {
        Value::Object(fields) => {
            fields.insert(last, value);
        }
        Value::Array(items) => {
            let at = if last == "-" { items.len() } else { last.parse().ok()? };
            if at > items.len() {
                return None;
            }
            items.insert(at, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(object: &mut Value, path: &str) -> Option<Value> {
    let (parent, last) = split(path)?;
    match object.pointer_mut(parent)? {
        Value::Object(fields) => fields.shift_remove(&last),
        Value::Array(items) => {
            let at: usize = last.parse().ok()?;
            (at < items.len()).then(|| items.remove(at))
        }
        _ => None,
    }
}

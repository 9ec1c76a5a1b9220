//! The columns of `kubectl get`, kind by kind.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kubernetes::resources::{
    CONFIG_MAPS, CRON_JOBS, DEPLOYMENTS, ENDPOINT_SLICES, EVENTS, HORIZONTAL_POD_AUTOSCALERS, JOBS, LEASES,
    NAMESPACES, NETWORK_POLICIES, NODES, PODS, REPLICA_SETS, Resource, SECRETS, SERVICES, STATEFUL_SETS,
};

/// Name, type and priority; above 0 only in wide tables.
type Column = (&'static str, &'static str, i32);

const NAME: Column = ("Name", "string", 0);
const AGE: Column = ("Age", "string", 0);
const CONTAINERS: Column = ("Containers", "string", 1);
const IMAGES: Column = ("Images", "string", 1);
const SELECTOR: Column = ("Selector", "string", 1);

const fn text(name: &'static str) -> Column {
    (name, "string", 0)
}

const fn number(name: &'static str) -> Column {
    (name, "integer", 0)
}

const fn wide(name: &'static str) -> Column {
    (name, "string", 1)
}

/// The columns of a kind.
pub(super) fn columns(resource: &'static Resource) -> &'static [Column] {
    let kind = |one: &'static Resource| resource == one;
    if kind(&PODS) {
        const COLUMNS: &[Column] = &[
            NAME,
            text("Ready"),
            text("Status"),
            text("Restarts"),
            AGE,
            wide("IP"),
            wide("Node"),
            wide("Nominated Node"),
            wide("Readiness Gates"),
        ];
        COLUMNS
    } else if kind(&DEPLOYMENTS) {
        const COLUMNS: &[Column] = &[
            NAME,
            text("Ready"),
            number("Up-to-date"),
            number("Available"),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ];
        COLUMNS
    } else if kind(&REPLICA_SETS) {
        const COLUMNS: &[Column] =
            &[NAME, number("Desired"), number("Current"), number("Ready"), AGE, CONTAINERS, IMAGES, SELECTOR];
        COLUMNS
    } else if kind(&STATEFUL_SETS) {
        const COLUMNS: &[Column] = &[NAME, text("Ready"), AGE, CONTAINERS, IMAGES];
        COLUMNS
    } else if kind(&JOBS) {
        const COLUMNS: &[Column] =
            &[NAME, text("Status"), text("Completions"), text("Duration"), AGE, CONTAINERS, IMAGES, SELECTOR];
        COLUMNS
    } else if kind(&CRON_JOBS) {
        const COLUMNS: &[Column] = &[
            NAME,
            text("Schedule"),
            text("Timezone"),
            text("Suspend"),
            number("Active"),
            text("Last Schedule"),
            AGE,
        ];
        COLUMNS
    } else if kind(&SERVICES) {
        const COLUMNS: &[Column] =
            &[NAME, text("Type"), text("Cluster-IP"), text("External-IP"), text("Port(s)"), AGE, SELECTOR];
        COLUMNS
    } else if kind(&NODES) {
        const COLUMNS: &[Column] = &[NAME, text("Status"), text("Roles"), AGE, text("Version")];
        COLUMNS
    } else if kind(&NAMESPACES) {
        const COLUMNS: &[Column] = &[NAME, text("Status"), AGE];
        COLUMNS
    } else if kind(&NETWORK_POLICIES) {
        const COLUMNS: &[Column] = &[NAME, text("Pod-Selector"), AGE];
        COLUMNS
    } else if kind(&CONFIG_MAPS) {
        const COLUMNS: &[Column] = &[NAME, text("Data"), AGE];
        COLUMNS
    } else if kind(&SECRETS) {
        const COLUMNS: &[Column] = &[NAME, text("Type"), number("Data"), AGE];
        COLUMNS
    } else if kind(&LEASES) {
        const COLUMNS: &[Column] = &[NAME, text("Holder"), AGE];
        COLUMNS
    } else if kind(&ENDPOINT_SLICES) {
        const COLUMNS: &[Column] = &[NAME, text("AddressType"), text("Ports"), text("Endpoints"), AGE];
        COLUMNS
    } else if kind(&EVENTS) {
        const COLUMNS: &[Column] = &[
            text("Last Seen"),
            text("Type"),
            text("Reason"),
            text("Object"),
            text("Message"),
            ("Name", "string", 1),
        ];
        COLUMNS
    } else if kind(&HORIZONTAL_POD_AUTOSCALERS) {
        const COLUMNS: &[Column] = &[
            NAME,
            text("Reference"),
            text("Targets"),
            text("MinPods"),
            text("MaxPods"),
            number("Replicas"),
            AGE,
        ];
        COLUMNS
    } else {
        const COLUMNS: &[Column] = &[NAME, AGE];
        COLUMNS
    }
}

/// The cells of one object, in the order of the columns.
pub(super) fn cells(resource: &'static Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    let kind = |one: &'static Resource| resource == one;
    let name = object["metadata"]["name"].clone();
    let age: Value = age(&object["metadata"]["creationTimestamp"], now).into();
    let (spec, status) = (&object["spec"], &object["status"]);
    let count = |value: &Value| value.as_i64().unwrap_or(0);
    let word = |value: &Value| value.as_str().unwrap_or("<none>").to_owned();
    let of = |ready: &Value, all: &Value| format!("{}/{}", count(ready), count(all));
    let [containers, images] = of_containers(&spec["template"]["spec"]);
    let selector = labels(&spec["selector"]["matchLabels"]);
    if kind(&PODS) {
        return pod_cells(object, name, age, now);
    } else if kind(&DEPLOYMENTS) {
        let ready = of(&status["readyReplicas"], &spec["replicas"]);
        let (updated, available) = (count(&status["updatedReplicas"]), count(&status["availableReplicas"]));
        return vec![name, ready.into(), updated.into(), available.into(), age, containers, images, selector];
    } else if kind(&REPLICA_SETS) {
        let counts = [&spec["replicas"], &status["replicas"], &status["readyReplicas"]]
            .map(|value| json!(count(value)));
        let [desired, current, ready] = counts;
        return vec![name, desired, current, ready, age, containers, images, selector];
    } else if kind(&STATEFUL_SETS) {
        return vec![name, of(&status["readyReplicas"], &spec["replicas"]).into(), age, containers, images];
    } else if kind(&JOBS) {
        let completions =
            format!("{}/{}", count(&status["succeeded"]), spec["completions"].as_i64().unwrap_or(1));
        return vec![
            name,
            job_status(object).into(),
            completions.into(),
            duration(status, now),
            age,
            containers,
            images,
            selector,
        ];
    } else if kind(&CRON_JOBS) {
        let active = status["active"].as_array().map_or(0, Vec::len);
        let zone = word(&spec["timeZone"]);
        let suspend = if spec["suspend"] == true { "True" } else { "False" };
        let last = self::age(&status["lastScheduleTime"], now).replace("<unknown>", "<none>");
        return vec![
            name,
            spec["schedule"].clone(),
            zone.into(),
            suspend.into(),
            active.into(),
            last.into(),
            age,
        ];
    } else if kind(&SERVICES) {
        return service_cells(spec, name, age);
    } else if kind(&NODES) {
        let status_text = node_status(object);
        return vec![
            name,
            status_text.into(),
            node_roles(object).into(),
            age,
            word(&status["nodeInfo"]["kubeletVersion"]).into(),
        ];
    } else if kind(&NAMESPACES) {
        return vec![name, word(&status["phase"]).into(), age];
    } else if kind(&NETWORK_POLICIES) {
        return vec![name, labels(&spec["podSelector"]["matchLabels"]), age];
    } else if kind(&CONFIG_MAPS) {
        let keys = |field: &str| object[field].as_object().map_or(0, serde_json::Map::len);
        return vec![name, (keys("data") + keys("binaryData")).to_string().into(), age];
    } else if kind(&SECRETS) {
        return vec![
            name,
            object["type"].clone(),
            object["data"].as_object().map_or(0, serde_json::Map::len).into(),
            age,
        ];
    } else if kind(&LEASES) {
        return vec![name, spec["holderIdentity"].as_str().unwrap_or_default().into(), age];
    } else if kind(&ENDPOINT_SLICES) {
        return slice_cells(object, name, age);
    } else if kind(&EVENTS) {
        return event_cells(object, name, now);
    } else if kind(&HORIZONTAL_POD_AUTOSCALERS) {
        let target = &spec["scaleTargetRef"];
        let reference = format!("{}/{}", word(&target["kind"]), word(&target["name"]));
        let bound = |value: &Value| {
            Value::from(value.as_i64().map_or("<unset>".to_owned(), |count| count.to_string()))
        };
        let (least, most) = (bound(&spec["minReplicas"]), bound(&spec["maxReplicas"]));
        return vec![
            name,
            reference.into(),
            "<unknown>".into(),
            least,
            most,
            count(&status["currentReplicas"]).into(),
            age,
        ];
    }
    vec![name, age]
}

fn pod_cells(pod: &Value, name: Value, age: Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let statuses = || status["containerStatuses"].as_array().into_iter().flatten();
    let ready = statuses().filter(|container| container["ready"] == true).count();
    let all = spec["containers"].as_array().map_or(0, Vec::len);
    let restarts: i64 = statuses().filter_map(|container| container["restartCount"].as_i64()).sum();
    let last_restart = statuses()
        .map(|container| &container["lastState"]["terminated"]["finishedAt"])
        .find(|at| at.is_string());
    let restarts = match last_restart {
        Some(at) if restarts > 0 => format!("{restarts} ({} ago)", self::age(at, now)),
        _ => restarts.to_string(),
    };
    let waits = statuses().find_map(|container| container["state"]["waiting"]["reason"].as_str());
    let ended = statuses().find_map(|container| container["state"]["terminated"]["reason"].as_str());
    let phase = status["phase"].as_str().unwrap_or("Unknown");
    let said = if pod["metadata"]["deletionTimestamp"].is_string() {
        "Terminating"
    } else {
        status["reason"].as_str().or(waits).or(ended).unwrap_or(phase)
    };
    let word = |value: &Value| Value::from(value.as_str().unwrap_or("<none>"));
    let cells = [
        json!(format!("{ready}/{all}")),
        said.into(),
        restarts.into(),
        age,
        word(&status["podIP"]),
        word(&spec["nodeName"]),
    ];
    [vec![name], cells.to_vec(), vec!["<none>".into(), "<none>".into()]].concat()
}

fn service_cells(spec: &Value, name: Value, age: Value) -> Vec<Value> {
    let port = |port: &Value| {
        let node = port["nodePort"].as_i64().map_or(String::new(), |node| format!(":{node}"));
        format!("{}{node}/{}", port["port"], port["protocol"].as_str().unwrap_or("TCP"))
    };
    let ports: Vec<String> = spec["ports"].as_array().into_iter().flatten().map(port).collect();
    let ports = if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") };
    let word = |value: &Value| Value::from(value.as_str().unwrap_or("<none>"));
    vec![
        name,
        word(&spec["type"]),
        word(&spec["clusterIP"]),
        "<none>".into(),
        ports.into(),
        age,
        labels(&spec["selector"]),
    ]
}

fn slice_cells(slice: &Value, name: Value, age: Value) -> Vec<Value> {
    let all = |list: &Value, one: &dyn Fn(&Value) -> String| {
        let told: Vec<String> = list.as_array().into_iter().flatten().map(one).collect();
        Value::from(if told.is_empty() { "<unset>".to_owned() } else { told.join(",") })
    };
    let ports = all(&slice["ports"], &|port| port["port"].to_string());
    let endpoints =
        all(&slice["endpoints"], &|end| end["addresses"][0].as_str().unwrap_or_default().to_owned());
    vec![name, slice["addressType"].clone(), ports, endpoints, age]
}

fn event_cells(event: &Value, name: Value, now: Timestamp) -> Vec<Value> {
    let about = &event["involvedObject"];
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let about = format!("{}/{}", word(&about["kind"]).to_lowercase(), word(&about["name"]));
    let last = ["lastTimestamp", "eventTime", "firstTimestamp"].iter().map(|field| &event[*field]);
    let last = last.into_iter().find(|at| at.is_string()).unwrap_or(&event["metadata"]["creationTimestamp"]);
    let message = word(&event["message"]).trim().to_owned();
    vec![
        age(last, now).into(),
        event["type"].clone(),
        event["reason"].clone(),
        about.into(),
        message.into(),
        name,
    ]
}

fn is_true(object: &Value, condition: &str) -> Option<bool> {
    let all = object["status"]["conditions"].as_array().into_iter().flatten();
    all.filter(|known| known["type"] == condition).map(|known| known["status"] == "True").next()
}

fn job_status(job: &Value) -> &'static str {
    for (condition, told) in [
        ("Complete", "Complete"),
        ("Failed", "Failed"),
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
    ] {
        if is_true(job, condition) == Some(true) {
            return told;
        }
    }
    if job["metadata"]["deletionTimestamp"].is_string() { "Terminating" } else { "Running" }
}

fn duration(status: &Value, now: Timestamp) -> Value {
    let at = |field: &str| status[field].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    match (at("startTime"), at("completionTime")) {
        (None, _) => "".into(),
        (Some(start), end) => human(end.unwrap_or(now).as_second() - start.as_second()).into(),
    }
}

fn node_status(node: &Value) -> String {
    let mut told = match is_true(node, "Ready") {
        Some(true) => "Ready",
        Some(false) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node["spec"]["unschedulable"] == true {
        told.push_str(",SchedulingDisabled");
    }
    told
}

fn node_roles(node: &Value) -> String {
    let labels = node["metadata"]["labels"].as_object().into_iter().flatten();
    let roles: Vec<&str> =
        labels.filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/")).collect();
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}

fn of_containers(spec: &Value) -> [Value; 2] {
    ["name", "image"].map(|field| {
        let all = spec["containers"].as_array().into_iter().flatten().filter_map(|one| one[field].as_str());
        all.collect::<Vec<_>>().join(",").into()
    })
}

fn labels(labels: &Value) -> Value {
    let all = labels.as_object().into_iter().flatten();
    let mut all: Vec<String> =
        all.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    all.sort();
    if all.is_empty() { "<none>".into() } else { all.join(",").into() }
}

fn age(from: &Value, now: Timestamp) -> String {
    match from.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
        Some(from) => human(now.as_second() - from.as_second()),
        None => "<unknown>".to_owned(),
    }
}

/// Seconds as kubectl tells them: the larger they are, the fewer parts.
fn human(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: i64, large_unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{large}{large_unit}")
        } else {
            format!("{large}{large_unit}{small}{small_unit}")
        }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        _ => two(days / 365, "y", days % 365, "d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_as_kubectl_tells_them() {
        for (seconds, expected) in [
            (5, "5s"),
            (119, "119s"),
            (150, "2m30s"),
            (180, "3m"),
            (700, "11m"),
            (11_000, "3h3m"),
            (100_000, "27h"),
            (260_000, "3d"),
        ] {
            assert_eq!(human(seconds), expected);
        }
    }

    #[test]
    fn every_row_has_a_cell_for_each_column() {
        for resource in crate::kubernetes::resources::ALL {
            let cells = cells(resource, &json!({ "metadata": { "name": "x" } }), Timestamp::UNIX_EPOCH);
            assert_eq!(cells.len(), columns(resource).len(), "{resource:?}");
        }
    }
}

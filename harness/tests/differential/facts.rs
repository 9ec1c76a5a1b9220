//! What a reply says, with everything replaced that must differ between two gateways: a flat list of facts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::ask::{End, Reply};

/// Name of a fact (`status`, `header vary`, `body /error/type`, `event 3 /id`) -> what it says.
pub(crate) type Facts = BTreeMap<String, String>;

/// Headers that hold a measured duration.
const DURATIONS: [&str; 4] = [
    "x-litellm-response-duration-ms",
    "x-litellm-overhead-duration-ms",
    "x-litellm-callback-duration-ms",
    "x-litellm-timing-ms",
];
/// Numbers that are clock readings.
const CLOCKS: [&str; 1] = ["/created"];

/// What stands for what in one gateway's replies to one cell.
#[derive(Debug, Clone, Default)]
pub(crate) struct Labels {
    /// Text in a reply -> what it is called in both gateways. The longest goes first.
    names: Vec<(String, String)>,
    /// Deployment ids of this cell: others in a list of cooled deployments are other cells' affair.
    own_ids: BTreeSet<String>,
}

impl Labels {
    /// A port of one gateway's own world.
    pub(crate) fn port(&mut self, port: u16, label: &str) {
        self.name(&port.to_string(), &format!("<port of {label}>"));
    }

    /// A text that stands for the same in both gateways.
    pub(crate) fn name(&mut self, text: &str, label: &str) {
        self.names.push((text.to_owned(), label.to_owned()));
        self.names.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    }

    /// A deployment id of this cell.
    pub(crate) fn own_id(&mut self, id: &str) {
        self.own_ids.insert(id.to_owned());
    }

    /// `text` with everything replaced that must differ.
    pub(crate) fn normal(&self, text: &str) -> String {
        // Ids first: the digits of a port may stand in one.
        let mut text = uuids(&addresses(&self.own_cooled(text)));
        for (name, label) in &self.names {
            text = text.replace(name, label);
        }
        times_taken(&text)
    }

    /// Leaves of each list of cooled deployments only those of this cell.
    fn own_cooled(&self, text: &str) -> String {
        const START: &str = "cooldown_list=[";
        let mut parts = text.split(START);
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (list, rest) = part.split_once(']').unwrap_or((part, ""));
            let own = list.split(", ").filter(|id| self.own_ids.contains(id.trim_matches(['\'', '"', '\\'])));
            let own: Vec<&str> = own.collect();
            out.push_str(&format!("{START}{}]{rest}", own.join(", ")));
        }
        out
    }
}

/// The facts of a reply.
pub(crate) fn facts(reply: &Reply, labels: &Labels) -> Facts {
    let mut facts = Facts::new();
    let status = reply.status.map_or("none".to_owned(), |status| status.to_string());
    facts.insert("status".into(), status);
    let mut streamed = false;
    for (name, value) in &reply.headers {
        streamed |= name == "content-type" && value.starts_with("text/event-stream");
        let said = header(name, value, reply, labels);
        let entry = facts.entry(format!("header {name}")).or_default();
        if !entry.is_empty() {
            entry.push_str(" | ");
        }
        entry.push_str(&said);
    }
    facts.insert("end of body".into(), format!("{:?}", reply.end).to_lowercase());
    let text = String::from_utf8_lossy(&reply.body);
    if streamed {
        events(&text, labels, &mut facts);
    } else {
        document("body", &text, labels, &mut BTreeMap::new(), &mut facts);
    }
    facts
}

fn header(name: &str, value: &str, reply: &Reply, labels: &Labels) -> String {
    let bare = name.strip_prefix("llm_provider-").unwrap_or(name);
    if bare == "date" {
        return if value.ends_with("GMT") { "<date>".into() } else { format!("not a date: {value}") };
    }
    if DURATIONS.contains(&bare) || bare.ends_with("-duration-ms") {
        return if value.parse::<f64>().is_ok() { "<ms>".into() } else { format!("not a number: {value}") };
    }
    if name == "content-length" && reply.end == End::Clean && value == reply.body.len().to_string() {
        return "<length of body>".into();
    }
    // LiteLLM would compress a long whole reply.
    let by_length = if reply.body.len() >= 500 { "Origin, Accept-Encoding" } else { "Origin" };
    let streamed =
        reply.headers.iter().any(|(name, value)| name == "content-type" && value.starts_with("text/event"));
    if name == "vary" && value == by_length && !streamed {
        return "<by length of body>".into();
    }
    labels.normal(value)
}

fn events(text: &str, labels: &Labels, facts: &mut Facts) {
    let mut ids = BTreeMap::new();
    let mut count = 0;
    for event in text.split("\n\n").filter(|event| !event.is_empty()) {
        let name = format!("event {count}");
        match event.strip_prefix("data: ") {
            Some(data) => document(&name, data, labels, &mut ids, facts),
            None => {
                facts.insert(name, labels.normal(event));
            }
        }
        count += 1;
    }
    facts.insert("events".into(), count.to_string());
    facts.insert("last event ends".into(), (text.is_empty() || text.ends_with("\n\n")).to_string());
}

/// A JSON document leaf by leaf, or a text as it is. `ids` numbers the ids of one reply as they appear.
fn document(name: &str, text: &str, labels: &Labels, ids: &mut BTreeMap<String, usize>, facts: &mut Facts) {
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        facts.insert(name.into(), labels.normal(text));
        return;
    };
    let mut order = Vec::new();
    leaves(&value, String::new(), &mut |path, leaf| {
        order.push(path.to_owned());
        let said = match leaf {
            Value::String(id) if path == "/id" => {
                let next = ids.len() + 1;
                let number = *ids.entry(id.clone()).or_insert(next);
                format!("{} (id {number})", labels.normal(id))
            }
            Value::Number(number) if CLOCKS.contains(&path) && number.as_u64().is_some_and(is_now) => {
                "<now>".into()
            }
            Value::String(text) => format!("{:?}", labels.normal(text)),
            other => other.to_string(),
        };
        facts.insert(format!("{name} {path}"), said);
    });
    let compact = value.to_string();
    let spacing = if text == compact {
        "none"
    } else if text.len() > compact.len() {
        "spaces"
    } else {
        "other"
    };
    facts.insert(format!("{name} (spacing)"), spacing.into());
    // Those come out of a set, in no order.
    let (mut unordered, order): (Vec<String>, Vec<String>) =
        order.into_iter().partition(|path| path.contains("/provider_specific_fields/"));
    unordered.sort();
    facts.insert(format!("{name} (order)"), labels.normal(&[order, unordered].concat().join(" ")));
}

/// Visits each leaf of a value with its JSON pointer.
pub(crate) fn leaves(value: &Value, path: String, visit: &mut dyn FnMut(&str, &Value)) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            entries.iter().for_each(|(name, entry)| leaves(entry, format!("{path}/{name}"), visit));
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(index, item)| leaves(item, format!("{path}/{index}"), visit));
        }
        leaf => visit(&path, leaf),
    }
}

fn is_now(seconds: u64) -> bool {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    now.abs_diff(seconds) < 600
}

/// `time taken=1.602 seconds` and its kin.
fn times_taken(text: &str) -> String {
    replace_after(text, "time taken=", |c| c.is_ascii_digit() || c == '.', "<s>")
}

/// `object at 0x7f...`.
fn addresses(text: &str) -> String {
    replace_after(text, " at 0x", |c| c.is_ascii_hexdigit(), "<address>")
}

fn replace_after(text: &str, start: &str, belongs: impl Fn(char) -> bool, label: &str) -> String {
    let mut parts = text.split(start);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(start);
        out.push_str(label);
        out.push_str(part.trim_start_matches(&belongs));
    }
    out
}

/// Every `8-4-4-4-12` of lower-case hex.
fn uuids(text: &str) -> String {
    const LEN: usize = 36;
    let bytes = text.as_bytes();
    let is_uuid = |window: &[u8]| {
        window.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(byte),
        })
    };
    let (mut out, mut from, mut at) = (String::new(), 0, 0);
    while at + LEN <= bytes.len() {
        if is_uuid(&bytes[at..at + LEN]) {
            out.push_str(&text[from..at]);
            out.push_str("<uuid>");
            at += LEN;
            from = at;
        } else {
            at += 1;
        }
    }
    out.push_str(&text[from..]);
    out
}

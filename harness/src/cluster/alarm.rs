//! An undo that does not come through is told wherever somebody may look: on stderr, as an event of the object, and in
//! the termination message of the pod. Each time with the lines that a person types.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::FIELD_MANAGER;
use super::access::{Access, CALL_LIMIT};
use super::mutation::Mutation;
use crate::environment::ObjectName;

/// Between two alarms about the same.
pub const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// What a pod may leave behind in its status, and the variable that names it where the pod says that it is elsewhere.
const TERMINATION_LOG: &str = "/dev/termination-log";
const TERMINATION_LOG_VARIABLE: &str = "HARNESS_TERMINATION_LOG";
const TERMINATION_BYTES: usize = 4096;
/// The API takes no longer message of an event.
const EVENT_BYTES: usize = 1024;

/// Something that is not undone.
#[derive(Clone, Debug, PartialEq)]
pub struct Stuck {
    /// What.
    pub mutation: Mutation,
    /// Why.
    pub why: String,
    /// What a person types.
    pub command: String,
}

impl Stuck {
    /// In one line.
    #[must_use]
    pub fn words(&self) -> String {
        format!("{} is not undone: {}; to undo it: {}", self.mutation.object(), self.why, self.command)
    }
}

/// Raises the alarm now and again, about all that is stuck at a time.
pub struct Alarm {
    termination_log: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// When it was raised last, or else when something began to be stuck.
    last: Instant,
    /// What is stuck, by object.
    stuck: BTreeMap<String, Stuck>,
    /// Objects that an alarm was about, with the words of the last one.
    told: BTreeMap<String, String>,
    /// Objects that have their event.
    evented: BTreeSet<String>,
}

impl Default for Alarm {
    fn default() -> Self {
        let state = State {
            last: Instant::now(),
            stuck: BTreeMap::new(),
            told: BTreeMap::new(),
            evented: BTreeSet::new(),
        };
        let named = std::env::var_os(TERMINATION_LOG_VARIABLE).filter(|name| !name.is_empty());
        let termination_log = named.map_or_else(|| TERMINATION_LOG.into(), PathBuf::from);
        Self { termination_log, state: Mutex::new(state) }
    }
}

impl Alarm {
    /// Raises it about all that is stuck, if something has been for [`AGAIN_AFTER`] since it was raised last. What was not
    /// told in the same words before, for those who keep it.
    pub async fn raise_if_due(&self, access: Option<&Access>, stuck: &[Stuck]) -> Vec<String> {
        let is_due = {
            let mut state = self.state();
            if state.stuck.is_empty() {
                state.last = Instant::now();
            }
            state.add(stuck);
            !state.stuck.is_empty() && state.last.elapsed() >= AGAIN_AFTER
        };
        if is_due { self.tell(access, |_| true).await } else { Vec::new() }
    }

    /// Raises it now about these, with an event where there is a cluster. What cannot be told in one way is told in the
    /// others. What was not told in the same words before, for those who keep it.
    pub async fn raise(&self, access: Option<&Access>, stuck: &[Stuck]) -> Vec<String> {
        self.state().add(stuck);
        let keys: BTreeSet<String> = stuck.iter().map(|one| one.mutation.key()).collect();
        self.tell(access, |key| keys.contains(key)).await
    }

    /// It is undone after all: the pod says no more of it. Whether an alarm was about it.
    pub fn end(&self, mutation: &Mutation) -> bool {
        let mut state = self.state();
        if state.stuck.remove(&mutation.key()).is_some() {
            self.leave(&state);
        }
        state.told.remove(&mutation.key()).is_some()
    }

    /// Tells of those of which it is time to.
    async fn tell(&self, access: Option<&Access>, is_time: impl Fn(&String) -> bool) -> Vec<String> {
        let (new, without): (Vec<String>, Vec<(String, Stuck)>) = {
            let mut state = self.state();
            state.last = Instant::now();
            self.leave(&state);
            let State { stuck, told, evented, .. } = &mut *state;
            let mut new = Vec::new();
            for (key, one) in stuck.iter().filter(|(key, _)| is_time(key)) {
                let words = one.words();
                tracing::error!("{words}");
                let reason = without_numbers(&words);
                if told.insert(key.clone(), reason.clone()).as_ref() != Some(&reason) {
                    new.push(words);
                }
            }
            let without = stuck.iter().filter(|(key, _)| evented.insert((*key).clone()));
            (new, without.map(|(key, one)| (key.clone(), one.clone())).collect())
        };
        let Some(access) = access else { return new };
        let events = without.into_iter().map(async |(key, one)| {
            let Some((name, event)) = event(&one, Timestamp::now()) else { return };
            let unmade = Unmade { alarm: self, key: Some(key) };
            // Bounded, however often the API has to be asked for it: undos wait for this.
            match timeout(CALL_LIMIT, access.create(&name, &event)).await {
                Ok(Ok(_)) => unmade.made(),
                Ok(Err(error)) => tracing::debug!("no event: {error}"),
                Err(_) => tracing::debug!("no event: it took more than {} s", CALL_LIMIT.as_secs()),
            }
        });
        join_all(events).await;
        new
    }

    fn leave(&self, state: &State) {
        let stuck: Vec<Stuck> = state.stuck.values().cloned().collect();
        if let Err(error) = leave(&self.termination_log, &stuck) {
            tracing::debug!("no termination message: {error}");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whole after each step, also after one that panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long something took is another number each time, and no other reason.
fn without_numbers(words: &str) -> String {
    words.chars().filter(|letter| !letter.is_ascii_digit() && *letter != '.').collect()
}

/// An event that is being made: where the API answers to nobody, or nobody waits for it any more, the next alarm tries it
/// again.
struct Unmade<'a> {
    alarm: &'a Alarm,
    key: Option<String>,
}

impl Unmade<'_> {
    fn made(mut self) {
        self.key = None;
    }
}

impl Drop for Unmade<'_> {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.alarm.state().evented.remove(key);
        }
    }
}

impl State {
    fn add(&mut self, stuck: &[Stuck]) {
        self.stuck.extend(stuck.iter().map(|one| (one.mutation.key(), one.clone())));
    }
}

/// Writes the termination message, where there is a file for it: it is never made.
fn leave(path: &Path, stuck: &[Stuck]) -> std::io::Result<()> {
    let words: Vec<String> = stuck.iter().map(Stuck::words).collect();
    let text = words.join("\n");
    let mut file = std::fs::OpenOptions::new().write(true).truncate(true).open(path)?;
    file.write_all(cut(&text, TERMINATION_BYTES).as_bytes())
}

fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

/// An event of the object, in its namespace.
fn event(stuck: &Stuck, now: Timestamp) -> Option<(ObjectName, Event)> {
    let object = stuck.mutation.reference();
    let namespace = object["namespace"].as_str()?.to_owned();
    let name = format!("{}.{:x}", object["name"].as_str()?, now.as_microsecond());
    let at = format!("{now:.0}");
    let event = json!({
        "metadata": { "name": name, "namespace": namespace },
        "involvedObject": object,
        "reason": "RestoreStuck",
        "message": cut(&stuck.words(), EVENT_BYTES),
        "type": "Warning",
        "source": { "component": FIELD_MANAGER },
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    });
    Some((ObjectName::new(namespace, name), serde_json::from_value(event).ok()?))
}

#[cfg(test)]
mod tests {
    use super::{EVENT_BYTES, Stuck, TERMINATION_BYTES, event, leave};
    use crate::cluster::faults::scale::Scale;
    use crate::cluster::mutation::Mutation;
    use crate::environment::ObjectName;

    fn stuck(why: &str) -> Stuck {
        let deployment = ObjectName::new("ml", "vllm");
        Stuck {
            mutation: Mutation::Scale(Scale { deployment, uid: "u1".into(), replicas: 2 }),
            why: why.to_owned(),
            command: "kubectl -n ml scale".to_owned(),
        }
    }

    #[test]
    fn an_event_names_its_object_and_is_bounded() {
        let (name, event) = event(&stuck(&"ü".repeat(3000)), jiff::Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(name.namespace, "ml");
        assert_eq!(event.involved_object.kind.as_deref(), Some("Deployment"));
        assert_eq!(event.involved_object.uid.as_deref(), Some("u1"));
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        assert!(event.message.unwrap().len() <= EVENT_BYTES);
    }

    #[test]
    fn the_termination_message_is_bounded_and_its_file_is_never_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert!(leave(&path, &[stuck("no")]).is_err());
        std::fs::write(&path, "x".repeat(9000)).unwrap();
        leave(&path, &[stuck("no")]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "deployments/scale ml/vllm is not undone: no; to undo it: kubectl -n ml scale");
        leave(&path, &vec![stuck("ü"); 200]).unwrap();
        let length = std::fs::read(&path).unwrap().len();
        assert!(length <= TERMINATION_BYTES && length > TERMINATION_BYTES - 4, "{length}");
    }
}

//! The run's record in the cluster: what it is about to change and what undoes that, for whoever restores from another
//! machine, and for people.
//!
//! A ConfigMap in the gateway's namespace. It is written before each change, after the journal on this machine. An
//! intent that is open in any record is the only one for its object: whatever reads the object's state then would read
//! what a run has left, not what was there before.

mod keeper;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

pub use self::keeper::{
    CLOSED_WITHIN, Found, INTENDED_WITHIN, Keeper, NOTED_WITHIN, RecordError, list, prune, replace,
};
use super::RUN_LABEL;
use super::mutation::{Kubectl, Mutation};
use crate::environment::ObjectName;

/// Version of the record's format. Whoever adds a field raises it: a program reads no record that says more than it
/// knows.
pub const FORMAT: u32 = 1;
/// How many records of runs that have left nothing are kept.
pub const KEPT: usize = 10;
/// No record is larger; the API takes 1 MiB.
const BYTES_MAX: usize = 256 * 1024;
/// How names of records begin.
const PREFIX: &str = "failover-harness-";
/// What was sent has been carried out or dropped by then: no server works on a request for longer.
pub const LANDS_WITHIN: Duration = Duration::from_secs(60);
/// Clocks of the machines of a cluster differ by less: what one has written down another reads.
pub const CLOCKS_DIFFER: Duration = Duration::from_secs(60);
/// By which records are told from other ConfigMaps of a run.
const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
const COMPONENT: &str = "record";
const JSON: &str = "record.json";
const TEXT: &str = "restore.txt";

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It may change something at any time.
    Armed,
    /// It is being undone, or could not be undone in full.
    Restoring,
    /// Nothing of it is left.
    Restored,
}

/// What is known of one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It may have been made.
    Intended,
    /// It was made.
    Made,
    /// It was not: what is there is somebody else's.
    NotMade,
    /// It was undone.
    Undone,
    /// Somebody else has changed it since, and it was left to them.
    LeftAlone,
}

impl State {
    /// It may have to be undone.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Intended | Self::Made)
    }

    /// For people.
    const fn words(self) -> &'static str {
        match self {
            Self::Intended => "may have been done",
            Self::Made => "done",
            Self::NotMade => "not done",
            Self::Undone => "undone",
            Self::LeftAlone => "left to whoever has changed it since",
        }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// 0, 1, 2, ...: the last is undone first.
    pub seq: u32,
    /// The object, as people write it.
    pub object: String,
    /// What is done.
    pub words: String,
    /// What a person types to undo it.
    pub undo: String,
    /// With all that undoing it needs.
    pub mutation: Mutation,
    /// What is known of it.
    pub state: State,
    /// When it was intended, RFC 3339, UTC; older records do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intended_at: Option<String>,
}

impl Change {
    /// It is not known to have been made, and what was sent may still come through.
    #[must_use]
    pub fn may_still_land(&self, now: Timestamp) -> bool {
        let intended = self.intended_at.as_ref().and_then(|at| at.parse::<Timestamp>().ok());
        let within = self.mutation.sent_within() + LANDS_WITHIN + CLOCKS_DIFFER;
        // What seems to come from the future is as young as anything can be.
        let is_young = |at| Duration::try_from(now.duration_since(at)).map_or(true, |age| age < within);
        self.state == State::Intended && intended.is_some_and(is_young)
    }
}

/// What a run has changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`FORMAT`].
    pub format: u32,
    /// The run's id.
    pub run: String,
    /// Its environment.
    pub environment: String,
    /// Where it ran.
    pub machine: String,
    /// The Job that its pod belongs to, if that was told.
    pub job_uid: Option<String>,
    /// RFC 3339, UTC.
    pub started: String,
    /// Whoever finds it open after that undoes it, whatever the run does. RFC 3339, UTC; moved with each change.
    pub deadline: String,
    /// How far it is.
    pub phase: Phase,
    /// With what the run ended, once that is known.
    pub exit_code: Option<u8>,
    /// Who has undone it, where that was not the run itself.
    pub restored_by: Option<String>,
    /// In the order in which they were made.
    pub changes: Vec<Change>,
}

/// Why there is no second intent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the record of {run} has an open change of {object} already, and its original state is not overwritten"
)]
pub struct AlreadyOpen {
    /// Whose record.
    pub run: String,
    /// The object.
    pub object: String,
}

impl Record {
    /// Of a run that has changed nothing yet.
    #[must_use]
    pub fn new(
        run: &str,
        environment: &str,
        machine: &str,
        job_uid: Option<String>,
        now: Timestamp,
        deadline: Timestamp,
    ) -> Self {
        Self {
            format: FORMAT,
            run: run.to_owned(),
            environment: environment.to_owned(),
            machine: machine.to_owned(),
            job_uid,
            started: format!("{now:.3}"),
            deadline: format!("{deadline:.0}"),
            phase: Phase::Armed,
            exit_code: None,
            restored_by: None,
            changes: Vec::new(),
        }
    }

    /// Name of a run's record.
    #[must_use]
    pub fn name(namespace: &str, run: &str) -> ObjectName {
        let allowed = |c: char| {
            let c = c.to_ascii_lowercase();
            if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }
        };
        let run: String = run.chars().take(200).map(allowed).collect();
        ObjectName::new(namespace, format!("{PREFIX}{}", run.trim_matches('-')))
    }

    /// It may have left something.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.phase != Phase::Restored
    }

    /// Changes that may have to be undone, the last first.
    pub fn to_undo(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().rev().filter(|change| change.state.is_open())
    }

    /// An open change of what this mutation is about.
    #[must_use]
    pub fn holds(&self, mutation: &Mutation) -> Option<AlreadyOpen> {
        let key = mutation.key();
        let open = self.is_open() && self.to_undo().any(|change| change.mutation.key() == key);
        open.then(|| AlreadyOpen { run: self.run.clone(), object: mutation.object() })
    }

    /// Its time is over.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.deadline.parse::<Timestamp>().is_ok_and(|deadline| now > deadline)
    }

    /// One more change will be made; its number.
    ///
    /// # Errors
    /// Where the first intent for this object is still open: it alone knows what was there before.
    pub fn intend(&mut self, mutation: &Mutation, kubectl: &Kubectl) -> Result<u32, AlreadyOpen> {
        if let Some(open) = self.holds(mutation) {
            return Err(open);
        }
        let seq = self.changes.last().map_or(0, |change| change.seq + 1);
        self.changes.push(Change {
            seq,
            object: mutation.object(),
            words: mutation.words(),
            undo: mutation.undo_command(kubectl),
            mutation: mutation.clone(),
            state: State::Intended,
            intended_at: Some(format!("{:.3}", Timestamp::now())),
        });
        Ok(seq)
    }

    /// What has become of a change.
    pub fn note(&mut self, seq: u32, state: State) {
        if let Some(change) = self.changes.iter_mut().find(|change| change.seq == seq) {
            change.state = state;
        }
    }

    /// A person has to type something else to undo a change than was intended.
    pub fn retell(&mut self, seq: u32, command: &str) {
        if let Some(change) = self.changes.iter_mut().find(|change| change.seq == seq) {
            command.clone_into(&mut change.undo);
        }
    }

    /// For a person without this program: nothing but lines for kubectl and comments, so that all of it can be pasted.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "# What the run {} (environment {}, on {}, since {}) has changed in this cluster.\n",
            self.run, self.environment, self.machine, self.started
        );
        if !self.is_open() || self.to_undo().next().is_none() {
            text.push_str("# Nothing of it is left to undo.\n");
        } else {
            text.push_str("# `harness restore --env ENVIRONMENT` undoes it. By hand, in this order:\n");
            for change in self.to_undo() {
                // Writing to a string cannot fail.
                let _ = write!(text, "\n# {} ({})\n{}\n", change.words, change.state.words(), change.undo);
            }
        }
        for change in self.changes.iter().filter(|change| change.state == State::LeftAlone) {
            let _ = write!(text, "\n# left to whoever has changed it since: {}\n", change.object);
        }
        text
    }

    /// The ConfigMap over the version that was read.
    ///
    /// # Errors
    /// In words, where it would be too large.
    pub fn manifest(&self, name: &ObjectName, version: Option<&str>) -> Result<ConfigMap, String> {
        let json = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        let text = self.text();
        let bytes = json.len() + text.len();
        if bytes > BYTES_MAX {
            return Err(format!(
                "the record of the run would have {bytes} bytes, and {BYTES_MAX} is the most"
            ));
        }
        let labels = [
            ("app.kubernetes.io/name", "failover-harness"),
            (COMPONENT_LABEL, COMPONENT),
            (RUN_LABEL, self.run.as_str()),
        ];
        Ok(ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.name.clone()),
                namespace: Some(name.namespace.clone()),
                labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                resource_version: version.map(str::to_owned),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(JSON.to_owned(), json), (TEXT.to_owned(), text)])),
            ..ConfigMap::default()
        })
    }

    /// What a ConfigMap holds; `None` where it is no record.
    ///
    /// # Errors
    /// In words, where it is one that this program does not understand.
    pub fn read(map: &ConfigMap) -> Option<Result<Self, String>> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        if !map.metadata.name.as_deref().is_some_and(|name| name.starts_with(PREFIX)) {
            return None;
        }
        let Some(json) = map.data.as_ref().and_then(|data| data.get(JSON)) else {
            let labels = map.metadata.labels.as_ref();
            let is_record =
                labels.and_then(|labels| labels.get(COMPONENT_LABEL)).is_some_and(|is| is == COMPONENT);
            return is_record.then(|| Err(format!("it has no {JSON}")));
        };
        let at = |error: &serde_json::Error| format!("line {}, column {}", error.line(), error.column());
        let broken = |error: serde_json::Error| format!("it is broken ({})", at(&error));
        let unknown = |error: serde_json::Error| {
            if error.is_data() {
                format!("it says what this program does not know ({})", at(&error))
            } else {
                broken(error)
            }
        };
        Some((|| {
            let Versioned { format } = serde_json::from_str(json).map_err(broken)?;
            if format > FORMAT {
                return Err(format!("its format {format} is newer than this program"));
            }
            let record: Self = serde_json::from_str(json).map_err(unknown)?;
            record.deadline.parse::<Timestamp>().map_err(|_| "its deadline is no time".to_owned())?;
            Ok(record)
        })())
    }
}

#[cfg(test)]
mod tests;

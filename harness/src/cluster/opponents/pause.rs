//! Telling an opponent to wait, and to go on: a mutation like any other.

use std::borrow::Cow;

use kube::ResourceExt as _;
use kube::api::{ApiResource, DynamicObject};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Custom, scalers};
use crate::cluster::access::{Access, CallError, found};
use crate::cluster::mutation::{ATTEMPTS, Applied, Kubectl, MutationError, ReadBack, Undone};
use crate::environment::{ObjectName, Opponent, quoted};

/// A kind of custom object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kind {
    /// Its API group.
    pub group: Cow<'static, str>,
    /// Version of the group.
    pub version: Cow<'static, str>,
    /// As people write it.
    pub kind: Cow<'static, str>,
    /// As URLs have it.
    pub plural: Cow<'static, str>,
}

impl Kind {
    const fn new(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        plural: &'static str,
    ) -> Self {
        Self {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            kind: Cow::Borrowed(kind),
            plural: Cow::Borrowed(plural),
        }
    }

    pub(super) const SCALED_OBJECT: Self = Self::new("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects");
    pub(super) const APPLICATION: Self = Self::new("argoproj.io", "v1alpha1", "Application", "applications");
    pub(super) const SLEEP_INFO: Self = Self::new("kube-green.com", "v1alpha1", "SleepInfo", "sleepinfos");
    /// Newest first.
    pub(super) const KUSTOMIZATIONS: [Self; 2] = [
        Self::new("kustomize.toolkit.fluxcd.io", "v1", "Kustomization", "kustomizations"),
        Self::new("kustomize.toolkit.fluxcd.io", "v1beta2", "Kustomization", "kustomizations"),
    ];
    /// Newest first.
    pub(super) const HELM_RELEASES: [Self; 2] = [
        Self::new("helm.toolkit.fluxcd.io", "v2", "HelmRelease", "helmreleases"),
        Self::new("helm.toolkit.fluxcd.io", "v2beta2", "HelmRelease", "helmreleases"),
    ];

    pub(super) fn resource(&self) -> ApiResource {
        ApiResource {
            group: self.group.to_string(),
            version: self.version.to_string(),
            api_version: format!("{}/{}", self.group, self.version),
            kind: self.kind.to_string(),
            plural: self.plural.to_string(),
        }
    }
}

impl Custom {
    pub(super) fn name(&self) -> ObjectName {
        ObjectName::new(self.object.namespace().unwrap_or_default(), self.object.name_any())
    }

    /// As people write it.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.kind.kind, self.name())
    }
}

/// What is set on an object to make its controller wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// An annotation.
    Annotation {
        /// Its key.
        key: String,
        /// The value that means "wait".
        value: String,
    },
    /// `spec.suspend`.
    Suspend,
}

/// An opponent that is told to wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who.
    pub opponent: Opponent,
    /// What the object is.
    pub kind: Kind,
    /// Which.
    pub object: ObjectName,
    /// Its uid: another one of the same name is not ours.
    pub uid: String,
    /// What is set.
    pub switch: Switch,
    /// What was there before; null where nothing was.
    pub was: Value,
}

impl Pause {
    pub(super) fn of(opponent: Opponent, custom: &Custom, switch: Switch) -> Self {
        let was = switch.value_in(&custom.object);
        Self {
            opponent,
            kind: custom.kind.clone(),
            object: custom.name(),
            uid: custom.object.uid().unwrap_or_default(),
            switch,
            was,
        }
    }
}

impl Switch {
    /// What an object has there; null where it has nothing.
    fn value_in(&self, object: &DynamicObject) -> Value {
        match self {
            Self::Annotation { key, .. } => {
                object.annotations().get(key).map_or(Value::Null, |value| Value::String(value.clone()))
            }
            Self::Suspend => object.data["spec"].get("suspend").cloned().unwrap_or(Value::Null),
        }
    }

    /// What means "wait".
    fn set(&self) -> Value {
        match self {
            Self::Annotation { value, .. } => Value::String(value.clone()),
            Self::Suspend => Value::Bool(true),
        }
    }

    fn patch(&self, value: &Value, version: &str) -> Value {
        match self {
            Self::Annotation { key, .. } => {
                json!({ "metadata": { "resourceVersion": version, "annotations": { key.as_str(): value } } })
            }
            Self::Suspend => {
                json!({ "metadata": { "resourceVersion": version }, "spec": { "suspend": value } })
            }
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Annotation { key, value } => format!("annotation {key}={value}"),
            Self::Suspend => "spec.suspend".to_owned(),
        }
    }
}

/// A value in words.
fn shown(value: &Value) -> String {
    if value.is_null() { "nothing".to_owned() } else { value.to_string() }
}

impl Pause {
    pub(in crate::cluster) fn object(&self) -> String {
        format!("{}.{} {}", self.kind.plural, self.kind.group, self.object)
    }

    pub(in crate::cluster) fn words(&self) -> String {
        format!(
            "pause {}: set {} of {} {}",
            self.opponent.word(),
            self.switch.words(),
            self.kind.kind,
            self.object
        )
    }

    pub(in crate::cluster) fn undo_words(&self) -> String {
        match &self.was {
            Value::Null => format!("let {} go on: remove what was set", self.opponent.word()),
            was => format!("let {} go on: set it back to {was}", self.opponent.word()),
        }
    }

    pub(in crate::cluster) fn undo_command(&self, kubectl: &Kubectl) -> String {
        let object = format!("{}.{}/{}", self.kind.plural, self.kind.group, self.object.name);
        let line = match (&self.switch, &self.was) {
            (Switch::Annotation { key, .. }, Value::String(was)) => {
                format!("annotate --overwrite {object} {}", quoted(&format!("{key}={was}")))
            }
            (Switch::Annotation { key, .. }, _) => {
                format!("annotate {object} {}", quoted(&format!("{key}-")))
            }
            (Switch::Suspend, was) => {
                let patch = json!({ "spec": { "suspend": was } }).to_string();
                format!("patch {object} --type=merge -p {}", quoted(&patch))
            }
        };
        kubectl.line(&self.object.namespace, line)
    }

    async fn read(&self, access: &Access) -> Result<Option<DynamicObject>, CallError> {
        found(access.get_of::<DynamicObject>(&self.kind.resource(), &self.object).await)
    }

    async fn write(
        &self,
        access: &Access,
        read: &DynamicObject,
        value: &Value,
    ) -> Result<DynamicObject, CallError> {
        let patch = self.switch.patch(value, &read.resource_version().unwrap_or_default());
        access.merge(&self.kind.resource(), &self.object, &patch).await
    }

    fn is_same(&self, object: &DynamicObject) -> bool {
        object.metadata.uid.as_deref() == Some(&self.uid)
    }

    pub(in crate::cluster) async fn apply(&self, access: &Access) -> Result<Applied, MutationError> {
        let mut unsure = false;
        let applied = self.try_apply(access, &mut unsure).await;
        applied.map_err(|error| if unsure { error.after_a_write_to(self.object()) } else { error })
    }

    /// `unsure` once a write was not answered.
    async fn try_apply(&self, access: &Access, unsure: &mut bool) -> Result<Applied, MutationError> {
        let set = self.switch.set();
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let object = self.read(access).await?;
            let saw = object.as_ref().map(|object| (self.is_same(object), self.switch.value_in(object)));
            let object = match (object, saw) {
                (Some(object), Some((true, value))) if value == self.was => object,
                // A write that was not answered came through, however late.
                (Some(object), Some((true, value))) if value == set && *unsure => {
                    return Ok(applied(&object));
                }
                (_, saw) => {
                    return Err(MutationError::Changed {
                        object: self.object(),
                        expected: shown(&self.was),
                        saw: saw.map_or("nothing of this name".to_owned(), |(_, value)| shown(&value)),
                    });
                }
            };
            match self.write(access, &object, &set).await {
                Ok(object) => return Ok(applied(&object)),
                Err(error) if error.is_conflict() || error.is_outcome_unknown() => {
                    *unsure |= error.is_outcome_unknown();
                    last = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(last.expect("each of several attempts has failed").into())
    }

    pub(in crate::cluster) async fn undo(&self, access: &Access) -> Result<Undone, CallError> {
        let mut last = None;
        let mut sent = false;
        for _ in 0..ATTEMPTS {
            let Some(object) = self.read(access).await?.filter(|object| self.is_same(object)) else {
                return Ok(Undone::LeftAlone { saw: "it is gone".to_owned() });
            };
            let value = self.switch.value_in(&object);
            if value == self.was {
                return Ok(if sent { Undone::Now } else { Undone::Before });
            }
            if value != self.switch.set() {
                return Ok(Undone::LeftAlone { saw: shown(&value) });
            }
            match self.write(access, &object, &self.was).await {
                Ok(_) => return Ok(Undone::Now),
                Err(error) if error.is_conflict() || error.is_outcome_unknown() => {
                    sent |= error.is_outcome_unknown();
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.expect("each of several attempts has failed"))
    }

    pub(in crate::cluster) async fn read_back(&self, access: &Access) -> Result<ReadBack, CallError> {
        let Some(object) = self.read(access).await?.filter(|object| self.is_same(object)) else {
            return Ok(ReadBack::Other { saw: "it is gone".to_owned() });
        };
        let value = self.switch.value_in(&object);
        let custom = Custom { kind: self.kind.clone(), object };
        Ok(if value == self.switch.set() {
            ReadBack::Done
        } else if value != self.was {
            ReadBack::Other { saw: shown(&value) }
        } else if self.opponent == Opponent::Keda && scalers::still_paused(&custom) {
            // KEDA has been seen to stay paused without its annotation.
            ReadBack::Other { saw: "KEDA still says that it is paused".to_owned() }
        } else {
            ReadBack::Undone
        })
    }
}

fn applied(object: &DynamicObject) -> Applied {
    Applied {
        uid: object.uid().unwrap_or_default(),
        resource_version: object.resource_version().unwrap_or_default(),
    }
}

//! One call to the API, and what can go wrong with it.

use std::fmt;
use std::time::Duration;

use kube::Resource;
use kube::client::AuthError;

use super::guard::NoWrite;
use crate::environment::ObjectName;

/// Longer messages of a server are cut.
const MESSAGE_CHARS: usize = 400;

/// What is asked of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Reads one object; also how exec and port-forward begin.
    Get,
    /// Reads many.
    List,
    /// Follows changes.
    Watch,
    /// Makes an object.
    Create,
    /// Changes parts of it.
    Patch,
    /// Replaces it.
    Update,
    /// Deletes it.
    Delete,
    /// Asks what is allowed, which changes nothing.
    Review,
}

impl Verb {
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create | Self::Review => "create",
            Self::Patch => "patch",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    /// It changes something.
    #[must_use]
    pub const fn changes(self) -> bool {
        matches!(self, Self::Create | Self::Patch | Self::Update | Self::Delete)
    }
}

/// What a call is about, `deployments/scale ml/vllm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    resource: Box<str>,
    namespace: Option<Box<str>>,
    name: Option<Box<str>>,
}

impl Target {
    /// An object of a resource, `pods/exec` for one.
    #[must_use]
    pub fn new(resource: impl Into<Box<str>>, name: &ObjectName) -> Self {
        Self {
            resource: resource.into(),
            namespace: Some(name.namespace.as_str().into()),
            name: Some(name.name.as_str().into()),
        }
    }

    /// An object of a kind.
    pub fn of<K: Resource>(kind: &K::DynamicType, name: &ObjectName) -> Self {
        Self::new(K::plural(kind).as_ref(), name)
    }

    /// All objects of a kind in a namespace, or in the cluster.
    pub fn all<K: Resource>(kind: &K::DynamicType, namespace: Option<&str>) -> Self {
        Self { resource: K::plural(kind).as_ref().into(), namespace: namespace.map(Into::into), name: None }
    }

    /// An object without a namespace.
    pub fn whole<K: Resource>(kind: &K::DynamicType, name: &str) -> Self {
        Self { resource: K::plural(kind).as_ref().into(), namespace: None, name: Some(name.into()) }
    }

    /// Something that is no object of the API, in words.
    #[must_use]
    pub fn outside(what: impl Into<Box<str>>) -> Self {
        Self { resource: what.into(), namespace: None, name: None }
    }

    pub(in crate::cluster) fn scale(deployment: &ObjectName) -> Self {
        Self::new("deployments/scale", deployment)
    }

    /// The namespace that it lies in, if it lies in one.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => write!(formatter, "{} {namespace}/{name}", self.resource),
            (Some(namespace), None) => write!(formatter, "{} in {namespace}", self.resource),
            (None, Some(name)) => write!(formatter, "{} {name}", self.resource),
            (None, None) => formatter.write_str(&self.resource),
        }
    }
}

/// A call that was not answered well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {} {target}: {failure}", verb.word())]
pub struct CallError {
    /// What was asked.
    pub verb: Verb,
    /// Of what.
    pub target: Target,
    /// Why it failed.
    pub failure: Failure,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It would change something outside the environment's namespaces, and was not sent.
    #[error("it is outside the namespaces of the environment")]
    NotAllowed,
    /// There is no cluster here.
    #[error("there is no cluster to ask")]
    NoCluster,
    /// Whoever watches over changes did not allow it, and it was not sent.
    #[error("it was not sent: {0}")]
    NoLock(NoWrite),
    /// The server said no.
    #[error("{status} {reason}: {message}")]
    Status {
        /// HTTP status.
        status: u16,
        /// The API's word for it, `Conflict`.
        reason: String,
        /// The server's words.
        message: String,
    },
    /// Nothing was answered in time; what was asked may have been done.
    #[error("no answer within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The connection failed; what was asked may have been done.
    #[error("{0}")]
    Transport(String),
    /// The answer is not what was asked for.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
    /// It was answered well, and the answer shows something else than what was asked for.
    #[error("the API keeps {0}")]
    NotKept(String),
    /// The container that does it has not run, or has failed.
    #[error("{0}")]
    Container(String),
    /// A list goes on beyond what anybody reads.
    #[error("there are more than {0}")]
    TooMany(usize),
}

impl Failure {
    pub(super) fn of(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Status {
                status: status.code,
                reason: shown(&status.reason),
                message: shown(&status.message),
            },
            error => Self::Transport(chain(&error)),
        }
    }
}

impl CallError {
    fn status(&self) -> Option<(u16, &str)> {
        match &self.failure {
            Failure::Status { status, reason, .. } => Some((*status, reason)),
            _ => None,
        }
    }

    /// There is no such object, or no such kind.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(|(status, _)| status == 404)
    }

    /// The server does not know who asks: nothing was done.
    #[must_use]
    pub fn is_unauthenticated(&self) -> bool {
        self.status().is_some_and(|(status, _)| status == 401)
    }

    /// This user may not do that.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.status().is_some_and(|(status, _)| status == 401 || status == 403)
    }

    /// Somebody who checks what is made said no to this object.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.status().is_some_and(|(status, _)| matches!(status, 403 | 422))
    }

    /// What was read before is no longer so.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(|(status, reason)| status == 409 && reason != "AlreadyExists")
    }

    /// An object with this name is there.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(|(status, reason)| status == 409 && reason == "AlreadyExists")
    }

    /// Whether what was asked has been done is not known: only reading tells.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        match &self.failure {
            Failure::TimedOut(_) | Failure::Transport(_) | Failure::Unreadable(_) | Failure::Container(_) => {
                true
            }
            Failure::Status { status, .. } => *status >= 500,
            Failure::NotAllowed
            | Failure::NoCluster
            | Failure::NoLock(_)
            | Failure::TooMany(_)
            | Failure::NotKept(_) => false,
        }
    }

    /// The same may be answered well a moment later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match &self.failure {
            Failure::TimedOut(_) | Failure::Transport(_) | Failure::Unreadable(_) | Failure::NotKept(_) => {
                true
            }
            Failure::NoLock(no) => !no.is_lost,
            Failure::Status { status, .. } => *status == 429 || *status >= 500,
            Failure::NotAllowed | Failure::NoCluster | Failure::Container(_) | Failure::TooMany(_) => false,
        }
    }

    /// Nothing may be changed from here any more: the lock is somebody else's.
    #[must_use]
    pub fn is_lock_lost(&self) -> bool {
        matches!(&self.failure, Failure::NoLock(no) if no.is_lost)
    }
}

/// An error and its causes in one line, each once. What a program said that gives credentials is not shown: it may be
/// one.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = || std::iter::successors(Some(error), |error| error.source());
    // A message may hold that of its cause, so that none of them is shown.
    if let Some(auth) = causes().find_map(|error| error.downcast_ref::<AuthError>()) {
        return without_output(auth);
    }
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        if !words.contains(&text) {
            words.push_str(": ");
            words.push_str(&text);
        }
        cause = next.source();
    }
    shown(&words)
}

fn without_output(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecStart(error) => {
            format!("the program that gives its credentials cannot be started: {}", error.kind())
        }
        AuthError::AuthExecRun { out, .. } => {
            format!("the program that gives its credentials failed ({}); run it by hand", out.status)
        }
        AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed => {
            "the program that gives its credentials did not print an ExecCredential".to_owned()
        }
        AuthError::ReadTokenFile(error, _) => format!("its token file cannot be read: {}", error.kind()),
        _ => "its credentials cannot be used".to_owned(),
    }
}

/// A text of somebody else's as it may be shown: one line, not long, nothing that drives a terminal.
pub(in super::super) fn shown(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut words: String = clean.take(MESSAGE_CHARS + 1).collect();
    if words.chars().count() > MESSAGE_CHARS {
        words.pop();
        words.push_str("...");
    }
    words
}

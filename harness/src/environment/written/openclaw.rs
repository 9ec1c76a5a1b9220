//! Where openclaw is in a cluster: what the state of its migration is read from.

use schemars::JsonSchema;

use super::cluster::OBJECT_PATTERN;
use crate::environment::cluster::CONFIG_PATH;
use crate::input::at::{At, Key};
use crate::input::checker::Checker;
use crate::input::read::Read;
use crate::input::tree::Node;

/// Kubernetes: openclaw, whose migration is looked at; nothing of it is ever changed.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Openclaw")]
pub(crate) struct OpenclawWritten {
    /// The Deployment that runs it, `namespace/name`.
    #[schemars(extend("pattern" = OBJECT_PATTERN, "examples" = ["apps/openclaw"]))]
    pub(crate) deployment: Key<At<String>>,
    /// Its container; by default the first one of the pod.
    #[schemars(default, extend("pattern" = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "examples" = ["openclaw"]))]
    pub(crate) container: Key<At<String>>,
    /// Where its configuration is in that container.
    #[schemars(default, extend("pattern" = "^/", "default" = CONFIG_PATH))]
    pub(crate) config: Key<At<String>>,
    /// The Secret that its environment comes from, `namespace/name`; only the names of its keys are kept.
    #[schemars(extend("pattern" = OBJECT_PATTERN, "examples" = ["apps/openclaw-secrets"]))]
    pub(crate) secret: Key<At<String>>,
}

impl Read for OpenclawWritten {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let keys = check.keys(node, &["deployment", "container", "config", "secret"])?;
        Some(Self {
            deployment: keys.required(check, "deployment", "deployment: apps/openclaw"),
            container: keys.optional(check, "container"),
            config: keys.optional(check, "config"),
            secret: keys.required(check, "secret", "secret: apps/openclaw-secrets"),
        })
    }
}

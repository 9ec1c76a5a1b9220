//! Where a Loki keeps the gateway's log, as people write it.

use schemars::JsonSchema;

use crate::environment::loki::WITHIN;
use crate::input::at::{At, Key, Text};
use crate::input::checker::Checker;
use crate::input::read::Read;
use crate::input::tree::Node;
use crate::units::Period;

/// A Loki with the log of the gateway's pods.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Loki")]
pub(crate) struct LokiWritten {
    /// Its URL without a path, `http://` or `https://`.
    #[schemars(extend("format" = "uri", "pattern" = "^https?://", "examples" = ["http://loki.monitoring.svc:3100"]))]
    pub(crate) url: Key<At<String>>,
    /// What finds the log of the gateway's pods, and no other.
    #[schemars(extend("examples" = ["{namespace=\"ml\", app=\"litellm\"}"]))]
    pub(crate) query: Key<At<String>>,
    /// The tenant (`X-Scope-OrgID`), where it has several.
    #[schemars(default, extend("examples" = ["home"]))]
    pub(crate) tenant: Key<At<String>>,
    /// The environment variable that holds a bearer token; never the token itself.
    #[schemars(default, regex(pattern = r"^[A-Z_][A-Z0-9_]*$"), extend("examples" = ["LOKI_TOKEN"]))]
    pub(crate) token_env: Key<At<String>>,
    /// A user name; with `password_env`.
    #[schemars(default)]
    pub(crate) user: Key<At<String>>,
    /// The environment variable that holds the user's password; never the password itself.
    #[schemars(default, regex(pattern = r"^[A-Z_][A-Z0-9_]*$"), extend("examples" = ["LOKI_PASSWORD"]))]
    pub(crate) password_env: Key<At<String>>,
    /// How long lines that are late are waited for at the end of a mode.
    #[schemars(default, extend("default" = WITHIN))]
    pub(crate) within: Key<At<Text<Period>>>,
}

impl Read for LokiWritten {
    const KEYS: &'static [&'static str] =
        &["url", "query", "tenant", "token_env", "user", "password_env", "within"];
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let keys = check.keys(node, Self::KEYS)?;
        Some(Self {
            url: keys.required(check, "url", "url: \"http://loki.monitoring.svc:3100\""),
            query: keys.required(check, "query", "query: '{namespace=\"ml\", app=\"litellm\"}'"),
            tenant: keys.optional(check, "tenant"),
            token_env: keys.optional(check, "token_env"),
            user: keys.optional(check, "user"),
            password_env: keys.optional(check, "password_env"),
            within: keys.optional(check, "within"),
        })
    }
}

//! Where a Loki keeps the gateway's log.

use serde::{Deserialize, Serialize};

use crate::units::Period;

/// How long lines that are late are waited for unless the environment says otherwise.
pub(crate) const WITHIN: Period = Period::from_secs(10);

/// A Loki with the log of the gateway's pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loki {
    /// Without a path.
    pub url: String,
    /// Finds the log.
    pub query: String,
    /// `X-Scope-OrgID`.
    pub tenant: Option<String>,
    /// As whom it is asked.
    pub user: LokiUser,
    /// How long lines that are late are waited for.
    pub within: Period,
}

/// As whom a Loki is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LokiUser {
    /// It asks nobody.
    Nobody,
    /// With a token that stands in this environment variable.
    Bearer(String),
    /// With a name and a password.
    Basic {
        /// The name.
        user: String,
        /// The environment variable that holds the password.
        password_env: String,
    },
}

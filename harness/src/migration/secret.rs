//! The Secret of openclaw, by the names of its keys.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::container::{none, url};
use super::words::{is_anthropic, shown};
use super::{Expected, Fact, Finding, KEY_VARIABLE, Leads, URL_VARIABLE};
use crate::verdict::result::MigrationLine;

/// A key that the migration leaves alone: embeddings are made with it.
const EMBEDDINGS: &str = "OPENAI_API_KEY";

/// A Secret without its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretSeen {
    /// By key, whether there is anything in it.
    pub keys: BTreeMap<String, bool>,
    /// What the URL in it is to LiteLLM.
    pub leads: Option<Leads>,
    /// When its data was changed last, to the second.
    pub changed: Option<Timestamp>,
}

/// What the Secret has, or why that is not known. `name`: what it is called.
#[must_use]
pub fn secret(name: &str, read: Result<&SecretSeen, &str>, expected: &Expected) -> Vec<MigrationLine> {
    let has = |seen: &SecretSeen, key: &str| match seen.keys.get(key) {
        Some(true) => Finding::Holds("present".to_owned()),
        Some(false) => Finding::Fails("present, with nothing in it".to_owned()),
        None => Finding::Fails("absent".to_owned()),
    };
    let restart = "restart openclaw afterwards";
    vec![
        Fact::fr222(
            format!("Anthropic in the Secret {name}"),
            "no key, `ANTHROPIC_OAUTH_TOKEN` among them",
            format!("take the key out of the Secret {name}, and {restart}"),
        )
        .of(read, |seen| {
            let named = seen.keys.keys().filter(|key| is_anthropic(key));
            none(&named.map(|key| shown(key)).collect::<Vec<_>>())
        }),
        Fact::fr222(
            format!("{KEY_VARIABLE} in the Secret {name}"),
            "present",
            format!("put LiteLLM's master key there, and {restart}"),
        )
        .of(read, |seen| has(seen, KEY_VARIABLE)),
        Fact::fr222(
            format!("{URL_VARIABLE} in the Secret {name}"),
            expected.urls.first().map_or_else(|| "the URL of LiteLLM".to_owned(), |url| format!("`{url}`")),
            format!("put the URL of LiteLLM there, and {restart}"),
        )
        .of(read, |seen| url(seen.keys.contains_key(URL_VARIABLE), seen.leads, expected)),
        Fact::fr222(
            format!("{EMBEDDINGS} in the Secret {name}"),
            "present: embeddings need it, and it is left alone",
            "put it back: the migration does not touch it",
        )
        .of(read, |seen| has(seen, EMBEDDINGS)),
    ]
}

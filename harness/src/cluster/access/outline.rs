//! A Secret without its values: they are read over and dropped where they stand.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as ClusterSecret;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};

use super::{Access, CallError, Failure, Target, Verb, requests};
use crate::environment::ObjectName;
use crate::gateway::secret::Secret;

/// What is kept of a Secret.
#[derive(Clone, Debug)]
pub struct SecretOutline {
    /// By key, whether there is anything in it.
    pub keys: BTreeMap<String, bool>,
    /// The one value that was asked for, if it is text.
    pub kept: Option<Secret>,
    /// When its data was changed last, as far as its managers tell, or it was made.
    pub changed: Option<Timestamp>,
}

impl Access {
    /// The names of a Secret's keys, and one value of it.
    ///
    /// # Errors
    /// Where it cannot be read, or is not there.
    pub async fn secret_outline(&self, name: &ObjectName, keep: &str) -> Result<SecretOutline, CallError> {
        let target = Target::of::<ClusterSecret>(&(), name);
        let request =
            requests::<ClusterSecret>(&(), Some(&name.namespace)).get(&name.name, &Default::default());
        let text = match request {
            Ok(request) => self.text(Verb::Get, &target, request).await?,
            Err(error) => {
                let failure = Failure::of(kube::Error::BuildRequest(error));
                return Err(CallError { verb: Verb::Get, target, failure });
            }
        };
        read(&text, keep).map_err(|error| CallError {
            verb: Verb::Get,
            target,
            failure: Failure::Unreadable(format!("line {}, column {}", error.line(), error.column())),
        })
    }
}

fn read(text: &str, keep: &str) -> serde_json::Result<SecretOutline> {
    let mut json = serde_json::Deserializer::from_str(text);
    Whole { keep }.deserialize(&mut json)
}

/// The object.
struct Whole<'k> {
    keep: &'k str,
}

impl<'de> DeserializeSeed<'de> for Whole<'_> {
    type Value = SecretOutline;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = SecretOutline;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a Secret")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut outline = SecretOutline { keys: BTreeMap::new(), kept: None, changed: None };
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "metadata" => outline.changed = map.next_value::<Metadata>()?.changed(),
                "data" => (outline.keys, outline.kept) = map.next_value_seed(Data { keep: self.keep })?,
                _ => {
                    let _unread = map.next_value::<serde::de::IgnoredAny>()?;
                }
            }
        }
        Ok(outline)
    }
}

/// Its `data`.
struct Data<'k> {
    keep: &'k str,
}

type Kept = (BTreeMap<String, bool>, Option<Secret>);

impl<'de> DeserializeSeed<'de> for Data<'_> {
    type Value = Kept;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Data<'_> {
    type Value = Kept;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the data of a Secret")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok((BTreeMap::new(), None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut keys, mut kept) = (BTreeMap::new(), None);
        while let Some(key) = map.next_key::<String>()? {
            let is_there = if key == self.keep {
                let value = map.next_value::<ByteString>()?;
                let text = String::from_utf8(value.0).ok();
                let is_there = text.as_ref().is_none_or(|text| !text.is_empty());
                kept = text.map(|text| Secret::new(text.trim_end_matches(['\r', '\n'])));
                is_there
            } else {
                map.next_value::<IsThere>()?.0
            };
            keys.insert(key, is_there);
        }
        Ok((keys, kept))
    }
}

/// A text of which only this is kept.
struct IsThere(bool);

impl<'de> Deserialize<'de> for IsThere {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = IsThere;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<IsThere, E> {
                Ok(IsThere(!text.is_empty()))
            }

            fn visit_unit<E>(self) -> Result<IsThere, E> {
                Ok(IsThere(false))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// What is read of its metadata; its annotations, which may repeat its values, are not.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    creation_timestamp: Option<String>,
    #[serde(default)]
    managed_fields: Vec<Managed>,
}

/// What one manager has set.
#[derive(Deserialize)]
struct Managed {
    time: Option<String>,
    #[serde(rename = "fieldsV1")]
    fields: Option<Fields>,
}

/// Whether it has set any of the data.
#[derive(Deserialize)]
struct Fields {
    #[serde(rename = "f:data")]
    data: Option<serde::de::IgnoredAny>,
}

impl Metadata {
    fn changed(&self) -> Option<Timestamp> {
        let of_data = |managed: &&Managed| managed.fields.as_ref().is_none_or(|fields| fields.data.is_some());
        let managed = self.managed_fields.iter().filter(of_data).filter_map(|managed| managed.time.as_ref());
        managed.chain(&self.creation_timestamp).filter_map(|time| time.parse().ok()).max()
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn only_names_and_the_one_value_are_kept() {
        // "http://a" and "canary".
        let text = r#"{
            "metadata": {
                "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "Y2FuYXJ5" },
                "creationTimestamp": "2026-11-01T00:00:00Z",
                "managedFields": [
                    { "manager": "a", "time": "2026-11-02T00:00:00Z", "fieldsV1": { "f:data": { "f:K": {} } } },
                    { "manager": "b", "time": "2026-11-03T00:00:00Z", "fieldsV1": { "f:metadata": {} } }
                ]
            },
            "data": { "URL": "aHR0cDovL2E=", "K": "Y2FuYXJ5", "EMPTY": "" }
        }"#;
        let outline = read(text, "URL").unwrap();
        let keys: Vec<(&str, bool)> =
            outline.keys.iter().map(|(key, there)| (key.as_str(), *there)).collect();
        assert_eq!(keys, [("EMPTY", false), ("K", true), ("URL", true)]);
        assert_eq!(outline.kept.as_ref().map(|url| url.expose()), Some("http://a"));
        assert_eq!(outline.changed, "2026-11-02T00:00:00Z".parse().ok(), "labels are no data");
        let shown = format!("{outline:?}");
        assert!(!shown.contains("Y2FuYXJ5") && !shown.contains("canary") && !shown.contains("http://a"));
        let bare = read(r#"{ "metadata": {}, "data": null }"#, "URL").unwrap();
        assert!(bare.keys.is_empty() && bare.changed.is_none() && bare.kept.is_none());
        assert!(read("[]", "URL").is_err() && read(r#"{ "data": 1 }"#, "URL").is_err());
    }
}

//! Numbers by exception class: `retry_policy` and `allowed_fails_policy`.

use std::collections::BTreeMap;

use super::failure::ErrorClass;

/// A limit for some classes, and one for the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassLimits {
    by_stem: BTreeMap<String, u32>,
    default: Option<u32>,
}

impl ClassLimits {
    /// Sets the limit of the class whose policy keys start with `stem`, or of `Default`.
    pub fn set(&mut self, stem: &str, limit: u32) {
        if stem == "Default" {
            self.default = Some(limit);
        } else {
            self.by_stem.insert(stem.to_owned(), limit);
        }
    }

    /// The policy as configurations write it, with `Retries` or `AllowedFails` after each class.
    #[must_use]
    pub fn to_json(&self, suffix: &str) -> serde_json::Value {
        let named = self.by_stem.iter().map(|(stem, limit)| (stem.as_str(), *limit));
        let all = named.chain(self.default.map(|limit| ("Default", limit)));
        all.map(|(stem, limit)| (format!("{stem}{suffix}"), serde_json::Value::from(limit))).collect()
    }

    /// The limit of a class, or the default limit.
    #[must_use]
    pub fn get(&self, class: ErrorClass) -> Option<u32> {
        let named = |stem: &str| self.by_stem.get(stem).copied();
        let own = class.policy_stem().and_then(named);
        // A violated policy is a bad request, too.
        let kind = (class == ErrorClass::ContentPolicy).then(|| named("BadRequestError")).flatten();
        own.or(kind).or(self.default)
    }
}

/// Whether a policy may name this stem; `Default` is for retries only.
pub(crate) fn is_known_stem(stem: &str, retries: bool) -> bool {
    match stem {
        "Default" => retries,
        "BadGatewayError" => !retries,
        "TimeoutError"
        | "BadRequestError"
        | "AuthenticationError"
        | "NotFoundError"
        | "ContentPolicyViolationError"
        | "RateLimitError"
        | "InternalServerError"
        | "ServiceUnavailableError" => true,
        _ => false,
    }
}

//! What a client of the target would meet: it decides what a failover time means.

use serde::Serialize;

/// How a connection to a target failed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Symptom {
    /// No answer within the hang limit: a client waits out its own time limit.
    Silent,
    /// Refused at once: a client fails over in milliseconds.
    Refused,
    /// Reset, in the middle of a connection or while it was made.
    Reset,
    /// Ended in good order by the other side.
    Closed,
    /// The system says at once that there is no way there.
    Unreachable,
    /// Its name has no address.
    Unresolved,
    /// Something answered whose certificate does not hold: not the target, or no authorities to check it by.
    Untrusted(String),
    /// Something answered that does not speak HTTP.
    NotHttp,
    /// The prober's own means gave out (files, ports, memory): it says nothing of the target.
    Ours(String),
    /// Anything else, by its name.
    Other(String),
}

impl Symptom {
    /// From the script's name of an error: `silent`, `closed`, a name of `errno`, or `EAI_...`.
    #[must_use]
    pub fn of(error: &str) -> Self {
        match error {
            "silent" | "ETIMEDOUT" => Self::Silent,
            "ECONNREFUSED" => Self::Refused,
            "ECONNRESET" | "ECONNABORTED" | "EPIPE" => Self::Reset,
            "closed" => Self::Closed,
            // A packet filter's verdict on what the pod itself sends comes as EPERM, a blackhole route's as EINVAL.
            "EHOSTUNREACH" | "ENETUNREACH" | "EHOSTDOWN" | "ENETDOWN" | "EPERM" | "EACCES" | "EINVAL" => {
                Self::Unreachable
            }
            // Without IPv6 an address of that family is one that cannot be had.
            "EMFILE" | "ENFILE" | "ENOBUFS" | "ENOMEM" | "EAGAIN" | "EADDRNOTAVAIL" | "EAFNOSUPPORT" => {
                Self::Ours(error.to_owned())
            }
            "no-http" => Self::NotHttp,
            _ if error.starts_with("EAI_") => Self::Unresolved,
            _ => match error.strip_prefix("tls: ") {
                Some(why) => Self::Untrusted(why.to_owned()),
                None => Self::Other(error.to_owned()),
            },
        }
    }

    /// One word for the report.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            Self::Silent => "silent",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::Unreachable => "unreachable",
            Self::Unresolved => "unresolved",
            Self::Untrusted(_) => "untrusted",
            Self::NotHttp => "not HTTP",
            Self::Ours(_) => "not looked at",
            Self::Other(name) => name,
        }
    }

    /// Of several addresses that all failed, the one that a client suffers most from: it tries them in turn, and
    /// waits longest for the silent one.
    #[must_use]
    pub fn worst(symptoms: impl IntoIterator<Item = Self>) -> Option<Self> {
        let rank = |symptom: &Self| match symptom {
            Self::Silent => 0,
            Self::Refused => 1,
            Self::Reset => 2,
            Self::Other(_) | Self::Untrusted(_) | Self::NotHttp | Self::Closed => 3,
            Self::Unresolved => 4,
            // Most hosts have an address of a family that the pod has not, in good times, too.
            Self::Unreachable => 5,
            Self::Ours(_) => 6,
        };
        symptoms.into_iter().min_by_key(rank)
    }
}

#[cfg(test)]
mod tests {
    use super::Symptom;

    #[test]
    fn errors_have_one_symptom_each() {
        for (error, word) in [
            ("silent", "silent"),
            ("ETIMEDOUT", "silent"),
            ("ECONNREFUSED", "refused"),
            ("ECONNRESET", "reset"),
            ("closed", "closed"),
            ("ENETUNREACH", "unreachable"),
            ("EPERM", "unreachable"),
            ("EAI_NONAME", "unresolved"),
            ("EAI_AGAIN", "unresolved"),
            ("EMFILE", "not looked at"),
            ("tls: certificate has expired", "untrusted"),
            ("EPROTO", "EPROTO"),
        ] {
            assert_eq!(Symptom::of(error).word(), word, "{error}");
        }
    }

    #[test]
    fn what_a_client_waits_for_longest_is_named() {
        let of = |names: &[&str]| Symptom::worst(names.iter().map(|name| Symptom::of(name)));
        assert_eq!(of(&["ENETUNREACH", "ECONNREFUSED"]), Some(Symptom::Refused));
        assert_eq!(of(&["ECONNREFUSED", "silent"]), Some(Symptom::Silent));
        assert_eq!(of(&["EADDRNOTAVAIL", "ENETUNREACH"]), Some(Symptom::Unreachable));
        assert_eq!(of(&[]), None);
    }
}

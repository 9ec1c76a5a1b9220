//! What is looked at.

use serde::Serialize;
use thiserror::Error;

use crate::environment::ObjectName;

/// One thing to connect to from inside the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Component that it stands for; unique among the targets of a prober.
    #[serde(skip)]
    pub component: String,
    /// Name or address, resolved inside the pod.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether its held connection speaks TLS, with the name checked.
    pub tls: bool,
    /// What the held connection asks for by HEAD; it must cost nothing.
    pub path: String,
    /// Its name may go with what is behind it, as that of a Service without an address of its own does when it is scaled
    /// to 0. Of all others a name without an address says nothing.
    #[serde(skip)]
    pub name_may_go: bool,
}

/// Why a URL cannot be looked at.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BadUrl {
    /// It is none.
    #[error("`{0}` is no URL")]
    NotAUrl(String),
    /// Neither `http` nor `https`.
    #[error("`{0}` is neither http nor https")]
    Scheme(String),
    /// Without a host, or one that no header may hold.
    #[error("`{0}` names no host")]
    Host(String),
}

impl Target {
    /// An endpoint outside the cluster, by its URL. Its path is not asked for: `/` costs nothing anywhere.
    ///
    /// # Errors
    /// When it is no URL of http or https.
    pub fn endpoint(component: &str, url: &str) -> Result<Self, BadUrl> {
        let parsed = reqwest::Url::parse(url).map_err(|_| BadUrl::NotAUrl(url.to_owned()))?;
        let tls = match parsed.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(BadUrl::Scheme(url.to_owned())),
        };
        let host = parsed.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| BadUrl::Host(url.to_owned()))?.trim_matches(['[', ']']).to_owned();
        let port = parsed.port_or_known_default().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self {
            component: component.to_owned(),
            host,
            port,
            tls,
            path: "/".to_owned(),
            name_may_go: false,
        })
    }

    /// A Service of the cluster, by the name that every pod can resolve.
    #[must_use]
    pub fn service(component: &str, service: &ObjectName, port: u16) -> Self {
        let host = format!("{}.{}.svc", service.name, service.namespace);
        Self {
            component: component.to_owned(),
            host,
            port,
            tls: false,
            path: "/".to_owned(),
            name_may_go: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BadUrl, Target};
    use crate::environment::ObjectName;

    #[test]
    fn urls_and_services_become_hosts_and_ports() {
        let of = |url| Target::endpoint("cloud", url).map(|target| (target.host, target.port, target.tls));
        assert_eq!(of("https://ollama.com"), Ok(("ollama.com".to_owned(), 443, true)));
        assert_eq!(of("http://ollama.com:8080/v1"), Ok(("ollama.com".to_owned(), 8080, false)));
        assert_eq!(of("http://[::1]/"), Ok(("::1".to_owned(), 80, false)));
        assert_eq!(of("ftp://x"), Err(BadUrl::Scheme("ftp://x".to_owned())));
        assert!(of("ollama.com").is_err());
        let service = Target::service("vllm", &ObjectName::new("ml", "vllm"), 8000);
        assert_eq!((service.host.as_str(), service.port), ("vllm.ml.svc", 8000));
    }
}

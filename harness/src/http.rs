//! The one place that sets up HTTP clients: whatever a library could do behind our back (retries,
//! redirects) would falsify a measurement, so it is off everywhere.

use std::sync::Once;

/// Chooses the implementation of TLS for the whole process.
pub(crate) fn install_tls() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error means that somebody has installed one already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// A client builder with no retry, no redirect and no referer; TLS by rustls with ring.
pub(crate) fn client() -> reqwest::ClientBuilder {
    install_tls();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .tcp_nodelay(true)
}

/// The same for an address on this machine: no proxy either, whatever the surroundings say.
pub(crate) fn loopback_client() -> reqwest::ClientBuilder {
    client().no_proxy()
}

/// A client for a gateway that may be here or elsewhere.
pub(crate) fn client_for(url: &str) -> reqwest::ClientBuilder {
    if is_loopback(url) { loopback_client() } else { client() }
}

fn is_loopback(url: &str) -> bool {
    reqwest::Url::parse(url).ok().is_some_and(|url| match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_this_machine_is_loopback() {
        for url in ["http://127.0.0.1:4000", "http://127.9.9.9", "http://[::1]:1/v1", "http://localhost:80"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in ["http://10.0.0.1", "https://ollama.com", "http://localhost.example", "nonsense", ""] {
            assert!(!is_loopback(url), "{url}");
        }
    }
}

//! Where every HTTP client of the harness begins.

use std::sync::Once;

/// A client builder that can be built: the client asks for a TLS provider even where every address is
/// plain HTTP, and panics where none is installed.
pub(crate) fn client_builder() -> reqwest::ClientBuilder {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error means that one is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder()
}

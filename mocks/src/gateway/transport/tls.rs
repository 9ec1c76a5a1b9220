//! TLS to `https` upstreams, by rustls with the roots that the system trusts.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Makes connections secure; its roots are read when the first one is made.
#[derive(Debug, Clone, Default)]
pub(super) struct Tls {
    config: Arc<OnceLock<Option<Arc<ClientConfig>>>>,
}

/// Why there is no secure connection.
#[derive(Debug)]
pub(super) enum TlsError {
    /// The certificate is not to be trusted.
    Certificate(String),
    /// Anything else.
    Other(String),
}

impl Tls {
    pub(super) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, TlsError> {
        let config = self.config.get_or_init(|| client_config(system_roots()));
        let config = config.clone().ok_or_else(|| TlsError::Other("no usable protocol version".into()))?;
        let name =
            ServerName::try_from(host.to_owned()).map_err(|error| TlsError::Other(error.to_string()))?;
        TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match inner {
                Some(rustls::Error::InvalidCertificate(reason)) => TlsError::Certificate(reason.to_string()),
                _ => TlsError::Other(error.to_string()),
            }
        })
    }
}

/// A root that cannot be read is one that nothing can be trusted by.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn client_config(roots: RootCertStore) -> Option<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    Some(Arc::new(versions.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    const CERTIFICATE: &str = include_str!("../../../tests/data/loopback-cert.pem");
    const KEY: &str = include_str!("../../../tests/data/loopback-key.pem");

    fn certificate() -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap()
    }

    /// One connection to a server with that certificate, by a client that trusts `roots`.
    async fn byte_over_tls(roots: RootCertStore, host: &str) -> Result<u8, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await {
                stream.write_all(b"x").await.unwrap();
                stream.shutdown().await.unwrap();
            }
        };
        let tls = Tls::default();
        tls.config.set(client_config(roots)).unwrap();
        let client = async {
            let stream = TcpStream::connect(address).await.unwrap();
            let mut stream = tls.connect(host, stream).await?;
            Ok(stream.read_u8().await.unwrap())
        };
        tokio::join!(server, client).1
    }

    #[tokio::test]
    async fn a_trusted_certificate_secures_and_any_other_is_named() {
        let mut roots = RootCertStore::empty();
        roots.add(certificate()).unwrap();
        assert!(matches!(byte_over_tls(roots.clone(), "127.0.0.1").await, Ok(b'x')));
        assert!(matches!(byte_over_tls(roots.clone(), "localhost").await, Ok(b'x')));
        assert!(matches!(byte_over_tls(roots, "other.example").await, Err(TlsError::Certificate(_))));
        let nobody = RootCertStore::empty();
        assert!(matches!(byte_over_tls(nobody, "localhost").await, Err(TlsError::Certificate(_))));
    }
}

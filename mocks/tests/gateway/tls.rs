//! Upstreams at `https` addresses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::wire::{Seen, World};

/// A world whose `cloud-kimi` and `vllm-qwen` are at `https://127.0.0.1:PORT`.
async fn world_at(port: u16) -> World {
    World::changed(json!({ "fallbacks": [] }), |config| {
        for index in [0, 2] {
            let params = &mut config["model_list"][index]["litellm_params"];
            params["api_base"] = format!("https://127.0.0.1:{port}").into();
            params["timeout"] = 0.3.into();
        }
    })
    .await
}

fn message(seen: &Seen) -> String {
    seen.json()["error"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_bad_certificate_is_an_error_at_once_after_one_connect() {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("../data/loopback-cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../data/loopback-key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = world_at(listener.local_addr().unwrap().port()).await;
    for (group, class) in [("cloud-kimi", "APIConnectionError"), ("vllm-qwen", "InternalServerError")] {
        let begun = Instant::now();
        let refuse = async {
            let (stream, _) = listener.accept().await.unwrap();
            let outcome = TlsAcceptor::from(Arc::new(config.clone())).accept(stream).await;
            assert!(outcome.is_err(), "nobody trusts this certificate");
        };
        let (seen, ()) = tokio::join!(world.chat(group, false), refuse);
        assert_eq!(seen.status, 500);
        let message = message(&seen);
        assert!(message.starts_with(&format!("litellm.{class}: ")), "{message}");
        assert!(message.contains("CERTIFICATE_VERIFY_FAILED"), "{message}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn a_handshake_that_is_never_answered_ends_at_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = world_at(listener.local_addr().unwrap().port()).await;
    for group in ["cloud-kimi", "vllm-qwen"] {
        let begun = Instant::now();
        assert_eq!(world.chat(group, false).await.status, 408);
        assert!(begun.elapsed() >= Duration::from_millis(300));
    }
}

#[tokio::test]
async fn an_upstream_without_tls_is_an_error_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = world_at(listener.local_addr().unwrap().port()).await;
    let plain = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        // Until the other side has had enough.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let (seen, ()) = tokio::join!(world.chat("cloud-kimi", false), plain);
    assert_eq!(seen.status, 500);
    assert!(message(&seen).contains("WRONG_VERSION_NUMBER"), "{}", message(&seen));
}

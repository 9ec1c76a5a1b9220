//! What goes into a running container and out of it: the API server hands such requests on.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use serde_json::Value;

/// The connection is cut here on purpose, in the middle of an answer.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the connection is cut")]
pub struct Cut;

/// The body of an answer of the API server. An error cuts the connection.
pub type Body = UnsyncBoxBody<Bytes, Cut>;

/// A request for a pod that exists, from somebody who may make it.
#[derive(Debug)]
pub struct PodRequest {
    /// The pod as it was when the request was let through.
    pub pod: Arc<Value>,
    /// The query's pairs, decoded, in their order.
    pub query: Vec<(String, String)>,
    /// The request, with everything in it that an upgrade needs.
    pub request: Request<Incoming>,
}

/// Whoever runs the containers. The answers' futures may be dropped at any time; what was spawned ends with the
/// implementation's own shutdown.
pub trait PodIo: Send + Sync + 'static {
    /// `exec`: runs a command in a container, over a websocket.
    fn exec(&self, request: PodRequest) -> BoxFuture<'static, Response<Body>>;

    /// `portforward`: connections into the pod, over a websocket.
    fn port_forward(&self, request: PodRequest) -> BoxFuture<'static, Response<Body>>;

    /// `log`: what a container wrote.
    fn log(&self, request: PodRequest) -> BoxFuture<'static, Response<Body>>;
}

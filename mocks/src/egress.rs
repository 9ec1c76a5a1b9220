//! A fault gate as a program of its own: it stands between a gateway and an endpoint for good, and a run tells it over
//! HTTP when to cut that way.
//!
//! | request | body | answer |
//! | --- | --- | --- |
//! | `GET /fault` | | [`Standing`](crate::fault::Standing) of its [`GateMode`] |
//! | `PUT /fault` | [`Order`](crate::fault::Order) | 204 once the fault is in effect |
//! | `DELETE /fault?run=ID` | | [`Ended`](crate::fault::Ended) once it has ended |
//!
//! A gate begins passing. Every fault ends by itself when its time is over, and one of another run is not touched (409).
//! Bytes are passed on as they are, so TLS goes through from end to end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;

use crate::control::{Refusal, fault};
use crate::fault::{FaultError, Faults, Switch};
use crate::gate::{Gate, GateMode};
use crate::serve::{Answer, Body, Server};

/// What an [`EgressGate`] is made of.
#[derive(Debug, Clone)]
pub struct EgressOptions {
    /// Where the gateway connects; a free port where it is 0.
    pub listen: SocketAddr,
    /// Where that leads, as `host:port`; looked up anew for each connection.
    pub to: String,
    /// Where runs ask; a free port where it is 0. Whoever reaches it can cut the way.
    pub control: SocketAddr,
    /// The longest time that a fault may be asked for.
    pub max_hold: Duration,
}

/// A running gate with its control.
#[derive(Debug)]
pub struct EgressGate {
    gate: Arc<Gate>,
    server: Server,
}

impl EgressGate {
    /// Starts passing.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says when an address cannot be bound or listened on.
    pub async fn start(options: EgressOptions) -> io::Result<Self> {
        let gate = Arc::new(Gate::listen(options.listen, &options.to).await?);
        let faults = Faults::new(Only(Arc::clone(&gate)), options.max_hold);
        let server = Server::at(options.control, Arc::new(Api { faults })).await?;
        Ok(Self { gate, server })
    }

    /// Where the gateway connects.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.gate.address()
    }

    /// Where runs ask.
    #[must_use]
    pub fn control(&self) -> SocketAddr {
        self.server.address()
    }

    /// Resets every connection, gives up both ports and waits for the last task.
    pub async fn shutdown(&self) {
        self.server.shutdown().await;
        self.gate.shutdown().await;
    }
}

#[derive(Debug)]
struct Only(Arc<Gate>);

impl Switch for Only {
    type Setting = GateMode;

    fn setting(&self) -> GateMode {
        self.0.mode()
    }

    async fn set(&self, setting: GateMode) -> Result<(), FaultError> {
        self.0.set(setting).await.map_err(|error| FaultError::Failed(format!("it cannot be set: {error}")))
    }
}

struct Api {
    faults: Arc<Faults<Only>>,
}

impl Answer for Api {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let answer = match head.uri.path() {
            "/fault" => fault(&self.faults, &head.method, head.uri.query(), body).await,
            _ => Err(Refusal::path()),
        };
        answer.unwrap_or_else(Refusal::response)
    }
}

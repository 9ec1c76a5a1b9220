//! A fault gate that is told over HTTP what to do: the one that a gateway's way to an endpoint leads through
//! (`egress-proxy`), and those before the components of the embedded world.
//!
//! Every fault carries the run and an end, and the gate ends it by itself then, whatever becomes of this program. A gate
//! that starts anew passes.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use mocks::fault::{Ended, Order, Standing};
use mocks::gate::GateMode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::cluster::access::{Access, CALL_LIMIT, CallError, Failure, Target, Verb, found, shown};
use crate::cluster::mutation::{Applied, Kubectl, MutationError, ReadBack, Undone};
use crate::cluster::refusals;
use crate::environment::{ObjectName, quoted};

/// No answer of a gate is longer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A gate that is set to something for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// What it stands before, for people: a component.
    pub before: String,
    /// Where it is told.
    pub at: ControlAt,
    /// What is asked for there.
    pub path: String,
    /// The run that does it.
    pub run: String,
    /// After how many seconds the gate ends it.
    pub seconds: u64,
    /// What it is set to.
    pub to: Setting,
}

/// Where a gate is told what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlAt {
    /// On this machine.
    Here(SocketAddr),
    /// In a pod, by a port-forward.
    Pod {
        /// Which.
        pod: ObjectName,
        /// Its uid: another one of the same name is another gate.
        uid: String,
        /// The port of the control.
        port: u16,
    },
}

/// What can be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    /// What becomes of connections.
    Mode(GateMode),
    /// Which models are not found; the gate of the embedded world is in the component itself.
    Gone(Vec<String>),
}

impl Setting {
    /// As it is without any fault.
    fn is_default(&self) -> bool {
        match self {
            Self::Mode(mode) => *mode == GateMode::default(),
            Self::Gone(models) => models.is_empty(),
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Mode(GateMode::Pass) => "passing".to_owned(),
            Self::Mode(mode) => {
                let word = serde_json::to_value(mode).unwrap_or_default();
                format!("set to {}", word.as_str().unwrap_or_default())
            }
            Self::Gone(models) if models.is_empty() => "with all its models".to_owned(),
            Self::Gone(models) => format!("without {}", models.join(", ")),
        }
    }
}

/// How a gate stands, as people are told.
fn words(standing: &Standing<Setting>) -> String {
    let whose = match &standing.run {
        Some(run) => format!(" by run {}", shown(run)),
        None if standing.now.is_default() => String::new(),
        None => " by nobody's run".to_owned(),
    };
    format!("it is {}{whose}", shown(&standing.now.words()))
}

impl Gate {
    pub(in crate::cluster) fn object(&self) -> String {
        match &self.at {
            ControlAt::Here(_) => format!("gate before {}", self.before),
            ControlAt::Pod { pod, .. } => format!("gate in pod {pod} before {}", self.before),
        }
    }

    pub(in crate::cluster) fn words(&self) -> String {
        let wish = match &self.to {
            Setting::Mode(GateMode::Blackhole) => "let no byte through, without a word".to_owned(),
            Setting::Mode(GateMode::Refuse) => "refuse and reset all connections".to_owned(),
            Setting::Mode(GateMode::Stall) => "accept connections and answer none".to_owned(),
            other => format!("be {}", other.words()),
        };
        format!("let the {} {wish}, for {} s at most", self.object(), self.seconds)
    }

    pub(in crate::cluster) fn undo_words(&self) -> String {
        match self.to {
            Setting::Mode(_) => format!("let the {} pass", self.object()),
            Setting::Gone(_) => format!("let {} know its models again", self.before),
        }
    }

    pub(in crate::cluster) fn undo_command(&self, kubectl: &Kubectl) -> String {
        let end = |address: &str| {
            format!(
                "curl -fsS -X DELETE {}",
                quoted(&format!("http://{address}{}?run={}", self.path, self.run))
            )
        };
        match &self.at {
            ControlAt::Here(address) => end(&address.to_string()),
            ControlAt::Pod { pod, port, .. } => {
                let forward =
                    kubectl.line(&pod.namespace, format!("port-forward pod/{} {port}:{port}", pod.name));
                format!("{forward} & sleep 2; {}; kill $!", end(&format!("127.0.0.1:{port}")))
            }
        }
    }

    pub(in crate::cluster) async fn apply(&self, access: Option<&Access>) -> Result<Applied, MutationError> {
        let changed = |saw: String| MutationError::Changed {
            object: self.object(),
            expected: "no fault".to_owned(),
            saw,
        };
        if !self.is_there(access).await? {
            return Err(changed("that its pod is gone or ends".to_owned()));
        }
        let before = self.standing(access).await?;
        if !before.now.is_default() && !self.is_ours(&before) {
            return Err(changed(words(&before)));
        }
        let order = Order { run: self.run.clone(), seconds: self.seconds, to: self.to.clone() };
        let body = serde_json::to_vec(&order).map_err(|error| self.unreadable(&error))?;
        match self.ask(access, Method::PUT, "", body).await {
            Ok(_) => {}
            Err(error) if error.is_conflict() => return Err(changed(error.failure.to_string())),
            // Whether it was done, the gate knows.
            Err(error) if error.is_outcome_unknown() => {
                let after = self.standing(access).await;
                let after =
                    after.map_err(|error| MutationError::from(error).after_a_write_to(self.object()))?;
                if !self.is_ours(&after) {
                    return Err(error.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
        let uid = match &self.at {
            ControlAt::Here(_) => String::new(),
            ControlAt::Pod { uid, .. } => uid.clone(),
        };
        Ok(Applied { uid, resource_version: String::new() })
    }

    pub(in crate::cluster) async fn undo(&self, access: Option<&Access>) -> Result<Undone, CallError> {
        // A fault goes with its gate.
        if !self.is_there(access).await? {
            return Ok(Undone::Before);
        }
        let answer = self.ask(access, Method::DELETE, &format!("?run={}", self.run), Vec::new()).await;
        match answer.and_then(|answer| self.read::<Ended>(&answer)) {
            Ok(Ended::Now) => Ok(Undone::Now),
            Ok(Ended::Before) => Ok(Undone::Before),
            // The API between may have said so as well.
            Err(error) if error.is_conflict() => {
                let standing = self.standing(access).await?;
                if self.is_ours(&standing) {
                    return Err(error);
                }
                if standing.now.is_default() {
                    return Ok(Undone::Before);
                }
                Ok(Undone::LeftAlone { saw: words(&standing) })
            }
            Err(error) => Err(error),
        }
    }

    pub(in crate::cluster) async fn read_back(&self, access: Option<&Access>) -> Result<ReadBack, CallError> {
        if !self.is_there(access).await? {
            return Ok(ReadBack::Undone);
        }
        let standing = self.standing(access).await?;
        Ok(if self.is_ours(&standing) && standing.now == self.to {
            ReadBack::Done
        } else if standing.now.is_default() {
            ReadBack::Undone
        } else {
            ReadBack::Other { saw: words(&standing) }
        })
    }

    /// How the gate stands.
    ///
    /// # Errors
    /// Where it does not say.
    pub(super) async fn standing(&self, access: Option<&Access>) -> Result<Standing<Setting>, CallError> {
        let answer = self.ask(access, Method::GET, "", Vec::new()).await?;
        self.read(&answer)
    }

    fn is_ours(&self, standing: &Standing<Setting>) -> bool {
        standing.run.as_deref() == Some(&self.run)
    }

    /// What keeps a fault from being made, as far as the gate tells.
    pub(super) fn flaw(&self, standing: &Standing<Setting>) -> Option<String> {
        if !standing.now.is_default() {
            Some(words(standing))
        } else if standing.max_hold_s < self.seconds {
            Some(format!(
                "it holds a fault for {} s at most, and this run may need {} s",
                standing.max_hold_s, self.seconds
            ))
        } else {
            None
        }
    }

    /// Whether it is still the same gate.
    async fn is_there(&self, access: Option<&Access>) -> Result<bool, CallError> {
        let ControlAt::Pod { pod, uid, .. } = &self.at else { return Ok(true) };
        let found = found(self.access(access)?.get::<Pod>(pod).await)?;
        Ok(found.is_some_and(|pod| {
            pod.metadata.uid.as_deref() == Some(uid) && !refusals::is_over(&pod) && !refusals::is_ending(&pod)
        }))
    }

    fn access<'a>(&self, access: Option<&'a Access>) -> Result<&'a Access, CallError> {
        access.ok_or_else(|| self.failed(Verb::Get, Failure::NoCluster))
    }

    fn failed(&self, verb: Verb, failure: Failure) -> CallError {
        let target = match &self.at {
            ControlAt::Here(_) => Target::outside(self.object()),
            ControlAt::Pod { pod, .. } => Target::new("pods/portforward", pod),
        };
        CallError { verb, target, failure }
    }

    fn unreadable(&self, error: &serde_json::Error) -> CallError {
        let (line, column) = (error.line(), error.column());
        self.failed(Verb::Get, Failure::Unreadable(format!("line {line}, column {column}")))
    }

    fn read<T: DeserializeOwned>(&self, answer: &Bytes) -> Result<T, CallError> {
        serde_json::from_slice(answer).map_err(|error| self.unreadable(&error))
    }

    /// One request on a connection of its own.
    async fn ask(
        &self,
        access: Option<&Access>,
        method: Method,
        query: &str,
        body: Vec<u8>,
    ) -> Result<Bytes, CallError> {
        let verb = match method {
            Method::GET => Verb::Get,
            Method::PUT => Verb::Update,
            _ => Verb::Delete,
        };
        let mut limit = access.map_or(CALL_LIMIT, Access::limit);
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{query}", self.path))
            .header(http::header::HOST, "gate")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.failed(verb, Failure::Unreadable(error.to_string())))?;
        let exchanged = match &self.at {
            ControlAt::Here(address) => {
                let asked = async { exchange(TcpStream::connect(address).await?, request).await };
                tokio::time::timeout(limit, asked).await
            }
            ControlAt::Pod { pod, port, .. } => {
                let access = self.access(access)?;
                let api = access.streaming::<Pod>(&pod.namespace);
                let opened = api.portforward(&pod.name, std::slice::from_ref(port));
                let target = Target::new("pods/portforward", pod);
                // Whoever only asks how it stands changes nothing, and may do so without the lock.
                let opening = if verb == Verb::Get { Verb::Get } else { Verb::Create };
                let mut forwarder = access.bounded(opening, target.clone(), opened).await?;
                // Opening took its time: whether it may be sent is asked anew.
                limit = match access.time_for(opening, &target).await {
                    Ok(limit) => limit,
                    Err(no) => {
                        forwarder.abort();
                        return Err(no);
                    }
                };
                let asked = async {
                    let stream = forwarder.take_stream(*port).ok_or("there is no stream")?;
                    exchange(stream, request).await
                };
                let exchanged = tokio::time::timeout(limit, asked).await;
                forwarder.abort();
                exchanged
            }
        };
        let (status, answer) = match exchanged {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(self.failed(verb, Failure::Transport(shown(&error.to_string())))),
            Err(_) => return Err(self.failed(verb, Failure::TimedOut(limit))),
        };
        if status.is_success() {
            return Ok(answer);
        }
        let error = serde_json::from_slice::<serde_json::Value>(&answer).unwrap_or_default();
        Err(self.failed(
            verb,
            Failure::Status {
                status: status.as_u16(),
                reason: status.canonical_reason().unwrap_or_default().to_owned(),
                message: shown(error["error"].as_str().unwrap_or_default()),
            },
        ))
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request and the whole answer over a connection, which ends with it.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), BoxError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let asked = async move {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await?;
        Ok((status, body.to_bytes()))
    };
    // The connection ends once its sender is gone, or before that with an error which the sender hears of.
    let (answer, _ended) = tokio::join!(asked, connection);
    answer
}

/// A gate's fault is given to it in whole seconds.
pub(super) fn seconds(deadline: Duration) -> u64 {
    deadline.as_secs().max(1)
}

#[cfg(test)]
mod tests {
    use super::{ControlAt, Gate, Setting};
    use crate::cluster::mutation::{Kubectl, Mutation};
    use crate::environment::ObjectName;
    use mocks::gate::GateMode;

    fn gate(at: ControlAt) -> Gate {
        Gate {
            before: "cloud".into(),
            at,
            path: "/fault".into(),
            run: "20261123T004551Z-0a1b2c".into(),
            seconds: 900,
            to: Setting::Mode(GateMode::Blackhole),
        }
    }

    fn in_pod() -> Gate {
        let pod = ObjectName::new("ml", "egress-gate-1");
        gate(ControlAt::Pod { pod, uid: "u1".into(), port: 9099 })
    }

    #[test]
    fn a_person_can_undo_it_by_hand() {
        assert_eq!(
            in_pod().undo_command(&Kubectl::new(Some("home"))),
            "kubectl --context home -n ml port-forward pod/egress-gate-1 9099:9099 & sleep 2; curl -fsS -X DELETE \
             'http://127.0.0.1:9099/fault?run=20261123T004551Z-0a1b2c'; kill $!"
        );
        let here = gate(ControlAt::Here("127.0.0.1:4".parse().unwrap()));
        assert_eq!(
            here.undo_command(&Kubectl::new(None)),
            "curl -fsS -X DELETE 'http://127.0.0.1:4/fault?run=20261123T004551Z-0a1b2c'"
        );
    }

    #[test]
    fn a_gate_reads_back_from_a_journal() {
        let gone = Gate { to: Setting::Gone(vec!["kimi".into()]), ..in_pod() };
        for gate in [in_pod(), gone, gate(ControlAt::Here("[::1]:4".parse().unwrap()))] {
            let mutation = Mutation::Gate(Box::new(gate));
            let written = serde_json::to_value(&mutation).unwrap();
            assert_eq!(serde_json::from_value::<Mutation>(written.clone()).unwrap(), mutation, "{written}");
        }
    }
}

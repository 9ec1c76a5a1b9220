//! Traffic of real users on the gateway.
//!
//! A stock LiteLLM prints a line for each request whose answer begins, with the client's address, the path and the
//! status (uvicorn's access line; with `json_logs` the same text inside JSON), so reading its log is enough: no key,
//! no metrics endpoint, no database. Ours are told apart by number: a request is printed once, so more
//! lines than we have sent requests are somebody else's. Where our own address is known, calls from any other are
//! somebody else's, too. Where the log shows no requests at all (the access log is off) and our own address is known,
//! the connections that probers in the gateway's pods count while modes go on are a hint: somebody else is connected.
//!
//! What is said is a lower bound: an address of ours may be shared by others (through a node, or a port-forward).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::AsyncReadExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::access::{Access, Target, Verb};
use super::gateway::{EMPTY_PATH, Gateway};
use super::prober::Inbound;
use crate::attribution::gateway_log;
use crate::attribution::ollama_log;
use crate::attribution::uvicorn_log::AccessLine;
use crate::environment::ObjectName;

/// How long the gateway's log is read before anything is changed, to see whether somebody uses it.
pub const SEEN_IN: Duration = Duration::from_secs(10);
/// What to do where others use it. A gateway goes on answering what a run that has ended asked for.
pub const IN_USE_HINT: &str = "run when nobody needs it, or let `users: { postpone: 30m }` wait for that; right after \
     another run it may still be answering what that asked for, and some seconds are enough";
/// What was printed just before that is read, too.
const SEEN_BEFORE: Duration = Duration::from_secs(1);
/// Longer lines are cut: an access line is short, and stands at the beginning of its line.
const LINE_BYTES_MAX: usize = 4096;
/// Clients that are told apart.
const CLIENTS_MAX: usize = 256;
/// Models that are told apart.
const MODELS_MAX: usize = 64;
/// Our own requests that must have been answered before their absence from the log means something.
const ANSWERED_MIN: u64 = 5;
/// Before a log that ended is opened again.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// Why a log cannot be read that has not been answered yet.
const NOT_YET: &str = "it has not been opened yet";

/// What the log showed since it was begun to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests of any kind, also those of the kubelet.
    pub requests: u64,
    /// Requests that made a model work.
    pub calls: u64,
    /// Of those, answered with 200.
    pub answered: u64,
    /// Of those, by client; beyond 256 clients they are only in `calls`.
    pub by_client: BTreeMap<IpAddr, u64>,
    /// The calls by the pod that answered them.
    pub by_pod: BTreeMap<ObjectName, u64>,
    /// Attempts that were answered, by model, where the log tells those.
    pub answers: BTreeMap<String, u64>,
    /// Why a log cannot be read, by pod.
    pub unread: BTreeMap<ObjectName, String>,
    /// How often a log that was followed ended, by pod.
    pub ended: BTreeMap<ObjectName, u64>,
    /// When the last line of a pod was written, by its node's clock, where that is asked for.
    pub newest: BTreeMap<ObjectName, Timestamp>,
}

impl Tally {
    /// Take in a line of a pod.
    pub fn take(&mut self, pod: &ObjectName, line: &str) {
        if let Some(model) = gateway_log::answered(line)
            && (self.answers.len() < MODELS_MAX || self.answers.contains_key(model))
        {
            *self.answers.entry(model.to_owned()).or_default() += 1;
        }
        let Some(line) = AccessLine::parse(line).or_else(|| ollama_log::read(line)) else { return };
        self.requests += 1;
        if line.calls_a_model {
            self.calls += 1;
            self.answered += u64::from(line.status == 200);
            *self.by_pod.entry(pod.clone()).or_default() += 1;
            if let Some(client) = line.client
                && (self.by_client.len() < CLIENTS_MAX || self.by_client.contains_key(&client))
            {
                *self.by_client.entry(client).or_default() += 1;
            }
        }
    }

    /// Take in a line that has the time before it at which it was written.
    pub fn take_stamped(&mut self, pod: &ObjectName, line: &str) {
        let (stamp, line) = line.split_once(' ').unwrap_or((line, ""));
        if let Ok(at) = stamp.parse::<Timestamp>() {
            let newest = self.newest.entry(pod.clone()).or_insert(at);
            *newest = at.max(*newest);
        }
        self.take(pod, line);
    }

    /// What was added since an earlier one; what cannot be read, and the newest lines, are as they are now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        fn added<K: Ord + Clone>(now: &BTreeMap<K, u64>, before: &BTreeMap<K, u64>) -> BTreeMap<K, u64> {
            let added = now.iter().map(|(key, count)| {
                (key.clone(), count.saturating_sub(before.get(key).copied().unwrap_or_default()))
            });
            added.filter(|(_, count)| *count > 0).collect()
        }
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            calls: self.calls.saturating_sub(earlier.calls),
            answered: self.answered.saturating_sub(earlier.answered),
            by_client: added(&self.by_client, &earlier.by_client),
            by_pod: added(&self.by_pod, &earlier.by_pod),
            answers: added(&self.answers, &earlier.answers),
            unread: self.unread.clone(),
            ended: added(&self.ended, &earlier.ended),
            newest: self.newest.clone(),
        }
    }
}

/// What we did ourselves since then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ours {
    /// Model calls sent through the gateway.
    pub sent: u64,
    /// Of those, so many were answered some seconds ago, so that the log had to show them.
    pub answered: u64,
    /// The addresses that the gateway sees us by; empty where that is not known. One of the pod itself stands for
    /// all of those.
    pub addresses: BTreeSet<IpAddr>,
}

impl Ours {
    /// Whether a call from there may be ours.
    fn may_be_from(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        let is_inside = || client.is_loopback() && self.addresses.iter().any(IpAddr::is_loopback);
        self.addresses.is_empty() || self.addresses.contains(&client) || is_inside()
    }
}

/// Whether others use the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Others {
    /// The log shows requests, and none of others.
    None,
    /// At least so many calls were not ours.
    Calls {
        /// At least so many.
        count: u64,
        /// From where, where the address alone tells.
        from: Vec<(IpAddr, u64)>,
    },
    /// The log shows nothing, but others were connected: perhaps idly, or as a kubelet that probes it.
    Connected(Vec<String>),
    /// It cannot be told.
    Unknown(String),
}

impl Others {
    /// For the report.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::None => "nobody else used the gateway".to_owned(),
            Self::Calls { count, from } if from.is_empty() => {
                format!("at least {count} model calls of others went through the gateway")
            }
            Self::Calls { count, from } => {
                let from: Vec<_> = from.iter().map(|(client, calls)| format!("{client} ({calls})")).collect();
                format!(
                    "at least {count} model calls of others went through the gateway, from {}",
                    from.join(", ")
                )
            }
            Self::Connected(from) => {
                format!(
                    "the gateway's log shows no requests, but others are connected, perhaps only to see that it lives: {}",
                    from.join(", ")
                )
            }
            Self::Unknown(why) => format!("whether others use the gateway is not known: {why}"),
        }
    }
}

/// Decide, from what the log showed and what we did meanwhile; `inbound` are connections to the gateway as probers in
/// its pods count them, where there are any.
#[must_use]
pub fn judge(tally: &Tally, ours: &Ours, inbound: Option<&Inbound>) -> Others {
    let mut from: Vec<_> = tally.by_client.iter().map(|(client, calls)| (*client, *calls)).collect();
    from.retain(|(client, _)| !ours.may_be_from(*client));
    from.sort_by_key(|(client, calls)| (std::cmp::Reverse(*calls), *client));
    let foreign = from.iter().fold(0_u64, |sum, (_, calls)| sum.saturating_add(*calls));
    // Of the rest, we sent no more than we sent.
    let surplus = tally.calls.saturating_sub(foreign).saturating_sub(ours.sent);
    let count = foreign.saturating_add(surplus);
    if count > 0 {
        return Others::Calls { count, from };
    }
    if let Some((pod, why)) = tally.unread.first_key_value() {
        return connected(ours, inbound, format!("the log of {pod} cannot be read ({why})"));
    }
    if tally.requests == 0 || (tally.calls == 0 && ours.answered >= ANSWERED_MIN) {
        return connected(ours, inbound, "the gateway's log shows no requests".to_owned());
    }
    Others::None
}

fn connected(ours: &Ours, inbound: Option<&Inbound>, why: String) -> Others {
    let is_ours = |client: &str| client.parse().is_ok_and(|client| ours.may_be_from(client));
    match inbound {
        Some(inbound) if !ours.addresses.is_empty() => {
            let others: Vec<_> = inbound.from.keys().filter(|client| !is_ours(client)).cloned().collect();
            if others.is_empty() { Others::Unknown(why) } else { Others::Connected(others) }
        }
        _ => Others::Unknown(why),
    }
}

/// Reads the gateway's logs for a while, in which we ask no model, but once for a page: where requests are printed, that
/// one is.
pub async fn look(access: &Access, gateway: &Gateway, seen_in: Duration) -> Others {
    let reader = LogReader::start(access, &gateway.pods, gateway.container.as_deref(), SEEN_BEFORE);
    let end = tokio::time::Instant::now() + seen_in;
    tokio::time::sleep(seen_in / 2).await;
    // A gateway that does not answer now prints nothing, and that is all that has to be known here.
    let _asked = tokio::time::timeout_at(end, gateway.page(EMPTY_PATH)).await;
    tokio::time::sleep_until(end).await;
    let tally = reader.tally();
    reader.stop().await;
    judge(&tally, &Ours::default(), None)
}

/// From when on a log is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// What is printed from now on.
    Now,
    /// What was printed so long ago, too.
    Ago(Duration),
    /// All of it: its pod is new.
    Beginning,
}

/// Reads logs and counts. Dropping it ends it.
#[derive(Default)]
pub struct LogReader {
    tally: Arc<Mutex<Tally>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// One log that is read.
struct OneLog {
    access: Access,
    pod: ObjectName,
    container: Option<String>,
    since: Since,
    /// With the time of each line.
    stamped: bool,
}

impl LogReader {
    /// Follow the logs of these pods, from `since` ago on; where that is zero, only what is printed from now on.
    #[must_use]
    pub fn start(access: &Access, pods: &[ObjectName], container: Option<&str>, since: Duration) -> Self {
        let mut reader = Self::default();
        let since = if since.is_zero() { Since::Now } else { Since::Ago(since) };
        for pod in pods {
            reader.follow(access, pod, container, since, false);
        }
        reader
    }

    /// Follow the log of a pod as well, with the time of each line.
    pub fn follow_stamped(
        &mut self,
        access: &Access,
        pod: &ObjectName,
        container: Option<&str>,
        since: Since,
    ) {
        self.follow(access, pod, container, since, true);
    }

    fn follow(
        &mut self,
        access: &Access,
        pod: &ObjectName,
        container: Option<&str>,
        since: Since,
        stamped: bool,
    ) {
        // A pod is silent only once its log is there.
        lock(&self.tally).unread.insert(pod.clone(), NOT_YET.to_owned());
        let (access, pod, container) = (access.clone(), pod.clone(), container.map(str::to_owned));
        let log = OneLog { access, pod, container, since, stamped };
        let (tally, stop) = (Arc::clone(&self.tally), self.stop.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = log.read(&tally) => {}
            }
        });
    }

    /// What the logs showed so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// End it.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    // Counters, whole after every step.
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OneLog {
    async fn read(self, tally: &Mutex<Tally>) {
        let Self { access, pod, container, since, stamped } = self;
        let mut parameters =
            LogParams { container, follow: true, timestamps: stamped, ..LogParams::default() };
        match since {
            Since::Now => parameters.tail_lines = Some(0),
            Since::Ago(since) => {
                parameters.since_seconds = Some(i64::try_from(since.as_secs()).unwrap_or(i64::MAX).max(1));
            }
            Since::Beginning => {}
        }
        let take = if stamped { Tally::take_stamped } else { Tally::take };
        let api = access.streaming::<Pod>(&pod.namespace);
        loop {
            let opened = api.log_stream(&pod.name, &parameters);
            match access.bounded(Verb::Get, Target::new("pods/log", &pod), opened).await {
                Ok(mut log) => {
                    lock(tally).unread.remove(&pod);
                    let mut lines = TextLines::default();
                    let mut bytes = vec![0; 16 * 1024];
                    while let Ok(count @ 1..) = log.read(&mut bytes).await {
                        let mut tally = lock(tally);
                        lines.feed(&bytes[..count], |line| take(&mut tally, &pod, line));
                    }
                    // A server ends a follow now and then. What was printed meanwhile is not read twice, and so perhaps
                    // not at all; that makes the count smaller, never larger.
                    let mut tally = lock(tally);
                    tally.unread.insert(pod.clone(), "it ended".to_owned());
                    *tally.ended.entry(pod.clone()).or_default() += 1;
                    (parameters.since_seconds, parameters.tail_lines) = (None, Some(0));
                }
                Err(error) => {
                    lock(tally).unread.insert(pod.clone(), error.failure.to_string());
                    if error.is_forbidden() || error.is_not_found() {
                        return;
                    }
                    // What has printed nothing yet is still read from its beginning.
                    if since != Since::Beginning {
                        (parameters.since_seconds, parameters.tail_lines) = (None, Some(0));
                    }
                }
            }
            tokio::time::sleep(REOPEN_AFTER).await;
        }
    }
}

/// Cuts a log into lines of bounded length.
#[derive(Debug, Default)]
struct TextLines {
    rest: Vec<u8>,
}

impl TextLines {
    fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(&str)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES_MAX.saturating_sub(self.rest.len());
            self.rest.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                take(String::from_utf8_lossy(&self.rest).trim_end());
                self.rest.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::{LINE_BYTES_MAX, Others, Ours, Tally, TextLines, judge};
    use crate::cluster::prober::Inbound;
    use crate::environment::ObjectName;

    fn line(from: &str, request: &str) -> String {
        format!("INFO:     {from} - \"{request} HTTP/1.1\" 200 OK")
    }

    fn tally(lines: &[String]) -> Tally {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.take(&ObjectName::new("ml", "litellm-0"), line));
        tally
    }

    fn chats(from: &str, count: usize) -> Vec<String> {
        vec![line(&format!("{from}:4000"), "POST /v1/chat/completions"); count]
    }

    fn ours(sent: u64, addresses: &[&str]) -> Ours {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect::<BTreeSet<_>>();
        Ours { sent, answered: sent, addresses }
    }

    #[test]
    fn calls_before_we_send_anything_are_others() {
        let tally = tally(&[chats("10.0.0.9", 2), chats("10.0.0.8", 3)].concat());
        let words = judge(&tally, &ours(0, &["10.0.0.1"]), None).words();
        let wanted =
            "at least 5 model calls of others went through the gateway, from 10.0.0.8 (3), 10.0.0.9 (2)";
        assert_eq!(words, wanted);
        assert_eq!(judge(&tally, &ours(0, &[]), None), Others::Calls { count: 5, from: Vec::new() });
    }

    #[test]
    fn more_lines_than_we_sent_are_others() {
        let tally = tally(&chats("10.0.0.1", 12));
        assert_eq!(judge(&tally, &ours(12, &[]), None), Others::None);
        assert_eq!(judge(&tally, &ours(20, &[]), None), Others::None, "some are still under way");
        assert_eq!(judge(&tally, &ours(10, &["10.0.0.1"]), None), Others::Calls { count: 2, from: vec![] });
    }

    #[test]
    fn a_log_without_requests_says_nothing_and_sockets_hint() {
        let inbound = |from: &str| Inbound {
            from: BTreeMap::from([("10.0.0.1".to_owned(), 1), (from.to_owned(), 2)]),
            ..Inbound::default()
        };
        let silent = tally(&[]);
        let ours = ours(50, &["10.0.0.1"]);
        assert!(matches!(judge(&silent, &ours, None), Others::Unknown(_)));
        let health = tally(&[line("10.0.0.2:1", "GET /health/readiness")]);
        assert!(matches!(judge(&health, &ours, None), Others::Unknown(_)), "ours are missing in it");
        let hint = judge(&silent, &ours, Some(&inbound("10.0.0.7")));
        assert_eq!(hint, Others::Connected(vec!["10.0.0.7".to_owned()]));
        assert!(matches!(judge(&silent, &ours, Some(&inbound("10.0.0.1"))), Others::Unknown(_)));
        let mut forbidden = tally(&chats("10.0.0.1", 3));
        forbidden.unread.insert(ObjectName::new("ml", "litellm-1"), "403 Forbidden".to_owned());
        assert!(judge(&forbidden, &ours, None).words().contains("403"));
    }

    proptest! {
        /// Nobody is ever accused for what we sent ourselves, and others beyond that always are.
        #[test]
        fn others_are_at_most_those_that_there_were(
            sent in 0_u64..40,
            printed in 0_u64..40,
            others in prop::collection::vec(1_usize..20, 0..5),
            known in any::<bool>(),
        ) {
            let printed = printed.min(sent);
            let mut lines = chats("10.0.0.1", usize::try_from(printed).unwrap());
            for (index, calls) in others.iter().enumerate() {
                lines.extend(chats(&format!("10.0.1.{index}"), *calls));
            }
            let truth: u64 = others.iter().map(|calls| *calls as u64).sum();
            let addresses: &[&str] = if known { &["10.0.0.1"] } else { &[] };
            match judge(&tally(&lines), &ours(sent, addresses), None) {
                Others::Calls { count, .. } => prop_assert!(count <= truth && (!known || count == truth)),
                Others::None | Others::Unknown(_) => prop_assert!(!known || truth == 0),
                Others::Connected(_) => prop_assert!(false, "nobody counted sockets"),
            }
        }

        #[test]
        fn no_line_panics_and_memory_is_bounded(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
            let mut lines = TextLines::default();
            lines.feed(&bytes, |line| {
                Tally::default().take(&ObjectName::new("ml", "litellm-0"), line);
            });
            prop_assert!(lines.rest.len() <= LINE_BYTES_MAX);
        }
    }
}

//! What containers have written, and those who read it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::stream;
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{Kubelet, container_of, is_set, parameter};
use crate::kubernetes::controllers::objects::meta;
use crate::kubernetes::pod_io::{Body, PodRequest};
use crate::kubernetes::refusal::Refusal;

/// Lines that are kept of a container; the oldest go first.
const LINES_MAX: usize = 2000;
/// A longer line is cut.
pub(super) const LINE_BYTES_MAX: usize = 16 * 1024;
/// Containers whose lines are kept after their pod is gone, for those who still read.
const ENDED_MAX: usize = 64;

/// The logs of all containers.
#[derive(Debug, Default)]
pub(super) struct Logs {
    all: Mutex<BTreeMap<(String, String), Arc<Log>>>,
}

#[derive(Debug)]
struct Log {
    lines: Mutex<Lines>,
    /// How many lines there ever were, and whether there will be no more.
    written: watch::Sender<(u64, bool)>,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<(Timestamp, String)>,
    /// The number of the oldest line that is kept.
    first: u64,
}

impl Log {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the oldest line that was written then or later.
    fn first_after(&self, instant: Timestamp) -> u64 {
        let lines = self.lines();
        lines.first + lines.kept.iter().take_while(|(at, _)| *at < instant).count() as u64
    }

    /// The lines from this number on, and the number of the next one.
    fn since(&self, number: u64) -> (Vec<(Timestamp, String)>, u64) {
        let lines = self.lines();
        let skipped = usize::try_from(number.saturating_sub(lines.first)).unwrap_or(usize::MAX);
        let found: Vec<_> = lines.kept.iter().skip(skipped).cloned().collect();
        (found, lines.first + lines.kept.len() as u64)
    }
}

impl Logs {
    fn log(&self, uid: &str, container: &str) -> Arc<Log> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let log = all.entry((uid.to_owned(), container.to_owned())).or_insert_with(|| {
            Arc::new(Log { lines: Mutex::default(), written: watch::Sender::new((0, false)) })
        });
        Arc::clone(log)
    }

    pub(super) fn add(&self, uid: &str, container: &str, line: &str, now: Timestamp) {
        let log = self.log(uid, container);
        let end = (0..=line.len().min(LINE_BYTES_MAX)).rev().find(|end| line.is_char_boundary(*end));
        let line = line[..end.unwrap_or(0)].replace('\n', " ");
        {
            let mut lines = log.lines();
            lines.kept.push_back((now, line));
            if lines.kept.len() > LINES_MAX {
                lines.kept.pop_front();
                lines.first += 1;
            }
        }
        log.written.send_modify(|(count, _)| *count += 1);
    }

    /// The lines of a container that are kept.
    pub(super) fn lines(&self, uid: &str, container: &str) -> Vec<String> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let log = all.get(&(uid.to_owned(), container.to_owned())).map(Arc::clone);
        let lines = log.map(|log| log.since(0).0).unwrap_or_default();
        lines.into_iter().map(|(_, line)| line).collect()
    }

    /// Nothing more comes from a pod's containers; their lines go unless the pod's object is still there.
    pub(super) fn close(&self, uid: &str, is_kept: bool) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for ((_, _), log) in all.iter().filter(|((owner, _), _)| owner == uid) {
            log.written.send_modify(|(_, ended)| *ended = true);
        }
        if !is_kept || all.len() > ENDED_MAX {
            all.retain(|(owner, _), _| owner != uid);
        }
    }
}

/// Answers a request for a log.
pub(super) fn log(kubelet: &Kubelet, request: &PodRequest) -> Result<Response<Body>, Refusal> {
    let (pod, query) = (&request.pod, &request.query);
    let name = container_of(pod, query)?["name"].as_str().unwrap_or_default();
    if is_set(query, "previous") {
        let told =
            format!("previous terminated container \"{name}\" in pod \"{}\" not found", meta(pod, "name"));
        return Err(Refusal::BadRequest(told));
    }
    let has_started = pod["status"]["containerStatuses"]
        .as_array()
        .is_some_and(|all| all.iter().any(|status| status["state"]["waiting"].is_null()));
    if !has_started {
        let told = format!(
            "container \"{name}\" in pod \"{}\" is waiting to start: ContainerCreating",
            meta(pod, "name")
        );
        return Err(Refusal::BadRequest(told));
    }
    let log = kubelet.inner.logs.log(meta(pod, "uid"), name);
    let (timestamps, follows) = (is_set(query, "timestamps"), is_set(query, "follow"));
    let tail = parameter(query, "tailLines").and_then(|count| count.parse::<u64>().ok());
    let (_, next) = log.since(u64::MAX);
    let from = tail.map_or(0, |tail| next.saturating_sub(tail));
    let since = parameter(query, "sinceSeconds").and_then(|seconds| seconds.parse::<i64>().ok());
    let since = since.map(|seconds| {
        let ago = jiff::SignedDuration::from_secs(seconds);
        kubelet.store().clock().now().checked_sub(ago).unwrap_or(Timestamp::MIN)
    });
    let from = from.max(since.map_or(0, |since| log.first_after(since)));
    let written = log.written.subscribe();
    let state = Reading { log, written, next: from, timestamps, follows, end: kubelet.inner.end.clone() };
    let chunks = stream::unfold(state, |mut reading| async {
        let chunk = reading.next().await?;
        Some((Ok(Frame::data(chunk)), reading))
    });
    let mut response = Response::new(StreamBody::new(chunks).boxed_unsync());
    let plain = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    Ok(response)
}

/// Somebody who reads a log.
struct Reading {
    log: Arc<Log>,
    written: watch::Receiver<(u64, bool)>,
    next: u64,
    timestamps: bool,
    follows: bool,
    end: tokio_util::sync::CancellationToken,
}

impl Reading {
    /// The lines that were not read yet; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let (_, has_ended) = *self.written.borrow_and_update();
            let (lines, next) = self.log.since(self.next);
            self.next = next;
            if !lines.is_empty() {
                return Some(self.text(&lines).into());
            }
            if !self.follows || has_ended {
                return None;
            }
            tokio::select! {
                () = self.end.cancelled() => return None,
                changed = self.written.changed() => changed.ok()?,
            }
        }
    }

    fn text(&self, lines: &[(Timestamp, String)]) -> String {
        let one = |(at, line): &(Timestamp, String)| {
            if self.timestamps { format!("{at} {line}\n") } else { format!("{line}\n") }
        };
        lines.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_the_newest_lines_and_counts_all() {
        let logs = Logs::default();
        for number in 0..LINES_MAX + 10 {
            logs.add("uid", "main", &format!("line {number}"), Timestamp::UNIX_EPOCH);
        }
        let log = logs.log("uid", "main");
        let (lines, next) = log.since(0);
        assert_eq!((lines.len(), next), (LINES_MAX, LINES_MAX as u64 + 10));
        assert_eq!(lines[0].1, "line 10");
        assert_eq!(log.since(next - 1).0.len(), 1);
        let second = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(1);
        assert_eq!((log.first_after(Timestamp::UNIX_EPOCH), log.first_after(second)), (10, next));
        logs.add("uid", "main", &"\u{20ac}".repeat(LINE_BYTES_MAX), Timestamp::UNIX_EPOCH);
        assert!(log.since(next).0[0].1.len() <= LINE_BYTES_MAX);
    }
}

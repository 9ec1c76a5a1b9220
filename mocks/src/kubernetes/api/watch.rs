//! Watches: changes as they happen, one JSON object a line, on an answer that goes on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Call;
use super::selector::Selector;
use super::table::Form;
use crate::kubernetes::pod_io::{Body, Cut};
use crate::kubernetes::refusal::Refusal;
use crate::kubernetes::resources::Resource;
use crate::kubernetes::store::{Change, ChangeKind, Store, Subscription};

/// How long a watch goes on that does not say.
const LASTS: Duration = Duration::from_secs(30 * 60);
/// How long the longest goes on.
const LASTS_MAX: u64 = 24 * 60 * 60;
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// So long before its end a watch says how far it came.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// What was written before a cut gets so much time to be sent.
const SENT_BEFORE_CUT: Duration = Duration::from_millis(20);

struct Watch {
    store: Store,
    resource: &'static Resource,
    namespace: Option<String>,
    selector: Selector,
    form: Form,
    changes: Subscription,
    /// Lines that are ready.
    ready: VecDeque<Bytes>,
    bookmarks: bool,
    next_bookmark: Instant,
    ends: Instant,
    /// Whole events until it is cut in the middle of the next one.
    events_left: Option<usize>,
    over: bool,
    _permit: OwnedSemaphorePermit,
}

/// Opens a watch. Without a version, or from 0, it begins with what is there.
pub(super) fn open(
    store: &Store,
    call: &Call,
    events_max: Option<usize>,
    permit: OwnedSemaphorePermit,
) -> Result<Response<Body>, Refusal> {
    let query = &call.query;
    let resource = call.target.resource;
    let selector = Selector::read_for(resource, query.get("labelSelector"), query.get("fieldSelector"))?;
    let form = Form::read(call.request.headers(), query)?;
    let asked = query.number("resourceVersion")?.filter(|version| *version > 0);
    let sends_initial = query.is_true("sendInitialEvents");
    let listed = store.list(resource, call.target.namespace.as_deref());
    let from = if sends_initial { listed.version } else { asked.unwrap_or(listed.version) };
    let mut ready = VecDeque::new();
    let changes = match store.subscribe(from) {
        Ok(changes) => changes,
        Err(refusal) => {
            // It opens, and then says that it cannot: so do real servers.
            ready.push_back(line("ERROR", refusal.status()));
            store.subscribe(listed.version)?
        }
    };
    let over = !ready.is_empty();
    let lasts = query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0);
    let lasts = lasts.map_or(LASTS, |seconds| Duration::from_secs(seconds.min(LASTS_MAX)));
    let ends = Instant::now() + lasts;
    let mut watch = Watch {
        store: store.clone(),
        resource,
        namespace: call.target.namespace.clone(),
        selector,
        form,
        changes,
        ready,
        bookmarks: query.is_true("allowWatchBookmarks"),
        next_bookmark: first_bookmark(lasts),
        ends,
        events_left: events_max,
        over,
        _permit: permit,
    };
    if !over && (sends_initial || asked.is_none()) {
        for object in listed.items.iter().filter(|object| watch.selector.fits(object)) {
            let line = line("ADDED", watch.form.one(resource, object, store));
            watch.ready.push_back(line);
        }
        if sends_initial && watch.bookmarks {
            let line = watch.bookmark(true);
            watch.ready.push_back(line);
        }
    }
    let frames = stream::unfold(Some(watch), |watch| async move {
        let mut watch = watch?;
        match watch.next_line().await {
            Ok(Some(line)) => Some((Ok(Frame::data(line)), Some(watch))),
            Ok(None) => None,
            Err(cut) => Some((Err(cut), None)),
        }
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert("cache-control", HeaderValue::from_static("no-cache, private"));
    Ok(response)
}

fn first_bookmark(lasts: Duration) -> Instant {
    Instant::now() + lasts.saturating_sub(BOOKMARK_BEFORE_END).min(BOOKMARK_EVERY)
}

fn line(kind: &str, object: Value) -> Bytes {
    let mut line = json!({ "type": kind, "object": object }).to_string();
    line.push('\n');
    line.into()
}

impl Watch {
    /// The next line; none at the end.
    async fn next_line(&mut self) -> Result<Option<Bytes>, Cut> {
        let Some(line) = self.next_whole_line().await else { return Ok(None) };
        match &mut self.events_left {
            None => Ok(Some(line)),
            Some(0) if self.over => {
                // hyper sends what it holds only while it has to wait.
                tokio::time::sleep(SENT_BEFORE_CUT).await;
                Err(Cut)
            }
            Some(0) => {
                // Half of it; the cut comes when more is asked for, so that the half arrives.
                self.over = true;
                self.ready = VecDeque::from([Bytes::new()]);
                Ok(Some(line.slice(..line.len() / 2)))
            }
            Some(left) => {
                *left -= 1;
                Ok(Some(line))
            }
        }
    }

    async fn next_whole_line(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.over {
                return None;
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(self.ends) => return None,
                change = self.changes.next() => match change {
                    Ok(change) => if let Some(line) = self.told(&change) { return Some(line) },
                    Err(refusal) => {
                        self.over = true;
                        return Some(line("ERROR", refusal.status()));
                    }
                },
                () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => {
                    let left = self.ends.saturating_duration_since(Instant::now());
                    self.next_bookmark = if left <= BOOKMARK_BEFORE_END + Duration::from_millis(100) {
                        self.ends + BOOKMARK_EVERY
                    } else {
                        first_bookmark(left)
                    };
                    return Some(self.bookmark(false));
                }
            }
        }
    }

    /// What a change is for this watch: an object that begins to fit is added, one that no longer fits is deleted.
    fn told(&self, change: &Arc<Change>) -> Option<Bytes> {
        if change.key.resource != self.resource
            || self.namespace.as_ref().is_some_and(|namespace| *namespace != change.key.namespace)
        {
            return None;
        }
        let fitted = change.previous.as_ref().is_some_and(|object| self.selector.fits(object));
        let fits = change.kind != ChangeKind::Deleted && self.selector.fits(&change.object);
        let kind = match (fitted, fits) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return None,
        };
        let mut object = Arc::clone(&change.object);
        if kind == "DELETED"
            && change.kind != ChangeKind::Deleted
            && let Some(previous) = &change.previous
        {
            // The last state that fitted, at the version with which it ceased to.
            let mut last = Value::clone(previous);
            last["metadata"]["resourceVersion"] = change.version.to_string().into();
            object = Arc::new(last);
        }
        Some(line(kind, self.form.one(self.resource, &object, &self.store)))
    }

    fn bookmark(&self, ends_initial: bool) -> Bytes {
        // Everything up to the version of the store that concerns this watch was told.
        let mut metadata =
            json!({ "resourceVersion": self.changes.seen().to_string(), "creationTimestamp": null });
        if ends_initial {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let object = json!({
            "kind": self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": metadata,
        });
        line("BOOKMARK", object)
    }
}

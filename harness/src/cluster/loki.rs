//! The gateway's log as a Loki keeps it, read for the time of a mode once that is over.
//!
//! Lines come late, twice, and in any order: what counts is each line once, and what has not come within a bound is
//! waited for no longer. A Loki that does not answer is silent; it decides nothing.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::others::Tally;
use crate::environment::{Loki, LokiUser, ObjectName};
use crate::gateway::secret::Secret;

/// One request must be answered by then.
const CALL_WITHIN: Duration = Duration::from_secs(10);
/// All that is there of a mode must have been read by then.
pub(crate) const READ_WITHIN: Duration = Duration::from_secs(20);
/// Lines of one answer.
const PAGE_LINES: usize = 1000;
/// Of one mode no more lines are read.
const LINES_MAX: usize = 100_000;
/// No answer is longer.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Between two looks for what is late.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What one Loki showed of a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// What its lines count.
    pub tally: Tally,
    /// Why it says nothing, or not all.
    pub trouble: Option<String>,
}

/// Reads one Loki.
#[derive(Clone, Debug)]
pub struct LokiReader {
    client: reqwest::Client,
    url: reqwest::Url,
    query: String,
    tenant: Option<String>,
    user: User,
    within: Duration,
}

/// As whom.
#[derive(Clone, Debug)]
enum User {
    Nobody,
    Bearer(Secret),
    Basic(String, Secret),
}

/// One line: when in nanoseconds, whose, and what.
type Line = (i128, ObjectName, String);

impl LokiReader {
    /// A reader of the Loki that an environment names. Its keys are variables of this program.
    ///
    /// # Errors
    /// In words, where a key is not there.
    pub fn open(loki: &Loki) -> Result<Self, String> {
        let user = match &loki.user {
            LokiUser::Nobody => User::Nobody,
            LokiUser::Bearer(token) => User::Bearer(of_variable(token)?),
            LokiUser::Basic { user, password_env } => User::Basic(user.clone(), of_variable(password_env)?),
        };
        let url = format!("{}/loki/api/v1/query_range", loki.url.trim_end_matches('/'));
        let url = reqwest::Url::parse(&url).map_err(|error| error.to_string())?;
        let client = crate::http::client_for(&loki.url).timeout(CALL_WITHIN).build();
        Ok(Self {
            client: client.map_err(|error| error.to_string())?,
            url,
            query: loki.query.clone(),
            tenant: loki.tenant.clone(),
            user,
            within: loki.within.0,
        })
    }

    /// What its lines of this time count, each once. Until there are `needed` model calls it is asked again, as long as its
    /// bound allows and the run is not cut short. Instants are nanoseconds of Unix time.
    pub async fn count(&self, from_ns: i128, to_ns: i128, needed: u64, cut: &CancellationToken) -> Shown {
        let deadline = Instant::now() + self.within;
        let (mut shown, mut seen) = (Shown::default(), HashSet::new());
        loop {
            let read = self.read(from_ns, to_ns, &mut seen, &mut shown.tally);
            let read = tokio::time::timeout(READ_WITHIN, read);
            let Some(read) = cut.run_until_cancelled(read).await else { break };
            shown.trouble = read.unwrap_or_else(|_| Err("it takes too long to read".to_owned())).err();
            if shown.tally.calls >= needed || Instant::now() >= deadline {
                break;
            }
            let until = deadline.min(Instant::now() + LOOK_EVERY);
            if cut.run_until_cancelled(tokio::time::sleep_until(until)).await.is_none() {
                break;
            }
        }
        if shown.tally.requests == 0 && shown.trouble.is_none() {
            shown.trouble = Some("it has no request of this time".to_owned());
        }
        shown
    }

    /// Reads all of a window that is there by now; takes in what was not seen before.
    async fn read(
        &self,
        from_ns: i128,
        to_ns: i128,
        seen: &mut HashSet<(i128, u64)>,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let mut start_ns = from_ns;
        loop {
            let lines = self.page(start_ns, to_ns).await?;
            let last_ns = lines.iter().map(|(at_ns, ..)| *at_ns).max();
            let is_last = lines.len() < PAGE_LINES;
            for (at_ns, pod, line) in lines.into_iter().filter(|(at_ns, ..)| (from_ns..to_ns).contains(at_ns))
            {
                let mut hasher = DefaultHasher::new();
                (&pod, &line).hash(&mut hasher);
                if seen.insert((at_ns, hasher.finish())) {
                    tally.take(&pod, &line);
                }
            }
            let Some(last_ns) = last_ns.filter(|_| !is_last) else { return Ok(()) };
            if seen.len() >= LINES_MAX {
                return Err(format!("more than {LINES_MAX} lines of one mode are not read"));
            }
            // What has the instant of the last is read again, unless nothing else would be.
            start_ns = if last_ns > start_ns { last_ns } else { start_ns + 1 };
        }
    }

    async fn page(&self, start_ns: i128, end_ns: i128) -> Result<Vec<Line>, String> {
        let failed = |error: reqwest::Error| format!("it does not answer: {}", words(&error));
        let (start, end, limit) = (start_ns.to_string(), end_ns.to_string(), PAGE_LINES.to_string());
        let mut url = self.url.clone();
        url.query_pairs_mut()
            .append_pair("query", &self.query)
            .append_pair("start", &start)
            .append_pair("end", &end)
            .append_pair("limit", &limit)
            .append_pair("direction", "forward");
        let request = self.client.get(url);
        let request = match &self.tenant {
            Some(tenant) => request.header("x-scope-orgid", tenant),
            None => request,
        };
        let request = match &self.user {
            User::Nobody => request,
            User::Bearer(token) => request.bearer_auth(token.expose()),
            User::Basic(user, password) => request.basic_auth(user, Some(password.expose())),
        };
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(format!("it answers {status}"));
        }
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(failed)? {
            if body.len() + part.len() > BODY_BYTES_MAX {
                return Err("its answer is longer than anybody reads".to_owned());
            }
            body.extend_from_slice(&part);
        }
        let value: Value = serde_json::from_slice(&body).map_err(|_| "its answer is no JSON".to_owned())?;
        lines(&value).ok_or_else(|| "its answer holds no streams of lines".to_owned())
    }
}

fn of_variable(name: &str) -> Result<Secret, String> {
    Secret::of_variable(name)
        .ok_or_else(|| format!("its key is taken from ${name}, which is not set or empty"))
}

/// What went wrong, without the URL.
fn words(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "it took too long"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection broke"
    }
}

/// The lines of an answer; `None` where it is another kind of answer.
fn lines(answer: &Value) -> Option<Vec<Line>> {
    let data = &answer["data"];
    if data["resultType"].as_str() != Some("streams") {
        return None;
    }
    let mut all = Vec::new();
    for stream in data["result"].as_array()? {
        let label = |names: [&str; 3]| {
            let found = names.iter().find_map(|name| stream["stream"][*name].as_str());
            found.unwrap_or("unknown").to_owned()
        };
        let pod = ObjectName::new(
            label(["namespace", "k8s_namespace_name", "kubernetes_namespace"]),
            label(["pod", "k8s_pod_name", "pod_name"]),
        );
        for value in stream["values"].as_array()? {
            let at_ns = value[0].as_str()?.parse().ok()?;
            all.push((at_ns, pod.clone(), value[1].as_str()?.to_owned()));
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::lines;

    #[test]
    fn lines_are_those_of_all_streams() {
        let answer = json!({ "status": "success", "data": { "resultType": "streams", "result": [
            { "stream": { "namespace": "ml", "pod": "litellm-0" }, "values": [["5", "a"], ["7", "b", { "x": "y" }]] },
            { "stream": {}, "values": [["6", "c"]] },
        ] } });
        let told: Vec<_> =
            lines(&answer).unwrap().into_iter().map(|(at, pod, line)| format!("{at} {pod} {line}")).collect();
        assert_eq!(told, ["5 ml/litellm-0 a", "7 ml/litellm-0 b", "6 unknown/unknown c"]);
        assert_eq!(lines(&json!({ "data": { "resultType": "matrix", "result": [] } })), None);
        let odd = json!({ "data": { "resultType": "streams", "result": [{ "values": [[5, "a"]] }] } });
        assert_eq!(lines(&odd), None);
    }

    proptest! {
        #[test]
        fn no_answer_panics(text in "[\\[\\]{}\",:a-z0-9]{0,60}") {
            let value = serde_json::from_str(&text).unwrap_or_default();
            let _ = lines(&value);
            let _ = lines(&json!({ "data": { "resultType": "streams", "result": value } }));
        }
    }
}

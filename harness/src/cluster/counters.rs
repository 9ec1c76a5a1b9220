//! Counters of an upstream, read past the gateway: from inside its pod, which is the one place that reaches them all.

use std::time::Duration;

use super::access::Access;
use super::command::output;
use super::prober::Target;
use crate::attribution::counters::{self, Series};
use crate::environment::ObjectName;

/// A page is there by then, the start of Python included.
const READ_WITHIN: Duration = Duration::from_secs(6);
/// Reads one page, at most 2 MB of it, and prints its status before it: 0 where nobody answers.
const SCRIPT: &str = "\
import sys, urllib.error, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    with opener.open(sys.argv[1], timeout=3) as page:
        print(page.status)
        sys.stdout.write(page.read(1900000).decode())
except urllib.error.HTTPError as error:
    print(error.code)
except OSError:
    print(0)
";

/// What a page of counters shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counters {
    /// What it counts.
    Shown(Series),
    /// There is no such page, or not this counter on it.
    Absent,
    /// It could not be read.
    Unread(String),
}

/// Where a component shows its counters.
#[must_use]
pub fn page_of(target: &Target) -> String {
    let Target { host, port, tls, .. } = target;
    format!("http{}://{host}:{port}/metrics/", if *tls { "s" } else { "" })
}

/// Reads what vLLM counts at this URL, from a container of a pod.
pub async fn read(access: &Access, pod: &ObjectName, container: &str, url: &str) -> Counters {
    let command = ["python3", "-c", SCRIPT, url];
    let printed = tokio::time::timeout(READ_WITHIN, output(access, pod, container, &command)).await;
    match printed {
        Ok(Ok(printed)) => shown(&printed),
        Ok(Err(why)) => Counters::Unread(why),
        Err(_) => Counters::Unread(format!("it took longer than {} s", READ_WITHIN.as_secs())),
    }
}

/// Requests that ended between two reads, and those of them whose client got an answer.
///
/// # Errors
/// In words, why that is not known.
pub fn difference(before: &Counters, after: &Counters) -> Result<(u64, u64), String> {
    match (before, after) {
        (Counters::Shown(before), Counters::Shown(after)) => counters::added(before, after)
            .map(|added| counters::sums(&added, counters::VLLM_REASON, counters::VLLM_LEFT)),
        (Counters::Unread(why), _) => Err(format!("when the mode began it could not be read: {why}")),
        (Counters::Absent, _) => Err("when the mode began there was none".to_owned()),
        (_, Counters::Unread(why)) => Err(format!("when the mode had ended it could not be read: {why}")),
        (_, Counters::Absent) => Err("when the mode had ended there was none".to_owned()),
    }
}

fn shown(printed: &str) -> Counters {
    let (status, page) = printed.split_once('\n').unwrap_or((printed, ""));
    match status.trim() {
        "200" => match counters::series(page, counters::VLLM_ENDED) {
            Ok(series) if series.is_empty() => Counters::Absent,
            Ok(series) => Counters::Shown(series),
            Err(why) => Counters::Unread(why),
        },
        "0" => Counters::Unread("nobody answers".to_owned()),
        "404" => Counters::Absent,
        other => Counters::Unread(format!("it answers {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Counters, difference, shown};

    #[test]
    fn two_reads_make_a_difference_and_anything_else_says_why_not() {
        let page = |stop: u64, abort: u64| {
            let line = |reason: &str, count: u64| {
                format!("vllm:request_success_total{{finished_reason=\"{reason}\"}} {count}\n")
            };
            shown(&format!("200\n{}{}", line("stop", stop), line("abort", abort)))
        };
        assert_eq!(difference(&page(3, 1), &page(9, 2)), Ok((7, 6)));
        let says = |before: &Counters, after: &Counters, wanted: &str| {
            let told = difference(before, after).unwrap_err();
            assert!(told.contains(wanted), "{told}");
        };
        let unread = Counters::Unread("nobody answers".into());
        says(&page(9, 2), &page(1, 2), "started anew");
        says(&unread, &page(1, 2), "began it could not be read: nobody answers");
        says(&page(1, 2), &unread, "had ended it could not be read: nobody answers");
        says(&Counters::Absent, &page(1, 2), "there was none");
        says(&page(1, 2), &Counters::Absent, "there was none");
    }

    #[test]
    fn a_page_is_read_by_its_status() {
        let page = "200\n# TYPE x counter\nvllm:request_success_total{finished_reason=\"stop\"} 3.0\n";
        assert!(matches!(shown(page), Counters::Shown(series) if series.values().eq([&3])));
        assert_eq!(shown("200\nollama 3\n"), Counters::Absent);
        assert_eq!(shown("404\n"), Counters::Absent);
        assert_eq!(shown("0\n"), Counters::Unread("nobody answers".into()));
        assert_eq!(shown("401\n"), Counters::Unread("it answers 401".into()));
        assert!(matches!(shown("200\nvllm:request_success_total{ 3\n"), Counters::Unread(_)));
    }
}

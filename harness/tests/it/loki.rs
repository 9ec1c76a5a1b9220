//! A Loki whose lines come late, twice and in any order, one that is down, and one that lets nobody in.

use std::collections::BTreeMap;
use std::time::Duration;

use harness::cluster::loki::{LokiReader, Shown};
use harness::environment::{Loki, LokiUser};
use harness::units::Period;
use mocks::loki::{LogLine, Loki as MockLoki, LokiOptions};
use tokio_util::sync::CancellationToken;

const SECOND: i128 = 1_000_000_000;
const FROM: i128 = 1_800_000_000 * SECOND;
const TO: i128 = FROM + 60 * SECOND;

fn environment(url: String, user: LokiUser, within: Duration) -> Loki {
    let query = r#"{app="litellm"}"#.to_owned();
    Loki { url, query, tenant: Some("home".into()), user, within: Period(within) }
}

fn line(number: i128, text: &str) -> LogLine {
    let labels = [("app", "litellm"), ("namespace", "ml"), ("pod", "litellm-0")];
    LogLine {
        labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        at_ns: FROM + number * SECOND / 1000,
        text: text.to_owned(),
        late: 0,
        copies: 1,
    }
}

/// An access line and the line of the attempt before it.
fn call(number: i128) -> [LogLine; 2] {
    let port = 40_000 + number;
    [
        line(2 * number, "litellm.acompletion(model=hosted_vllm/Qwen3)\u{1b}[32m 200 OK\u{1b}[0m"),
        line(
            2 * number + 1,
            &format!("INFO: 10.0.0.7:{port} - \"POST /v1/chat/completions HTTP/1.1\" 200 OK"),
        ),
    ]
}

async fn started(options: LokiOptions) -> MockLoki {
    MockLoki::start(options).await.expect("a port")
}

fn of_tenant() -> LokiOptions {
    LokiOptions { tenant: Some("home".into()), authorization: None }
}

async fn shown(loki: &MockLoki, user: LokiUser, within: Duration, needed: u64) -> Shown {
    let reader = LokiReader::open(&environment(loki.url(), user, within)).expect("a reader");
    reader.count(FROM, TO, needed, &CancellationToken::new()).await
}

#[tokio::test]
async fn late_doubled_and_reordered_lines_count_once_each() {
    let loki = started(of_tenant()).await;
    // More than one page; the newest first, some twice, some only for those who ask again.
    for number in (0..900).rev() {
        for line in call(number) {
            let copies = if number % 7 == 0 { 3 } else { 1 };
            let late = if number % 50 == 0 { 4 } else { 0 };
            loki.push(LogLine { copies, late, ..line });
        }
    }
    let before = LogLine { at_ns: FROM - 1, ..call(0)[1].clone() };
    let after = LogLine { at_ns: TO, ..call(0)[1].clone() };
    let of_others = LogLine { labels: BTreeMap::from([("app".into(), "x".into())]), ..call(1)[1].clone() };
    [before, after, of_others].into_iter().for_each(|line| loki.push(line));
    let shown = shown(&loki, LokiUser::Nobody, Duration::from_secs(30), 900).await;
    assert_eq!((shown.tally.calls, shown.trouble), (900, None));
    assert_eq!(shown.tally.answers, BTreeMap::from([("hosted_vllm/Qwen3".to_owned(), 900)]));
    assert!(loki.queries() > 4, "it was asked again");
    loki.shutdown().await;
}

#[tokio::test]
async fn what_never_arrives_is_waited_for_no_longer_than_its_bound() {
    let loki = started(of_tenant()).await;
    call(1).into_iter().for_each(|line| loki.push(line));
    let begun = tokio::time::Instant::now();
    let shown = shown(&loki, LokiUser::Nobody, Duration::from_millis(700), 2).await;
    assert_eq!((shown.tally.calls, shown.trouble), (1, None));
    assert!(begun.elapsed() >= Duration::from_millis(700) && begun.elapsed() < Duration::from_secs(10));
    loki.shutdown().await;
}

#[tokio::test]
async fn a_loki_that_is_down_or_lets_nobody_in_is_silent_and_says_why() {
    let loki = started(of_tenant()).await;
    let soon = Duration::from_millis(10);
    let empty = shown(&loki, LokiUser::Nobody, soon, 1).await;
    assert_eq!(empty.trouble.as_deref(), Some("it has no request of this time"));
    loki.set_down(true);
    let down = shown(&loki, LokiUser::Nobody, soon, 1).await;
    assert_eq!((down.tally.calls, down.trouble.as_deref()), (0, Some("it answers 503")));
    let url = loki.url();
    loki.shutdown().await;
    let gone = environment(url, LokiUser::Nobody, soon);
    let reader = LokiReader::open(&gone).expect("a reader");
    let gone = reader.count(FROM, TO, 1, &CancellationToken::new()).await;
    assert_eq!(gone.trouble.as_deref(), Some("it does not answer: no connection"));
}

#[tokio::test]
async fn it_is_asked_as_the_environment_says_and_shows_no_password() {
    // A variable that every process has stands for the one that holds a key.
    let key = std::env::var("PATH").expect("a search path");
    let wanted = Some(format!("Bearer {key}"));
    let loki = started(LokiOptions { authorization: wanted, ..of_tenant() }).await;
    call(1).into_iter().for_each(|line| loki.push(line));
    let soon = Duration::from_millis(10);
    let bearer = LokiUser::Bearer("PATH".into());
    assert_eq!(shown(&loki, bearer.clone(), soon, 1).await.tally.calls, 1);
    let basic = LokiUser::Basic { user: "reader".into(), password_env: "PATH".into() };
    let refused = shown(&loki, basic, soon, 1).await;
    assert_eq!(refused.trouble.as_deref(), Some("it answers 401"));
    assert!(loki.refused() > 0);
    let reader = LokiReader::open(&environment(loki.url(), bearer, soon)).expect("a reader");
    assert!(!format!("{reader:?}").contains(&key));
    let unset = LokiUser::Bearer("NOBODY_SETS_THIS".into());
    let unset = LokiReader::open(&environment(loki.url(), unset, soon)).expect_err("no key");
    assert_eq!(unset, "its key is taken from $NOBODY_SETS_THIS, which is not set or empty");
    loki.shutdown().await;
}

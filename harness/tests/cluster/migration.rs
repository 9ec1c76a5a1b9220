//! openclaw on its way from Anthropic to LiteLLM: what `doctor` says before, half-way and after, and what a run makes of it.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use mocks::kubernetes::openclaw::Openclaw;
use mocks::kubernetes::resources::PODS;
use mocks::kubernetes::store::{Deletion, ObjectKey};
use serde_json::Value;

use crate::child::Ended;
use crate::stack::{CLOUD_DOWN, KEY, Stack, Staging};

const LITELLM: &str = "http://litellm.ml.svc:4000";
const CANARY: &str = "canary-token-of-anthropic";
const IN_CONFIG: &str = "canary-in-openclaw-json";

/// What doctor says of the migration, by fact.
fn facts(ended: &Ended) -> BTreeSet<(String, String)> {
    let section =
        ended.stdout.split("migration state\n").nth(1).unwrap_or_else(|| panic!("{}", ended.stdout));
    let lines = section.lines().take_while(|line| !line.is_empty());
    let told = lines.filter_map(|line| {
        let standing = ["holds", "fails", "not known"].into_iter().find(|word| line.starts_with(word))?;
        // A fact may hold a colon, and what was found begins with the last that is followed by a space.
        let fact = line[standing.len()..].trim_start().split(": ").next()?;
        Some((standing.to_owned(), fact.to_owned()))
    });
    told.collect()
}

/// The facts that stand so.
fn standing<'f>(facts: &'f BTreeSet<(String, String)>, wanted: &str) -> BTreeSet<&'f str> {
    facts.iter().filter(|(standing, _)| standing == wanted).map(|(_, fact)| fact.as_str()).collect()
}

fn started(stack: &Stack) -> Option<Timestamp> {
    let pods = stack.household.cluster().store().list(&PODS, Some("apps")).items;
    let running = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let state = |pod: &Value| {
        pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"].as_str()?.parse().ok()
    };
    running.filter_map(|pod| state(pod)).next()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        while !holds() {
            ticks.tick().await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Until a second has begun that is later than that in which the pod was started: the API tells times to the second.
async fn next_second(stack: &Stack) {
    until("the pod runs", || started(stack).is_some()).await;
    let begun = started(stack).unwrap();
    until("a later second", || Timestamp::now().as_second() > begun.as_second()).await;
}

async fn restart(stack: &Stack) {
    let store = stack.household.cluster().store();
    let now = Timestamp::now().as_second();
    until("a later second", || Timestamp::now().as_second() > now).await;
    let before = started(stack);
    for pod in store.list(&PODS, Some("apps")).items {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        let pod = ObjectKey::new(&PODS, "apps", &name);
        store.delete(&pod, &Deletion::default(), "kubectl").unwrap();
    }
    until("another pod runs", || started(stack).is_some_and(|now| Some(now) != before)).await;
}

async fn stage() -> Stack {
    let stack = Stack::start(Staging::default()).await;
    stack.edit(
        "components:\n",
        "openclaw: { deployment: apps/openclaw, secret: apps/openclaw-secrets }\ncomponents:\n",
    );
    stack
}

const OF_SECRET: [&str; 2] = [
    "FR222 Anthropic in the Secret apps/openclaw-secrets",
    "FR222 LITELLM_FALLBACK_URL in the Secret apps/openclaw-secrets",
];
const OF_CONTAINER: [&str; 3] = [
    "FR222 Anthropic in openclaw's environment",
    "FR222 LITELLM_FALLBACK_URL in openclaw's environment",
    "FR222 profiles that openclaw has stored",
];
const OF_FILES: [&str; 9] = [
    "FR222 models.providers.litellm.baseUrl",
    "FR222 models.providers.litellm.apiKey",
    "FR222 models.providers.litellm.models",
    "FR222 agents.defaults.model.primary",
    "FR222 agents.defaults.model.fallbacks",
    "FR223 agents.defaults.subagents.model",
    "FR222 models of Anthropic below agents",
    "FR222 Anthropic in auth.profiles",
    "FR222 Anthropic in auth.order",
];
const AGE: &str = "FR222 openclaw's pod";

#[tokio::test(flavor = "multi_thread")]
async fn before_half_way_and_after_exactly_the_right_lines_differ() {
    let stack = stage().await;
    let openclaw = Openclaw::before(&stack.household, CANARY).unwrap();
    next_second(&stack).await;
    restart(&stack).await;
    let before = stack.harness("doctor", &[]).end().await.expect(1);
    let all: BTreeSet<&str> = OF_SECRET.into_iter().chain(OF_CONTAINER).chain(OF_FILES).collect();
    let told = facts(&before);
    assert_eq!(standing(&told, "fails"), all, "{}", before.stdout);
    assert_eq!(standing(&told, "not known"), BTreeSet::new(), "{}", before.stdout);

    // The Secret is patched, and nobody restarts the pod.
    next_second(&stack).await;
    openclaw.migrate_secret(LITELLM).unwrap();
    let patched = stack.harness("doctor", &[]).end().await.expect(1);
    let told = facts(&patched);
    let wanted: BTreeSet<&str> = OF_CONTAINER.into_iter().chain(OF_FILES).chain([AGE]).collect();
    assert_eq!(standing(&told, "fails"), wanted, "{}", patched.stdout);

    openclaw.migrate_files(LITELLM).unwrap();
    let half_way = stack.harness("doctor", &[]).end().await.expect(1);
    let told = facts(&half_way);
    let wanted: BTreeSet<&str> = OF_CONTAINER.into_iter().chain([AGE]).collect();
    assert_eq!(standing(&told, "fails"), wanted, "{}", half_way.stdout);
    assert!(half_way.stdout.contains("mend: restart openclaw"), "{}", half_way.stdout);

    restart(&stack).await;
    let after = stack.harness("doctor", &[]).end().await.expect(0);
    let told = facts(&after);
    assert_eq!(standing(&told, "holds").len(), told.len(), "{}", after.stdout);
    assert!(after.stdout.contains("FR222: every fact that was looked at holds"), "{}", after.stdout);
    assert_eq!(stack.mutations(), Vec::<String>::new());
    for ended in [&before, &patched, &half_way, &after] {
        for secret in [CANARY, KEY, "sk-embed"] {
            assert!(!ended.stdout.contains(secret) && !ended.stderr.contains(secret), "{secret}");
        }
    }
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_not_known() {
    let stack = stage().await;
    let nobody = stack.harness("doctor", &[]).end().await.expect(1);
    let told = facts(&nobody);
    assert!(standing(&told, "not known").contains(AGE), "{}", nobody.stdout);
    assert!(standing(&told, "not known").contains(OF_FILES[3]), "{}", nobody.stdout);
    assert!(nobody.stdout.contains("deployments apps/openclaw"), "{}", nobody.stdout);
    let openclaw = Openclaw::after(&stack.household, LITELLM).await.unwrap();
    openclaw.write_config(&format!("{{ agents: '{IN_CONFIG}")).unwrap();
    until("the pod runs", || started(&stack).is_some()).await;
    let broken = stack.harness("doctor", &[]).end().await;
    let told = facts(&broken);
    let open = standing(&told, "not known");
    assert!(OF_FILES.iter().all(|fact| open.contains(fact)), "{}", broken.stdout);
    assert!(broken.stdout.contains("openclaw.json is no JSON5"), "{}", broken.stdout);
    assert!(!broken.stdout.contains(IN_CONFIG) && !broken.stderr.contains(IN_CONFIG), "{}", broken.stdout);
    stack.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_judges_the_requirement_by_the_facts_and_its_modes_by_themselves() {
    let stack = stage().await;
    let openclaw = Openclaw::before(&stack.household, CANARY).unwrap();
    openclaw.set_secret(&[("OTHER", Some(CANARY))]).unwrap();
    until("the pod runs", || started(&stack).is_some()).await;
    let scenario = stack.scenario("cloud-down", CLOUD_DOWN);
    let ended = stack.harness("run", &[scenario]).end().await.expect(1);
    let requirement = |id: &str| {
        let all = ended.result["requirements"].as_array().unwrap();
        all.iter().find(|requirement| requirement["id"] == id).unwrap().clone()
    };
    assert_eq!(requirement("FR222")["verdict"], "fail");
    assert_eq!(requirement("FR223")["verdict"], "fail");
    assert_eq!(requirement("NFR123")["verdict"], "pass", "{}", ended.result["reasons"]);
    assert_eq!(ended.result["scenarios"][0]["verdict"], "pass");
    let lines = ended.result["migration"].as_array().unwrap();
    assert!(lines.iter().any(|line| line["standing"] == "fails" && line["mend"].is_string()));
    assert!(ended.report.contains("## State of the migration"), "{}", ended.report);
    assert!(ended.report.contains("## What the gateway's own settings let expect"), "{}", ended.report);
    assert!(ended.result["outlook"]["settings"]["num_retries"].is_u64(), "{}", ended.result["outlook"]);
    let journal = stack.journal();
    assert!(journal.contains("\"migration-seen\"") && journal.contains("\"gateway-told\""));
    for text in [&journal, &ended.report, &ended.stdout, &ended.stderr, &ended.result.to_string()] {
        assert!(!text.contains(CANARY) && !text.contains(KEY), "{text}");
    }
    stack.strike().await;
}

//! Clusters: the API, the gateway, the rights, who would fight a run, and what is seen from the gateway's pods.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{Examination, Standing};
use crate::cluster::access::{Access, CallError, Failure, Target as ApiTarget};
use crate::cluster::dead_man;
use crate::cluster::gateway::{Gateway, NoGateway};
use crate::cluster::mutation::Kubectl;
use crate::cluster::openclaw;
use crate::cluster::others::{self, Others};
use crate::cluster::permissions;
use crate::cluster::places::places;
use crate::cluster::preview::{self, Preview};
use crate::cluster::prober::{Fleet, ProberOptions};
use crate::environment::{Cluster, Environment, KeySource};
use crate::gateway::litellm::LITELLM_VERSION;
use crate::gateway::pages::{PageError, Pages};
use crate::gateway::secret::Secret;
use crate::journal::{Clock, Journal};
use crate::outlook;
use crate::verdict::result::MigrationLine;

/// A component is seen up from the gateway's pods by then.
const UP_WITHIN: Duration = Duration::from_secs(5);
/// The probers end by themselves after this.
const PROBED_AT_MOST: Duration = Duration::from_secs(60);

pub(super) async fn examine(examination: &mut Examination, environment: &Environment, cluster: &Cluster) {
    let access = match Access::open(cluster, None).await {
        Ok(access) => access,
        Err(error) => {
            examination.problem("API", error.to_string(), "correct `kubernetes` in the environment file");
            return examination.unknown("all else", "the cluster was not asked", "see above");
        }
    };
    let components: Vec<String> = environment.components.keys().cloned().collect();
    // What a run needs depends on its scenarios; what would be refused does not.
    let deadline = preview::deadline(Duration::ZERO, environment);
    match preview::look(&access, environment, &components, deadline, false).await {
        Err(error) => {
            api_silent(examination, &error);
            return examination.unknown("all else", "the cluster does not answer", "see above");
        }
        Ok(found) => {
            examination.ok("API", format!("the cluster {} answers", access.name()));
            permitted(examination, cluster, &found);
            targets(examination, &found);
            safety(examination, environment, &found);
        }
    }
    // An environment of a cluster that is not ours always names its key.
    let gateway = Gateway::find(&access, cluster, &Secret::random(), Clock::starting_now()).await;
    let gateway = match gateway {
        Ok(gateway) => gateway,
        Err(error) => {
            no_gateway(examination, cluster, &error);
            let why = format!("LiteLLM was not asked: {error}");
            migrated(examination, openclaw::migration(&access, environment, Err(&why)).await);
            return examination.unknown(
                "models, evidence, users",
                "they are looked at through the gateway",
                "see above",
            );
        }
    };
    introduced(examination, &gateway, gateway.overhead(&access).await.as_ref());
    models(examination, environment, gateway.page("/v1/models").await);
    foreseen(examination, environment, Pages { url: &gateway.url, key: &gateway.key }).await;
    migrated(examination, openclaw::migration(&access, environment, Ok(&gateway)).await);
    let (seen, others) = tokio::join!(
        look_from_pods(&access, environment, &gateway),
        others::look(&access, &gateway, others::SEEN_IN)
    );
    evidence(examination, seen);
    users(examination, &others);
    if let Some(trouble) = gateway.close().await {
        examination.note("gateway", trouble);
    }
}

fn api_silent(examination: &mut Examination, error: &CallError) {
    if error.is_forbidden() {
        let hint = "renew the credentials of the context; every user may ask what it is allowed";
        return examination.problem("API", error.to_string(), hint);
    }
    let hint = "see whether the cluster runs and is reached from here: kubectl --context CONTEXT version";
    examination.unknown("API", error.to_string(), hint);
}

fn permitted(examination: &mut Examination, cluster: &Cluster, found: &Preview) {
    let all = found.answers.len();
    let missing: BTreeSet<String> =
        permissions::missing(&found.answers).map(permissions::Need::refusal).collect();
    let patch = permissions::patch(&found.answers, &Kubectl::of(cluster));
    let granted = found.answers.iter().filter(|answer| answer.allowed).count();
    if !missing.is_empty() {
        let missing: Vec<String> = missing.into_iter().collect();
        examination.problem(
            "permissions",
            format!("{granted} of {all} granted: {}", missing.join("; ")),
            format!("add what is missing to the Role that this user has:\n{patch}"),
        );
    } else {
        examination
            .ok("permissions", format!("{granted} of {all} granted, all that a run cannot do without"));
        if granted < all {
            let losses = permissions::losses(&found.answers).join("; ");
            let hint = format!("add what is missing to the Role that this user has:\n{patch}");
            examination.add("permissions", Standing::Note, losses, Some(hint));
        }
    }
    if found.may_do_everything {
        let words = "this user may do everything in the cluster, which is more than a run needs";
        examination.note("permissions", words);
    }
}

fn targets(examination: &mut Examination, found: &Preview) {
    for (component, prepared) in &found.faults {
        let subject = format!("component {component}");
        for refusal in &prepared.refusals {
            examination.problem(&subject, &refusal.reason, &refusal.hint);
        }
        if prepared.refusals.is_empty() {
            examination.ok(&subject, "it can be taken down, and nobody was found who would undo that");
        }
    }
    let warnings: BTreeSet<&String> =
        found.faults.iter().flat_map(|(_, prepared)| &prepared.warnings).collect();
    for warning in warnings {
        examination.note("cluster", warning);
    }
}

fn safety(examination: &mut Examination, environment: &Environment, found: &Preview) {
    match &found.lock {
        None => examination.ok("lock", "nobody holds it"),
        Some(_) => examination.note("lock", found.lock_words()),
    }
    for run in &found.open {
        let words = format!("what the run {run} has left would be undone before anything else");
        examination.add("earlier runs", Standing::Note, words, Some(environment.restore_command()));
    }
    if found.dead_man.is_missing() {
        examination.problem("dead-man switch", found.dead_man.words(), dead_man::HINT);
    } else {
        examination.ok("dead-man switch", found.dead_man.words());
    }
}

fn no_gateway(examination: &mut Examination, cluster: &Cluster, error: &NoGateway) {
    let gateway = &cluster.gateway;
    let kubectl = Kubectl::of(cluster);
    let is_key = match (error, &gateway.key) {
        (NoGateway::NoKey(_), _) => true,
        (NoGateway::Call(error), Some(KeySource::Secret { secret, .. })) => {
            error.target == ApiTarget::new("secrets", secret)
        }
        _ => false,
    };
    let wrong = if is_key { "correct `gateway.key`" } else { "correct `gateway`" };
    let hint = match error {
        NoGateway::NoPod { namespace, .. } => format!(
            "start it, or correct `gateway.pods`: {}",
            kubectl.line(namespace, format_args!("get pods -l {}", gateway.pods))
        ),
        NoGateway::NoKey(variable) => {
            format!("set ${variable} for this program; never write the key into a file")
        }
        NoGateway::Service(_) => {
            "correct `gateway.service` and `gateway.port` in the environment file".to_owned()
        }
        NoGateway::Call(error) if error.is_forbidden() => "give the right to read it".to_owned(),
        NoGateway::Call(error) if is_silent(error) => {
            "see whether the cluster is well, and look again".to_owned()
        }
        NoGateway::Call(_) => format!("{wrong} in the environment file"),
        NoGateway::Forward(_) | NoGateway::Page(_) => {
            let deployment = &gateway.deployment;
            let logs = format_args!("logs deployment/{}", deployment.name);
            format!("see why it does not answer: {}", kubectl.line(&deployment.namespace, logs))
        }
    };
    let standing = match error {
        NoGateway::Call(error) if is_silent(error) => Standing::Unknown,
        _ => Standing::Problem,
    };
    examination.add(if is_key { "key" } else { "gateway" }, standing, error.to_string(), Some(hint));
}

/// Nothing was said of what was asked about.
fn is_silent(error: &CallError) -> bool {
    // A Secret without the field is an answer, too.
    error.is_outcome_unknown() && !matches!(error.failure, Failure::Unreadable(_))
}

fn introduced(examination: &mut Examination, gateway: &Gateway, overhead: Option<&String>) {
    examination.ok("gateway", format!("it answers, and says that it is version {}", gateway.version));
    if gateway.version != LITELLM_VERSION {
        examination.note(
            "gateway",
            format!("what is said of cooldowns and hops was measured with LiteLLM {LITELLM_VERSION}"),
        );
    }
    for note in gateway.notes.iter().chain(overhead) {
        examination.note("gateway", note);
    }
}

/// What the gateway's own settings let expect.
pub(super) async fn foreseen(examination: &mut Examination, environment: &Environment, pages: Pages<'_>) {
    let read = match pages.routing().await {
        Ok([settings, info, models]) => outlook::read(&settings, &info, &models),
        Err(error) => Err(error.to_string()),
    };
    let outlook = outlook::outlook(read, environment);
    if let Some(why) = &outlook.not_known {
        return examination.note("settings", format!("what they let expect is not known: {why}"));
    }
    for warning in &outlook.warnings {
        examination.note("settings", warning);
    }
    if outlook.warnings.is_empty() {
        examination
            .ok("settings", "by its own settings no wait of a first request is longer than NFR123 allows");
    }
}

fn migrated(examination: &mut Examination, lines: Option<Vec<MigrationLine>>) {
    examination.migration.lines = lines.unwrap_or_default();
}

/// Whether the key is taken, and whether the gateway has what the environment names.
pub(super) fn models(
    examination: &mut Examination,
    environment: &Environment,
    listed: Result<Value, PageError>,
) {
    let listed = match listed {
        Ok(listed) => listed,
        Err(error) if error.is_key_refused() => {
            let hint = "correct `gateway.key` in the environment file: it must lead to the master key";
            return examination.problem("key", format!("the gateway does not take it: {error}"), hint);
        }
        Err(error) => {
            return examination.unknown("models", error.to_string(), "see the log of the gateway");
        }
    };
    examination.ok("key", "the gateway takes it");
    let models = listed["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    let known: BTreeSet<&str> = models.iter().filter_map(|model| model["id"].as_str()).collect();
    let named = environment.components.values().flat_map(|component| &component.aliases);
    let asked = environment.routes.values().flat_map(|route| route.fallbacks.iter().chain([&route.model]));
    let named: BTreeSet<&str> = named.chain(asked).map(String::as_str).collect();
    let missing: Vec<&str> = named.difference(&known).copied().collect();
    if missing.is_empty() {
        return examination.ok("models", format!("the gateway has all {} that are named", named.len()));
    }
    let hint = "correct the aliases in the environment file, or add them to the `model_list` of the gateway";
    examination.problem("models", format!("the gateway does not have {}", missing.join(", ")), hint);
}

/// By component, the pods that do not reach it.
type Unreached = Vec<(String, Vec<String>)>;

/// Why nothing is seen from the gateway's pods, and what to do.
struct Blind {
    why: String,
    hint: &'static str,
}

/// What the probers saw.
async fn look_from_pods(
    access: &Access,
    environment: &Environment,
    gateway: &Gateway,
) -> Result<Unreached, Blind> {
    let places = places(access, environment).await.map_err(|why| Blind {
        why,
        hint: "correct the component's `deployment`, `service` or `port` in the environment file",
    })?;
    let journal = Arc::new(Journal::of_nothing(Clock::starting_now()));
    let options = ProberOptions::new(gateway.pod_port, PROBED_AT_MOST);
    let container = gateway.container.as_deref();
    let fleet = Fleet::start(access, &gateway.pods, container, &places.looked_at, &options, &journal).await;
    let fleet = fleet.map_err(|error| Blind {
        why: error.to_string(),
        hint: "give the right to exec, and run the gateway in an image with Python 3.8 or newer; without that a run \
               goes on with weak evidence, and its times are inconclusive",
    })?;
    let waits = places.looked_at.iter().map(|target| fleet.wait_for(&target.component, true, UP_WITHIN));
    let waited = futures::future::join_all(waits).await;
    fleet.stop().await;
    let names = places.looked_at.iter().map(|target| target.component.clone());
    Ok(names
        .zip(waited)
        .map(|(name, up)| {
            let unlike = up.err().unwrap_or_default();
            (name, unlike.iter().map(ToString::to_string).collect())
        })
        .collect())
}

fn evidence(examination: &mut Examination, seen: Result<Unreached, Blind>) {
    let seen = match seen {
        Ok(seen) => seen,
        Err(Blind { why, hint }) => return examination.problem("evidence", why, hint),
    };
    examination.ok("evidence", "a prober can be started in the gateway's pods, and was stopped again");
    for (component, unlike) in seen {
        let subject = format!("component {component}");
        if unlike.is_empty() {
            examination.ok(&subject, "the gateway's pods reach it");
        } else {
            let found = format!("it is not reached from {}", unlike.join(", "));
            let hint =
                "a run begins with everything up: start it, or correct its `service`, `port` or `endpoint`";
            examination.problem(&subject, found, hint);
        }
    }
}

fn users(examination: &mut Examination, others: &Others) {
    match others {
        Others::None => {
            examination.ok("users", format!("nobody used the gateway for {} s", others::SEEN_IN.as_secs()));
        }
        Others::Calls { .. } => examination.problem("users", others.words(), others::IN_USE_HINT),
        Others::Connected(_) | Others::Unknown(_) => examination.note("users", others.words()),
    }
}

//! The routing decision: which deployment next, how long to wait, what to answer (section 2).
//!
//! No I/O, no clock, no hidden randomness. A driver starts one [`RequestWalk`] per client request and calls
//! [`RequestWalk::next`] with what happened last; it gets an [`Action`], performs it, and calls again. The
//! HTTP gateway drives it in real time, a predictor in virtual time. What outlives a request (cooldowns,
//! counters) is in the [`CooldownMemory`] that all walks share.
//!
//! LiteLLM is recursive: a group that fails opens a loop over its fallback list, and each target is a whole
//! run with its own retries that may open a loop in turn. Here each open loop is a `Loop` on a stack.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng;
use serde_json::{Map, Value};

use super::config::{GatewayConfig, RequestOverrides};
use super::cooldown::CooldownMemory;
use super::failure::{ErrorClass, Failure, SeenIn};
use super::provider;

use self::lists::{Found, is_of_the_prompt};
use self::retry::{backoff, is_retryable_status, worth_retrying};
use self::target::{Target, has_orders, order_levels, resolve, weighted_pick};

mod extras;
mod lists;
mod retry;
mod target;
mod text;

/// Of the accepted streams of one request that broke, only these many show in an error's headers: the first, and the
/// one that was accepted in its place. Those after it would show only once they yield something.
pub const BROKEN_STREAMS_TOLD: u32 = 2;

/// What happened since the last call.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Nothing yet: the first call.
    Started,
    /// The wait is over.
    Waited,
    /// The attempt succeeded; for a stream, its first chunk is there. Whoever reads the rest of it tells the
    /// [`CooldownMemory`] how it ended.
    Succeeded,
    /// The attempt failed, for a stream before the upstream's response headers.
    Failed(Failure),
    /// The upstream accepted a stream and broke it before its first chunk: no retry, straight to fallback.
    StreamFailed(Failure),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Call this deployment.
    Attempt {
        /// Index into [`GatewayConfig::deployments`].
        deployment: usize,
        /// Limit of each phase of the call.
        timeout: Duration,
    },
    /// Do nothing for this long.
    Wait(Duration),
    /// Answer the client; the walk is over.
    Answer(Answer),
}

/// What the client gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The reply of the attempt that just succeeded.
    Served(Served),
    /// An error; its status and text are final.
    Failed {
        /// What to tell the client.
        failure: Box<Failure>,
        /// The last stream that was accepted before it broke: such errors do carry attribution headers.
        broken_stream: Option<Served>,
    },
}

/// Who served, as the attribution headers tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Index of the deployment.
    pub deployment: usize,
    /// `x-litellm-model-group`: group, model string or id, as addressed in the last hop.
    pub group: String,
    /// Retries of the last hop only.
    pub attempted_retries: u32,
    /// The retry budget, present once there was a retry.
    pub max_retries: Option<u32>,
    /// What the hop header says, which is not always the number of hops.
    pub attempted_fallbacks: u32,
    /// Index of the deployment that `x-litellm-model-name` tells: the one that was called last.
    pub named: usize,
    /// An accepted stream broke before this one served: its token counts are added up, in more fields.
    pub after_broken_stream: bool,
    /// Nothing has failed in this request so far: a failure that its stream still meets is its first, and counts.
    pub unfailed: bool,
    /// What the chunks name as their model where it is not the server: the fallback that accepted the stream first
    /// and then broke it. LiteLLM settles the name when it gets the stream, not when it gets a chunk.
    pub chunks_name: Option<String>,
    /// The failures before it, innermost loop first, where the request asked for them.
    pub fallback_errors: Vec<FallbackError>,
}

/// One failure as the caller may be told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FallbackError {
    /// The failure's class.
    pub class: ErrorClass,
    /// Its status.
    pub status: u16,
    /// Its whole message.
    pub message: String,
}

impl From<&Failure> for FallbackError {
    fn from(failure: &Failure) -> Self {
        Self { class: failure.class, status: failure.status, message: failure.message.clone() }
    }
}

/// The model name that nothing in the configuration answers to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no group, model string or deployment id is named `{name}`")]
pub struct UnknownModel {
    /// The name.
    pub name: String,
}

/// One open loop over a fallback list.
#[derive(Debug, Clone, PartialEq)]
struct Loop {
    targets: Vec<Target>,
    next: usize,
    /// Depth of the target now running; what the hop header says if this loop is the outermost.
    depth: u32,
    /// Why the loop was opened: what its owner answers if the loop fails.
    cause: Failure,
    /// The group whose failure opened it.
    owner: Target,
    /// The last target's failure.
    last_failure: Failure,
    /// The cause and the failures of the targets, where the request asked for them.
    errors: Vec<FallbackError>,
    /// What it goes over, which decides what follows its failure.
    over: Over,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Over {
    /// The owner's list: the owner answers its own failure.
    List,
    /// The owner's group has several `order` levels: the owner answers the last failure as it is.
    Orders,
    /// The rest of the owner's deployments: its list is next.
    Rest,
}

/// One run of a group: its attempts and retries.
#[derive(Debug, Clone, PartialEq)]
struct GroupRun {
    target: Target,
    /// Retries made so far.
    retries: u32,
    /// Fixed by the first failure.
    budget: Option<Budget>,
    /// Set during the sleep after the last attempt.
    spent: Option<Failure>,
    /// Deployments that answered with a status that another try at them cannot change.
    skipped: BTreeSet<usize>,
    attempting: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Budget {
    retries: u32,
    /// From a retry policy, which beats the "worth retrying" test.
    by_policy: bool,
}

/// One client request on its way through the router.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestWalk {
    requested: Target,
    streaming: bool,
    overrides: RequestOverrides,
    loops: Vec<Loop>,
    /// Depth at which an accepted stream broke; 0 before that.
    base_depth: u32,
    broken_stream: Option<Served>,
    /// [`Served::chunks_name`].
    chunks_name: Option<String>,
    broken_streams: u32,
    attempted: BTreeSet<(String, Option<i64>)>,
    run: GroupRun,
    /// The first failure of a request is counted where it happens, no later one is.
    first_failure_seen: bool,
    /// A first failure inside an accepted stream, not counted yet. LiteLLM counts it only after it has picked the
    /// next deployment, and then against that one.
    stray: Option<Failure>,
    /// Deployments that have failed, where the rest of their groups is tried before the lists.
    failed_over: BTreeSet<usize>,
    /// Retries and hops so far, which `num_retries_per_request` limits.
    repeats: u32,
    /// Fields that replace those of the request's body.
    fields: Map<String, Value>,
}

impl GroupRun {
    fn new(target: Target) -> Self {
        Self { target, retries: 0, budget: None, spent: None, skipped: BTreeSet::new(), attempting: None }
    }
}

impl RequestWalk {
    /// Starts a walk for a request to `model`: a group, a model string or a deployment id, in that order.
    ///
    /// # Errors
    /// [`UnknownModel`] if nothing has that name.
    pub fn new(
        config: &GatewayConfig,
        model: &str,
        streaming: bool,
        overrides: RequestOverrides,
    ) -> Result<Self, UnknownModel> {
        let requested = resolve(config, model).ok_or_else(|| UnknownModel { name: model.to_owned() })?;
        let run = GroupRun::new(requested.clone());
        Ok(Self {
            requested,
            streaming,
            overrides,
            loops: Vec::new(),
            base_depth: 0,
            broken_stream: None,
            chunks_name: None,
            broken_streams: 0,
            attempted: BTreeSet::new(),
            run,
            first_failure_seen: false,
            stray: None,
            failed_over: BTreeSet::new(),
            repeats: 0,
            fields: Map::new(),
        })
    }

    /// Fields that replace those of the request's body in the next attempt.
    #[must_use]
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// Takes what happened and says what to do next.
    ///
    /// After [`Action::Answer`] the walk is over; calling again repeats the last group's run.
    pub fn next(
        &mut self,
        config: &GatewayConfig,
        memory: &mut CooldownMemory,
        now: Duration,
        event: Event,
        rng: &mut impl Rng,
    ) -> Action {
        let mut step = self.take(config, memory, now, event);
        loop {
            step = match step {
                Step::Pick => match self.pick(config, memory, now, rng) {
                    Ok(deployment) => {
                        self.run.attempting = Some(deployment);
                        if let Some(broken) = &mut self.broken_stream {
                            broken.named = deployment;
                        }
                        self.count_stray(config, memory, now, deployment);
                        if let Some(failure) = self.past_the_cap(config, deployment) {
                            step = Step::AttemptFailed(self.stamped(config, failure));
                            continue;
                        }
                        let timeout = config.attempt_timeout(deployment, self.streaming, &self.overrides);
                        return Action::Attempt { deployment, timeout };
                    }
                    Err(refusal) => {
                        self.first_failure_seen = true;
                        Step::AttemptFailed(refusal)
                    }
                },
                Step::AttemptFailed(failure) => match self.after_failure(config, memory, now, failure, rng) {
                    AfterFailure::Sleep(sleep) if sleep.is_zero() => match self.run.spent.take() {
                        Some(failure) => Step::GroupFailed(failure),
                        None => Step::Pick,
                    },
                    AfterFailure::Sleep(sleep) => return Action::Wait(sleep),
                    AfterFailure::GiveUp(failure) => Step::GroupFailed(failure),
                },
                Step::GroupFailed(failure) => {
                    if self.fail_over_within(config, memory, now, &failure) {
                        Step::NextTarget
                    } else {
                        Step::RestFailed(failure)
                    }
                }
                Step::RestFailed(failure) => match self.open_loop(config, failure) {
                    Ok(()) => Step::NextTarget,
                    Err(failure) => Step::HopFailed(failure),
                },
                Step::NextTarget => self.next_target(config),
                Step::Done(action) => {
                    self.count_stray_at_home(config, memory, now);
                    return action;
                }
                Step::HopFailed(failure) => match self.loops.last_mut() {
                    None => {
                        self.count_stray_at_home(config, memory, now);
                        let failure = Box::new(text::final_failure(failure));
                        let broken_stream = self.broken_stream.take();
                        return Action::Answer(Answer::Failed { failure, broken_stream });
                    }
                    Some(current) => {
                        current.last_failure = failure.clone();
                        current.errors.push(FallbackError::from(&failure));
                        if let Some(deployment) = self.countable(&failure) {
                            memory.count_failure(config, deployment, &failure, now);
                        }
                        Step::NextTarget
                    }
                },
            };
        }
    }

    /// What an event leads to.
    fn take(
        &mut self,
        config: &GatewayConfig,
        memory: &mut CooldownMemory,
        now: Duration,
        event: Event,
    ) -> Step {
        match event {
            Event::Started => Step::Pick,
            Event::Waited => match self.run.spent.take() {
                Some(failure) => Step::GroupFailed(failure),
                None => Step::Pick,
            },
            Event::Succeeded => Step::Done(self.served(memory, now)),
            Event::Failed(failure) => {
                let failure = self.count_first(config, memory, now, failure);
                Step::AttemptFailed(failure)
            }
            Event::StreamFailed(failure) => {
                let failure = self.stamped(config, failure);
                if !std::mem::replace(&mut self.first_failure_seen, true) {
                    self.stray = Some(failure.clone());
                }
                let accepted = self.attribution();
                if self.broken_stream.is_none() && accepted.attempted_fallbacks > 0 {
                    self.chunks_name = Some(accepted.group.clone());
                }
                self.broken_streams += 1;
                if self.broken_streams <= BROKEN_STREAMS_TOLD {
                    self.broken_stream = Some(accepted);
                }
                if ends_open_stream(&failure) {
                    let broken_stream = self.broken_stream.take();
                    return Step::Done(Action::Answer(Answer::Failed {
                        failure: Box::new(failure),
                        broken_stream,
                    }));
                }
                self.leave_finished_loops();
                Step::GroupFailed(failure)
            }
        }
    }

    fn served(&mut self, memory: &mut CooldownMemory, now: Duration) -> Action {
        let served = self.attribution();
        // A stream is one only at its end, which the walk does not see.
        if !self.streaming {
            memory.count_success(served.deployment, now);
        }
        Action::Answer(Answer::Served(served))
    }

    /// What the headers say of the attempt that was made last.
    fn attribution(&self) -> Served {
        let budget = self.run.budget.filter(|_| self.run.retries > 0);
        let deployment = self.run.attempting.unwrap_or_default();
        Served {
            deployment,
            named: deployment,
            group: self.run.target.name().to_owned(),
            attempted_retries: self.run.retries,
            max_retries: budget.map(|budget| budget.retries),
            // Each loop writes its own depth into the header on the way out, the outermost last.
            attempted_fallbacks: self.loops.first().map_or(self.base_depth, |outermost| outermost.depth),
            after_broken_stream: self.broken_streams > 0,
            unfailed: !self.first_failure_seen,
            chunks_name: self.chunks_name.clone(),
            fallback_errors: if self.overrides.include_fallback_errors {
                self.loops.iter().rev().flat_map(|open| open.errors.clone()).collect()
            } else {
                Vec::new()
            },
        }
    }

    /// A failure with its deployment and timeout.
    fn stamped(&self, config: &GatewayConfig, mut failure: Failure) -> Failure {
        failure.deployment = self.run.attempting;
        failure.timeout = self
            .run
            .attempting
            .map(|deployment| config.attempt_timeout(deployment, self.streaming, &self.overrides));
        failure
    }

    /// Counts the stray failure, if there is one, against `deployment`.
    fn count_stray(
        &mut self,
        config: &GatewayConfig,
        memory: &mut CooldownMemory,
        now: Duration,
        deployment: usize,
    ) {
        if let Some(failure) = self.stray.take().filter(|failure| self.countable(failure).is_some()) {
            memory.count_failure(config, deployment, &failure.without_class(), now);
        }
    }

    /// The same against its own deployment: no other was picked.
    fn count_stray_at_home(&mut self, config: &GatewayConfig, memory: &mut CooldownMemory, now: Duration) {
        if let Some(deployment) = self.stray.as_ref().and_then(|failure| failure.deployment) {
            self.count_stray(config, memory, now, deployment);
        }
    }

    /// Stamps a failure, and counts it if it is the request's first.
    fn count_first(
        &mut self,
        config: &GatewayConfig,
        memory: &mut CooldownMemory,
        now: Duration,
        failure: Failure,
    ) -> Failure {
        let failure = self.stamped(config, failure);
        if !self.first_failure_seen {
            self.first_failure_seen = true;
            if let Some(deployment) = self.countable(&failure) {
                memory.count_failure(config, deployment, &failure, now);
            }
        }
        failure
    }

    /// The deployment to count a failure against: none for refusals and for timeouts of the caller's making.
    fn countable(&self, failure: &Failure) -> Option<usize> {
        let callers_timeout = failure.seen_in == SeenIn::Timer && self.overrides.names_timeout;
        failure.deployment.filter(|_| !callers_timeout)
    }

    /// The loops around a stream that was accepted have returned: what happens next has only their depth.
    fn leave_finished_loops(&mut self) {
        self.base_depth = self.depth();
        self.loops.clear();
    }

    fn depth(&self) -> u32 {
        self.loops.last().map_or(self.base_depth, |current| current.depth)
    }

    /// Step 2: a deployment that is not in cooldown, of the lowest order, by weight.
    fn pick(
        &self,
        config: &GatewayConfig,
        memory: &CooldownMemory,
        now: Duration,
        rng: &mut impl Rng,
    ) -> Result<usize, Failure> {
        let target = &self.run.target;
        if let Target::Nothing(name) = target {
            return Err(text::nothing_has_this_name(name));
        }
        let members = target.members(config);
        let mut candidates = members.clone();
        if let Target::Remaining { without, .. } = target {
            candidates.retain(|deployment| !without.contains(deployment));
        }
        if !matches!(target, Target::Deployment { .. }) {
            candidates.retain(|deployment| !memory.is_cooled(*deployment, now));
        }
        let order_of = |deployment: &usize| config.deployments[*deployment].order;
        match target {
            Target::Group { order: Some(order), .. } => candidates.retain(|d| order_of(d) == Some(*order)),
            _ => {
                if let Some(lowest) = candidates.iter().filter_map(order_of).min() {
                    candidates.retain(|deployment| order_of(deployment) == Some(lowest));
                }
            }
        }
        let fresh: Vec<usize> =
            candidates.iter().copied().filter(|d| !self.run.skipped.contains(d)).collect();
        if !fresh.is_empty() {
            candidates = fresh;
        }
        weighted_pick(config, &candidates, rng).ok_or_else(|| {
            text::no_deployments(config, memory, now, target.name(), &members, target.is_group())
        })
    }

    /// Step 4: retry, and after which sleep; or not.
    fn after_failure(
        &mut self,
        config: &GatewayConfig,
        memory: &CooldownMemory,
        now: Duration,
        failure: Failure,
        rng: &mut impl Rng,
    ) -> AfterFailure {
        let members = self.run.target.members(config);
        let healthy = match self.run.target {
            Target::Deployment { .. } => 1,
            _ => members.iter().filter(|deployment| !memory.is_cooled(**deployment, now)).count(),
        };
        let budget = self.run.budget.unwrap_or_else(|| self.budget(config, &failure));
        if !budget.by_policy && !worth_retrying(&failure, members.len(), healthy) {
            return AfterFailure::GiveUp(failure);
        }
        if budget.retries == 0 {
            return AfterFailure::GiveUp(failure);
        }
        self.run.budget = Some(budget);
        self.repeats += 1;
        if !is_retryable_status(failure.inner_status()) {
            self.run.skipped.extend(failure.deployment);
        }
        // Sleep number k = retries made so far; the one after the last attempt serves nothing but is slept.
        let sleep = if members.len() != 1 && healthy > 0 {
            Duration::ZERO
        } else {
            backoff(self.run.retries, config.router.retry_after, failure.retry_after_s, rng)
        };
        if self.run.retries >= budget.retries {
            let spent = Failure { retries_spent: Some(budget.retries), ..failure };
            self.run.spent = Some(spent);
        } else {
            self.run.retries += 1;
        }
        AfterFailure::Sleep(sleep)
    }

    /// Request (0 beats even a policy) > policy > request > deployment > router.
    fn budget(&self, config: &GatewayConfig, failure: &Failure) -> Budget {
        let by_request = self.overrides.num_retries;
        if by_request != Some(0) {
            let group = self.run.target.name();
            let of_group = config.router.group_retry_policy.iter().find(|(name, _)| name == group);
            let policy = of_group.map(|(_, policy)| policy).or(config.router.retry_policy.as_ref());
            if let Some(retries) = policy.and_then(|policy| policy.get(failure.class)) {
                return Budget { retries, by_policy: true };
            }
        }
        let of_deployment =
            failure.deployment.and_then(|deployment| config.deployments[deployment].num_retries);
        let retries = by_request.or(of_deployment).unwrap_or(config.router.num_retries);
        Budget { retries, by_policy: false }
    }

    /// Step 5: opens the loop over the failed group's fallback list, or says with what the hop failed.
    fn open_loop(&mut self, config: &GatewayConfig, mut failure: Failure) -> Result<(), Failure> {
        if self.overrides.disable_fallbacks {
            return Err(failure);
        }
        let depth = self.depth();
        // Only the primary's own failure is explained, and not the failure of a stream that was accepted.
        let explains = depth == 0 && self.broken_stream.is_none();
        let owner = self.run.target.clone();
        let mut targets =
            if is_of_the_prompt(failure.class) { Vec::new() } else { order_levels(config, &owner) };
        let by_orders = has_orders(config, &owner) && !is_of_the_prompt(failure.class);
        let over = if by_orders { Over::Orders } else { Over::List };
        let found = lists::find(config, &self.overrides, &mut failure, owner.name(), self.requested.name());
        match found {
            Found::Targets(list) => targets.extend(list),
            _ if !targets.is_empty() => {}
            Found::NoList => {
                if explains {
                    let lists = lists::general(config, &self.overrides);
                    text::append(&mut failure, &text::no_list(owner.name(), lists));
                }
                return Err(failure);
            }
            Found::NoLists => {
                if explains {
                    text::append(&mut failure, &text::chain_failed(owner.name(), &[], ""));
                }
                return Err(failure);
            }
        }
        self.attempted.insert(owner.key());
        if depth >= self.max_fallbacks(config) {
            if explains && over == Over::List {
                let detail = text::quoted(config, &failure);
                let appended = text::chain_failed(owner.name(), &names(&targets), &detail);
                text::append(&mut failure, &appended);
            }
            return Err(failure);
        }
        self.push_loop(targets, depth, failure, owner, over);
        Ok(())
    }

    fn max_fallbacks(&self, config: &GatewayConfig) -> u32 {
        self.overrides.max_fallbacks.unwrap_or(config.router.max_fallbacks)
    }

    fn push_loop(&mut self, targets: Vec<Target>, depth: u32, cause: Failure, owner: Target, over: Over) {
        let last_failure = cause.clone();
        let errors = vec![FallbackError::from(&cause)];
        self.loops.push(Loop { targets, next: 0, depth, cause, owner, last_failure, errors, over });
    }

    /// The next target that was not tried yet, or the end of the innermost loop.
    fn next_target(&mut self, config: &GatewayConfig) -> Step {
        let Some(mut current) = self.loops.pop() else { return Step::Pick };
        while let Some(target) = current.targets.get(current.next).cloned() {
            current.next += 1;
            if self.attempted.insert(target.key()) {
                current.depth += 1;
                self.loops.push(current);
                self.repeats += 1;
                self.run = GroupRun::new(self.without_fields(target));
                return Step::Pick;
            }
        }
        let mut failure = current.cause;
        match current.over {
            Over::List => {}
            Over::Orders => return Step::HopFailed(current.last_failure),
            Over::Rest => {
                self.run = GroupRun::new(current.owner);
                return Step::RestFailed(failure);
            }
        }
        if self.depth() == 0 && self.broken_stream.is_none() {
            let detail = text::quoted(config, &current.last_failure);
            let appended = text::chain_failed(current.owner.name(), &names(&current.targets), &detail);
            text::append(&mut failure, &appended);
        }
        Step::HopFailed(failure)
    }
}

enum Step {
    Done(Action),
    Pick,
    AttemptFailed(Failure),
    GroupFailed(Failure),
    /// So have the group's other deployments, or they are not to be tried.
    RestFailed(Failure),
    NextTarget,
    HopFailed(Failure),
}

enum AfterFailure {
    Sleep(Duration),
    GiveUp(Failure),
}

fn names(targets: &[Target]) -> Vec<String> {
    targets.iter().map(Target::shown).collect()
}

/// Whether an error of an open stream goes to the client without fallback: client errors but 429.
fn ends_open_stream(failure: &Failure) -> bool {
    (400..500).contains(&failure.status) && failure.status != 429
}

#[cfg(test)]
mod tests;

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::*;
use crate::gateway::config::RequestFallbacks;
use crate::gateway::failure::ErrorClass;

const KIMI: usize = 0;
const MINIMAX: usize = 1;
const VLLM: usize = 2;
const OLLAMA: usize = 3;

/// The chain of the stack with the given router settings; timeouts as the settings say.
fn chain(mut router: Value) -> GatewayConfig {
    let entry = |name: &str, model: &str| {
        json!({ "model_name": name, "model_info": { "id": format!("id-{name}") },
            "litellm_params": { "model": model, "api_base": "http://127.0.0.1:1" } })
    };
    router["fallbacks"] = json!([{ "kimi": ["minimax", "vllm", "ollama"] }]);
    GatewayConfig::from_value(&json!({
        "model_list": [
            entry("kimi", "ollama_chat/k"), entry("minimax", "ollama_chat/m"),
            entry("vllm", "hosted_vllm/v"), entry("ollama", "ollama_chat/o"),
        ],
        "router_settings": router,
    }))
    .unwrap()
}

fn tuned(extra: Value) -> GatewayConfig {
    let mut settings = json!({ "num_retries": 0, "timeout": 2, "allowed_fails": 1, "cooldown_time": 30 });
    settings.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    chain(settings)
}

/// What a deployment does in a simulation.
#[derive(Debug, Clone, PartialEq)]
enum Upstream {
    Serves,
    Fails(Failure),
    Hangs,
    BreaksStreams,
    BreaksStreamsWith(Failure),
}

fn fails(status: u16) -> Upstream {
    let class = match status {
        401 => ErrorClass::Authentication,
        429 => ErrorClass::RateLimit,
        503 => ErrorClass::ServiceUnavailable,
        400 => ErrorClass::BadRequest,
        _ => ErrorClass::InternalServer,
    };
    Upstream::Fails(Failure::with_status(class, status))
}

fn refuses() -> Upstream {
    Upstream::Fails(Failure::with_status(ErrorClass::ApiConnection, 500))
}

/// A virtual world: one router memory, one clock.
struct World {
    config: GatewayConfig,
    upstreams: Vec<Upstream>,
    memory: CooldownMemory,
    now: Duration,
    rng: ChaCha8Rng,
}

struct Run {
    answer: Answer,
    elapsed: f64,
    attempts: Vec<usize>,
    waits: usize,
}

impl Run {
    fn served_by(&self) -> (usize, u32) {
        match &self.answer {
            Answer::Served(served) => (served.deployment, served.attempted_fallbacks),
            Answer::Failed { failure, .. } => panic!("not served: {}", failure.message),
        }
    }

    fn status(&self) -> u16 {
        match &self.answer {
            Answer::Served(_) => 200,
            Answer::Failed { failure, .. } => failure.status,
        }
    }
}

impl World {
    fn new(config: GatewayConfig, upstreams: [Upstream; 4], seed: u64) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let upstreams = upstreams.to_vec();
        Self { config, upstreams, memory: CooldownMemory::default(), now: Duration::ZERO, rng }
    }

    fn request(&mut self, model: &str, streaming: bool, overrides: RequestOverrides) -> Run {
        let mut walk = RequestWalk::new(&self.config, model, streaming, overrides).unwrap();
        let started = self.now;
        let (mut attempts, mut waits) = (vec![0; self.upstreams.len()], 0);
        let mut event = Event::Started;
        for _ in 0..500 {
            event = match walk.next(&self.config, &mut self.memory, self.now, event, &mut self.rng) {
                Action::Answer(answer) => {
                    let elapsed = (self.now - started).as_secs_f64();
                    return Run { answer, elapsed, attempts, waits };
                }
                Action::Wait(pause) => {
                    waits += 1;
                    self.now += pause;
                    Event::Waited
                }
                Action::Attempt { deployment, timeout } => {
                    let by_id = model.starts_with("id-");
                    // A stray failure cools whoever is attempted next.
                    let strays = self.upstreams.iter().any(|u| matches!(u, Upstream::BreaksStreamsWith(_)));
                    assert!(
                        by_id || strays || !self.memory.is_cooled(deployment, self.now),
                        "attempted {deployment} in cooldown"
                    );
                    attempts[deployment] += 1;
                    match self.upstreams[deployment].clone() {
                        Upstream::Serves => Event::Succeeded,
                        Upstream::Fails(failure) => Event::Failed(failure),
                        Upstream::BreaksStreams if streaming => {
                            Event::StreamFailed(Failure::with_status(ErrorClass::ApiConnection, 500))
                        }
                        Upstream::BreaksStreamsWith(failure) if streaming => Event::StreamFailed(failure),
                        Upstream::BreaksStreams | Upstream::BreaksStreamsWith(_) => Event::Succeeded,
                        Upstream::Hangs => {
                            self.now += timeout;
                            let failure = Failure::with_status(ErrorClass::Timeout, 408);
                            Event::Failed(Failure { seen_in: SeenIn::Timer, ..failure })
                        }
                    }
                }
            };
        }
        panic!("the walk did not end");
    }

    fn ask(&mut self) -> Run {
        self.request("kimi", false, RequestOverrides::default())
    }
}

fn cloud(fault: Upstream) -> [Upstream; 4] {
    [fault.clone(), fault, Upstream::Serves, Upstream::Serves]
}

#[test]
fn stock_settings_pay_two_rounds_of_retries_on_every_request() {
    for fault in [fails(500), fails(429), refuses()] {
        let (mut least, mut most) = (f64::MAX, 0.0_f64);
        for seed in 0..200 {
            let mut world = World::new(chain(json!({})), cloud(fault.clone()), seed);
            for _ in 0..2 {
                let run = world.ask();
                assert_eq!(run.attempts, [3, 3, 1, 0]);
                assert_eq!(run.waits, 6, "N+1 sleeps in each group");
                assert_eq!(run.served_by(), (VLLM, 1), "the header says 1 after two hops");
                least = least.min(run.elapsed);
                most = most.max(run.elapsed);
            }
        }
        assert!((7.0..7.9).contains(&least) && (10.6..11.5).contains(&most), "{least} {most}");
    }
}

/// Attempts and seconds of the 1st, 2nd, ... request.
fn series(config: GatewayConfig, upstreams: [Upstream; 4], count: usize) -> Vec<(Vec<usize>, f64)> {
    let mut world = World::new(config, upstreams, 1);
    (0..count)
        .map(|_| {
            let run = world.ask();
            assert_eq!(run.served_by().0, VLLM);
            (run.attempts, run.elapsed)
        })
        .collect()
}

#[test]
fn tuned_settings_reproduce_the_measured_series() {
    let hang = series(tuned(json!({})), cloud(Upstream::Hangs), 8);
    assert_eq!(hang[0], (vec![1, 1, 1, 0], 4.0));
    assert_eq!(hang[1], (vec![1, 1, 1, 0], 4.0));
    for later in &hang[2..] {
        assert_eq!(*later, (vec![0, 1, 1, 0], 2.0), "minimax is never counted");
    }
    let failing = series(tuned(json!({})), cloud(fails(500)), 5);
    let attempts: Vec<_> = failing.iter().map(|(attempts, _)| attempts[KIMI]).collect();
    assert_eq!(attempts, [1, 1, 0, 0, 0]);
    let refused = series(tuned(json!({})), cloud(refuses()), 5);
    assert!(refused.iter().all(|(attempts, _)| attempts[..2] == [1, 1]), "never cooled");
    let denied = series(chain(json!({})), cloud(fails(401)), 2);
    assert_eq!((denied[0].0[KIMI], denied[1].0[KIMI]), (1, 0), "no retries, cooled at once");
}

#[test]
fn max_fallbacks_of_one_walks_in_the_outer_loop_and_counts_every_hop() {
    let mut world = World::new(tuned(json!({ "max_fallbacks": 1 })), cloud(Upstream::Hangs), 1);
    let runs: Vec<Run> = (0..5).map(|_| world.ask()).collect();
    let elapsed: Vec<f64> = runs.iter().map(|run| run.elapsed).collect();
    assert_eq!(elapsed, [4.0, 4.0, 0.0, 0.0, 0.0]);
    assert!(runs.iter().all(|run| run.served_by() == (VLLM, 2)), "cooled hops count in the header");
    let strict = tuned(json!({ "max_fallbacks": 1, "allowed_fails": 0 }));
    let series = series(strict, cloud(fails(500)), 2);
    assert_eq!(series[0].0, [1, 1, 1, 0]);
    assert_eq!(series[1].0, [0, 0, 1, 0]);
}

#[test]
fn a_cooldown_removes_the_primarys_retries_but_not_a_hidden_hops() {
    let settings = json!({ "num_retries": 2, "allowed_fails": 0, "timeout": 3, "cooldown_time": 20 });
    let mut world = World::new(chain(settings), cloud(Upstream::Hangs), 3);
    let first = world.ask();
    assert_eq!(first.attempts, [1, 3, 1, 0]);
    assert!((15.5..17.75).contains(&first.elapsed), "{}", first.elapsed);
    let second = world.ask();
    assert_eq!(second.attempts, [0, 3, 1, 0]);
    assert!((12.5..14.75).contains(&second.elapsed), "{}", second.elapsed);
}

#[test]
fn a_retry_after_replaces_the_backoff() {
    let limited = Failure { retry_after_s: Some(3), ..Failure::with_status(ErrorClass::RateLimit, 429) };
    let upstreams = [Upstream::Fails(limited), Upstream::Serves, Upstream::Serves, Upstream::Serves];
    let run = World::new(chain(json!({})), upstreams, 5).ask();
    assert_eq!((run.attempts[KIMI], run.waits), (3, 3));
    assert!((9.0..11.25).contains(&run.elapsed), "{}", run.elapsed);
    assert_eq!(run.served_by(), (MINIMAX, 1));
}

#[test]
fn when_all_fail_the_primarys_error_is_answered_and_then_the_cooldown() {
    let all = || [fails(503), fails(500), fails(500), fails(500)];
    let mut world = World::new(tuned(json!({ "max_fallbacks": 1, "allowed_fails": 0 })), all(), 1);
    let first = world.ask();
    let Answer::Failed { failure, broken_stream: None } = &first.answer else { panic!("served") };
    assert_eq!(failure.status, 503);
    assert!(failure.message.contains("group 'kimi' failed"), "{}", failure.message);
    assert!(failure.message.contains("Fallback to minimax, vllm, ollama also failed"));
    let second = world.ask();
    assert_eq!((second.status(), second.attempts), (429, vec![0; 4]));
    let Answer::Failed { failure, .. } = &second.answer else { panic!("served") };
    let all_ids = "cooldown_list=['id-kimi', 'id-minimax', 'id-vllm', 'id-ollama']";
    assert!(failure.message.ends_with(all_ids), "{}", failure.message);
    assert_eq!(failure.cooldown, Some(Duration::from_secs(30)));

    // Without the outer loop the hops of a chain that failed as a whole are counted all the same.
    let mut world = World::new(tuned(json!({ "allowed_fails": 0 })), all(), 1);
    assert_eq!(world.ask().status(), 503);
    assert_eq!(world.ask().attempts, [0; 4]);
}

#[test]
fn the_text_of_a_cooled_hop_forces_429() {
    let config = tuned(json!({ "max_fallbacks": 1, "allowed_fails": 0 }));
    let mut world = World::new(config, [fails(500), fails(500), fails(500), fails(500)], 1);
    assert_eq!(world.request("ollama", false, RequestOverrides::default()).status(), 500);
    let run = world.ask();
    assert_eq!((run.attempts.clone(), run.status()), (vec![1, 1, 1, 0], 429));
}

#[test]
fn a_deployment_id_passes_the_cooldown() {
    let config = tuned(json!({ "allowed_fails": 0 }));
    let mut world = World::new(config, cloud(fails(500)), 1);
    world.ask();
    world.upstreams[KIMI] = Upstream::Serves;
    assert_eq!(world.ask().attempts[KIMI], 0);
    let run = world.request("id-kimi", false, RequestOverrides::default());
    assert_eq!(run.served_by(), (KIMI, 0));
}

#[test]
fn a_timeout_that_the_caller_set_is_not_counted() {
    let config = tuned(json!({ "max_fallbacks": 1, "allowed_fails": 0 }));
    let mut world = World::new(config, cloud(Upstream::Hangs), 1);
    let request = RequestOverrides {
        timeout: Some(Duration::from_millis(500)),
        names_timeout: true,
        ..RequestOverrides::default()
    };
    for _ in 0..3 {
        let run = world.request("kimi", false, request.clone());
        assert_eq!((run.attempts, run.elapsed), (vec![1, 1, 1, 0], 1.0));
    }
}

#[test]
fn an_accepted_stream_that_breaks_goes_on_without_retry() {
    let upstreams = cloud(Upstream::BreaksStreams);
    let mut world = World::new(chain(json!({})), upstreams.clone(), 1);
    let run = world.request("kimi", true, RequestOverrides::default());
    assert_eq!((run.attempts.clone(), run.waits), (vec![1, 1, 1, 0], 0));
    assert_eq!(run.served_by(), (VLLM, 2), "here the hop header is right");
    // With `max_fallbacks: 1` a second broken stream is the end: the outer loop has returned already.
    let mut world = World::new(tuned(json!({ "max_fallbacks": 1 })), upstreams, 1);
    let run = world.request("kimi", true, RequestOverrides::default());
    assert_eq!((run.attempts.clone(), run.status()), (vec![1, 1, 0, 0], 500));
    let Answer::Failed { broken_stream: Some(stream), .. } = run.answer else { panic!("no stream") };
    assert_eq!((stream.deployment, stream.attempted_fallbacks), (MINIMAX, 1));
}

#[test]
fn chunks_name_the_fallback_that_accepted_the_stream_first() {
    let named = |kimi: Upstream, minimax: Upstream| {
        let mut world = World::new(chain(json!({})), [kimi, minimax, Upstream::Serves, Upstream::Serves], 1);
        let run = world.request("kimi", true, RequestOverrides::default());
        assert_eq!(run.served_by().0, VLLM);
        let Answer::Served(served) = run.answer else { panic!("failed") };
        served.chunks_name
    };
    assert_eq!(named(fails(401), Upstream::BreaksStreams).as_deref(), Some("minimax"));
    assert_eq!(
        named(Upstream::BreaksStreams, Upstream::BreaksStreams),
        None,
        "asked for, so no fallback then"
    );
    assert_eq!(named(Upstream::BreaksStreams, fails(401)), None);
}

#[test]
fn an_error_inside_an_accepted_stream_is_counted_against_the_next_deployment() {
    // As a hosted_vllm error event does: a class that cools, unlike a broken connection.
    let broken = Upstream::BreaksStreamsWith(Failure::with_status(ErrorClass::InternalServer, 500));
    let config = tuned(json!({ "allowed_fails": 0, "max_fallbacks": 1 }));
    let mut world = World::new(config, [broken.clone(), broken, Upstream::Serves, Upstream::Serves], 3);
    let mut series = || {
        let run = world.request("kimi", true, RequestOverrides::default());
        (run.status(), run.attempts, world.memory.cooled(world.now))
    };
    assert_eq!(series(), (500, vec![1, 1, 0, 0], vec![MINIMAX]));
    assert_eq!(series(), (200, vec![1, 0, 1, 0], vec![MINIMAX, VLLM]), "who serves is put into cooldown");
    assert_eq!(series(), (200, vec![1, 0, 0, 1], vec![MINIMAX, VLLM, OLLAMA]));
    assert_eq!(series(), (500, vec![1, 0, 0, 0], vec![KIMI, MINIMAX, VLLM, OLLAMA]), "no other was picked");
    assert_eq!(series(), (429, vec![0, 0, 0, 0], vec![KIMI, MINIMAX, VLLM, OLLAMA]));
}

#[test]
fn no_policy_knows_the_class_of_an_error_inside_a_stream() {
    let broken = Failure::with_status(ErrorClass::InternalServer, 500);
    let policy =
        json!({ "allowed_fails": 3, "allowed_fails_policy": { "InternalServerErrorAllowedFails": 0 } });
    for (primary, cooled) in
        [(Upstream::Fails(broken.clone()), vec![KIMI]), (Upstream::BreaksStreamsWith(broken), vec![])]
    {
        let upstreams = [primary, Upstream::Serves, Upstream::Serves, Upstream::Serves];
        let mut world = World::new(tuned(policy.clone()), upstreams, 3);
        world.request("kimi", true, RequestOverrides::default());
        assert_eq!(world.memory.cooled(world.now), cooled);
    }
}

#[test]
fn only_the_first_two_broken_streams_show_in_an_errors_headers() {
    let config = tuned(json!({ "allowed_fails": 3 }));
    let broken = || Upstream::BreaksStreams;
    let mut world = World::new(config, [broken(), broken(), broken(), broken()], 3);
    let run = world.request("kimi", true, RequestOverrides::default());
    assert_eq!(run.attempts, [1, 1, 1, 1]);
    match run.answer {
        Answer::Failed { broken_stream: Some(told), .. } => {
            assert_eq!((told.deployment, told.attempted_fallbacks), (MINIMAX, 1));
            assert_eq!(told.named, OLLAMA, "the model's name is that of the last call");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_403_of_unknown_class_is_tried_again() {
    let attempts = |class| {
        let denied = Upstream::Fails(Failure::with_status(class, 403));
        let mut world = World::new(chain(json!({ "num_retries": 1 })), cloud(denied), 1);
        world.ask().attempts
    };
    assert_eq!(attempts(ErrorClass::PermissionDenied), [1, 1, 1, 0]);
    assert_eq!(attempts(ErrorClass::Api), [2, 2, 1, 0]);
}

#[test]
fn a_200_that_is_not_json_is_neither_retried_nor_forgiven() {
    let garbage = Failure::with_status(ErrorClass::Api, 500);
    let garbage = Upstream::Fails(Failure { seen_in: SeenIn::Garbage, ..garbage });
    let mut world = World::new(chain(json!({ "num_retries": 2 })), cloud(garbage), 1);
    assert_eq!(world.ask().attempts, [1, 1, 1, 0]);
    assert!(world.memory.is_cooled(KIMI, world.now), "by the built-in rules, at once");
}

#[test]
fn with_higher_orders_the_last_failure_is_the_answer() {
    let mut value =
        json!({ "model_list": [], "router_settings": { "num_retries": 0, "fallbacks": [{ "g": ["h"] }] } });
    for (group, order) in [("g", json!(1)), ("g", json!(2)), ("h", Value::Null)] {
        let index = value["model_list"].as_array().unwrap().len();
        value["model_list"].as_array_mut().unwrap().push(json!({
            "model_name": group, "model_info": { "id": format!("d{index}") },
            "litellm_params": { "model": "ollama_chat/m", "api_base": "http://127.0.0.1:1", "order": order } }));
    }
    let config = GatewayConfig::from_value(&value).unwrap();
    let mut world = World::new(config, [fails(500), fails(503), fails(400), Upstream::Serves], 1);
    let run = world.request("g", false, RequestOverrides::default());
    assert_eq!((run.status(), &run.attempts[..3]), (400, &[1, 1, 1][..]));
    match run.answer {
        Answer::Failed { failure, .. } => {
            assert!(!failure.message.contains("LiteLLM: model group"), "{}", failure.message)
        }
        Answer::Served(served) => panic!("{served:?}"),
    }
}

#[test]
fn a_stream_is_unfailed_only_where_nothing_failed_before_it() {
    let unfailed = |upstreams| {
        let mut world = World::new(tuned(json!({})), upstreams, 1);
        match world.request("kimi", true, RequestOverrides::default()).answer {
            Answer::Served(served) => served.unfailed,
            Answer::Failed { failure, .. } => panic!("{}", failure.message),
        }
    };
    assert!(unfailed(cloud(Upstream::Serves)));
    assert!(!unfailed(cloud(fails(500))));
}

#[test]
fn request_overrides_apply() {
    let world = || World::new(chain(json!({})), cloud(fails(500)), 1);
    let once = RequestOverrides { num_retries: Some(1), ..RequestOverrides::default() };
    let run = world().request("kimi", false, once);
    assert_eq!(run.attempts, [2, 2, 1, 0]);
    assert!((3.0..6.0).contains(&run.elapsed), "{}", run.elapsed);
    let bare =
        RequestOverrides { disable_fallbacks: true, num_retries: Some(0), ..RequestOverrides::default() };
    assert_eq!(world().request("kimi", false, bare).status(), 500);
    let own = RequestOverrides {
        fallbacks: Some(RequestFallbacks::Targets(vec!["ollama".into()])),
        num_retries: Some(0),
        ..RequestOverrides::default()
    };
    assert_eq!(world().request("kimi", false, own).served_by(), (OLLAMA, 1));
    let zero = chain(json!({ "retry_policy": { "DefaultRetries": 0 } }));
    let run = World::new(zero, cloud(refuses()), 1).ask();
    assert_eq!((run.attempts, run.elapsed), (vec![1, 1, 1, 0], 0.0));
    assert!(RequestWalk::new(&chain(json!({})), "nope", false, RequestOverrides::default()).is_err());
}

#[test]
fn larger_groups_retry_without_sleep_and_share_by_weight() {
    let entry = |weight: u32, id: &str| {
        json!({ "model_name": "g", "model_info": { "id": id }, "litellm_params": {
            "model": "ollama_chat/m", "api_base": "http://127.0.0.1:1", "weight": weight } })
    };
    let config = GatewayConfig::from_value(&json!({ "model_list": [entry(9, "a"), entry(1, "b")] })).unwrap();
    let serves = || [Upstream::Serves, Upstream::Serves, Upstream::Serves, Upstream::Serves];
    let mut world = World::new(config.clone(), serves(), 7);
    let first =
        (0..1000).filter(|_| world.request("g", false, RequestOverrides::default()).attempts[0] == 1).count();
    assert!((860..940).contains(&first), "{first}");
    let mut world = World::new(config, [fails(500), fails(500), Upstream::Serves, Upstream::Serves], 7);
    let run = world.request("g", false, RequestOverrides::default());
    assert_eq!((run.waits, run.attempts.iter().sum::<usize>(), run.elapsed), (0, 3, 0.0));
}

#[test]
fn higher_orders_are_hops_of_their_own() {
    let entry = |order: u32, id: &str| {
        json!({ "model_name": "g", "model_info": { "id": id }, "litellm_params": {
            "model": "ollama_chat/m", "api_base": "http://127.0.0.1:1", "order": order } })
    };
    let config = GatewayConfig::from_value(&json!({
        "model_list": [entry(1, "a"), entry(2, "b")], "router_settings": { "num_retries": 0 } }))
    .unwrap();
    let mut world = World::new(config, [fails(500), Upstream::Serves, Upstream::Serves, Upstream::Serves], 1);
    assert_eq!(world.request("g", false, RequestOverrides::default()).served_by(), (1, 1));
}

fn any_upstream() -> impl Strategy<Value = Upstream> {
    prop_oneof![
        Just(Upstream::Serves),
        Just(Upstream::Hangs),
        Just(Upstream::BreaksStreams),
        Just(refuses()),
        prop::sample::select(vec![400_u16, 401, 429, 500, 503]).prop_map(fails),
    ]
}

proptest! {
    /// Whatever the upstreams do: no attempt in cooldown (asserted in `request`), a bounded number of
    /// actions, sleeps only with retries, each target once, and an answer that is someone's who serves.
    #[test]
    fn laws_of_the_walk(
        upstreams in prop::array::uniform4(any_upstream()),
        retries in 0_u32..4,
        allowed_fails in 0_u32..5,
        max_fallbacks in 0_u32..6,
        streaming: bool,
        gaps in prop::collection::vec(0_u64..8, 1..8),
        seed: u64,
    ) {
        let settings = json!({ "num_retries": retries, "allowed_fails": allowed_fails,
            "max_fallbacks": max_fallbacks, "timeout": 2 });
        let mut world = World::new(chain(settings), upstreams.clone(), seed);
        for gap in gaps {
            world.now += Duration::from_secs(gap);
            let run = world.request("kimi", streaming, RequestOverrides::default());
            let limit = retries as usize + 1;
            prop_assert!(run.attempts.iter().all(|attempts| *attempts <= limit), "{:?}", run.attempts);
            prop_assert!(retries > 0 || run.waits == 0);
            prop_assert!(run.waits <= 4 * limit);
            match run.answer {
                Answer::Served(served) => {
                    let by = &upstreams[served.deployment];
                    prop_assert!(matches!(by, Upstream::Serves | Upstream::BreaksStreams));
                    prop_assert!(served.attempted_fallbacks <= 3);
                    prop_assert_eq!(served.attempted_fallbacks == 0, served.deployment == KIMI);
                }
                Answer::Failed { failure, .. } => prop_assert!(failure.status >= 400),
            }
        }
    }

    /// Jitter is uniform in its range and the backoff capped.
    #[test]
    fn backoff_stays_in_its_range(k in 0_u32..40, seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let slept = backoff(k, Duration::ZERO, None, &mut rng).as_secs_f64();
        let base = (0.5 * 2_f64.powi(k as i32)).min(8.0);
        prop_assert!((base..base + 0.75).contains(&slept), "{} {}", base, slept);
    }
}

use serde_json::{Value, json};

use super::*;

fn config(group_size: usize, router: Value, info: Value) -> GatewayConfig {
    let entry = |index: usize| {
        let mut info = info.clone();
        info["id"] = format!("d{index}").into();
        json!({ "model_name": "g", "model_info": info,
            "litellm_params": { "model": "ollama_chat/m", "api_base": "http://127.0.0.1:1" } })
    };
    let list: Vec<Value> = (0..group_size).map(entry).collect();
    GatewayConfig::from_value(&json!({ "model_list": list, "router_settings": router })).unwrap()
}

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// How many equal failures at one instant it takes until the deployment is cooled; `None` if ten do not.
fn failures_until_cooled(config: &GatewayConfig, class: ErrorClass, status: u16) -> Option<u32> {
    let mut memory = CooldownMemory::default();
    (1..=10).find(|_| {
        memory.count_failure(config, 0, &Failure::with_status(class, status), at(1.0));
        memory.is_cooled(0, at(1.0))
    })
}

#[test]
fn the_table_of_faults_for_one_deployment_groups() {
    use ErrorClass as C;
    let defaults = config(1, json!({}), json!({}));
    let strict = config(1, json!({ "allowed_fails": 0 }), json!({}));
    let table = [
        (C::BadRequest, 400, None, None),
        (C::BadRequest, 409, None, None),
        (C::Authentication, 401, Some(1), Some(1)),
        (C::PaymentRequired, 402, None, None),
        (C::PermissionDenied, 403, None, None),
        (C::NotFound, 404, Some(1), Some(1)),
        (C::Timeout, 408, None, Some(1)),
        (C::RateLimit, 429, None, Some(1)),
        (C::InternalServer, 500, None, Some(1)),
        (C::Api, 529, None, Some(1)),
        (C::Timeout, 504, None, Some(1)),
        (C::ApiConnection, 500, None, None),
    ];
    for (class, status, by_default, by_strict) in table {
        assert_eq!(failures_until_cooled(&defaults, class, status), by_default, "{status} by default");
        assert_eq!(failures_until_cooled(&strict, class, status), by_strict, "{status} with 0");
    }
}

#[test]
fn groups_of_two_cool_on_rate_limits_and_on_high_failure_rates() {
    let pair = config(2, json!({}), json!({}));
    assert_eq!(failures_until_cooled(&pair, ErrorClass::RateLimit, 429), Some(1));
    assert_eq!(failures_until_cooled(&pair, ErrorClass::PaymentRequired, 402), Some(1));
    assert_eq!(failures_until_cooled(&pair, ErrorClass::InternalServer, 500), Some(5));
    let mut memory = CooldownMemory::default();
    for _ in 0..5 {
        memory.count_success(0, at(0.0));
    }
    for _ in 0..5 {
        memory.count_failure(&pair, 0, &Failure::with_status(ErrorClass::InternalServer, 500), at(0.0));
    }
    assert!(!memory.is_cooled(0, at(0.0)), "exactly half is not more than half");
    memory.count_failure(&pair, 0, &Failure::with_status(ErrorClass::InternalServer, 500), at(0.0));
    assert!(memory.is_cooled(0, at(0.0)));
}

#[test]
fn a_single_deployment_cools_after_a_thousand_failures_in_a_minute() {
    let single = config(1, json!({}), json!({}));
    let failure = Failure::with_status(ErrorClass::InternalServer, 500);
    let mut memory = CooldownMemory::default();
    for _ in 0..999 {
        memory.count_failure(&single, 0, &failure, at(1.0));
    }
    assert!(!memory.is_cooled(0, at(1.0)));
    memory.count_failure(&single, 0, &failure, at(60.9));
    assert!(memory.is_cooled(0, at(60.9)));
}

#[test]
fn limits_count_to_one_past_and_three_means_unset() {
    for (allowed, cooled_after) in [(0, Some(1)), (1, Some(2)), (2, Some(3)), (3, None), (4, Some(5))] {
        let config = config(1, json!({ "allowed_fails": allowed }), json!({}));
        assert_eq!(
            failures_until_cooled(&config, ErrorClass::InternalServer, 500),
            cooled_after,
            "allowed_fails {allowed}"
        );
    }
    let policy = json!({ "InternalServerErrorAllowedFails": 0, "TimeoutErrorAllowedFails": 1 });
    let by_class = config(1, json!({ "allowed_fails_policy": policy }), json!({}));
    assert_eq!(failures_until_cooled(&by_class, ErrorClass::InternalServer, 500), Some(1));
    assert_eq!(failures_until_cooled(&by_class, ErrorClass::Timeout, 408), Some(2));
    assert_eq!(failures_until_cooled(&by_class, ErrorClass::ServiceUnavailable, 503), Some(4));
    let own = config(1, json!({}), json!({ "allowed_fails": 0 }));
    assert_eq!(
        failures_until_cooled(&own, ErrorClass::InternalServer, 500),
        None,
        "ignored for single groups"
    );
    let own = config(1, json!({}), json!({ "allowed_fails_policy": policy }));
    assert_eq!(failures_until_cooled(&own, ErrorClass::InternalServer, 500), Some(1));
}

#[test]
fn windows_are_fixed_and_die_a_cooldown_after_their_first_failure() {
    let config = config(1, json!({ "allowed_fails": 1, "cooldown_time": 6 }), json!({}));
    let failure = Failure::with_status(ErrorClass::InternalServer, 500);
    let mut memory = CooldownMemory::default();
    memory.count_failure(&config, 0, &failure, at(0.0));
    memory.count_failure(&config, 0, &failure, at(6.6));
    assert!(!memory.is_cooled(0, at(6.6)));
    memory.count_failure(&config, 0, &failure, at(7.7));
    assert!(memory.is_cooled(0, at(7.7)));
    assert!(memory.is_cooled(0, at(13.6)));
    assert!(!memory.is_cooled(0, at(13.7)));
}

#[test]
fn the_length_is_the_deployments_then_the_upstreams_then_the_routers() {
    let failure =
        |retry_after_s| Failure { retry_after_s, ..Failure::with_status(ErrorClass::RateLimit, 429) };
    let length = |info: Value, retry_after: Option<u32>| {
        let config = config(1, json!({ "allowed_fails": 0, "cooldown_time": 9 }), info);
        let mut memory = CooldownMemory::default();
        memory.count_failure(&config, 0, &failure(retry_after), at(0.0));
        memory.shortest_length(&[0], at(0.0))
    };
    assert_eq!(length(json!({}), None), Some(at(9.0)));
    assert_eq!(length(json!({}), Some(4)), Some(at(4.0)));
    assert_eq!(length(json!({}), Some(0)), None, "no cooldown at all");
    assert_eq!(length(json!({ "cooldown_time": 2 }), Some(4)), Some(at(2.0)));
    assert_eq!(length(json!({ "cooldown_time": 0 }), None), None);
}

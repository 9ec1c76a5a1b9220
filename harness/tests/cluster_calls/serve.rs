//! A mock world, with its cluster, whose gateway does not start.

use harness::gateway::litellm::find::FindOptions;
use harness::gateway::local::{Choice, ConfigSource};
use harness::run::{ServeOptions, Stop, serve};

#[tokio::test]
async fn what_was_started_before_something_failed_is_stopped() {
    let environment = harness::input::load(&[], None).unwrap().environment;
    let find = FindOptions { bin: Some("/nowhere/litellm".into()), ..FindOptions::default() };
    let options = ServeOptions {
        environment,
        gateway: Choice::LiteLlm(find),
        config: ConfigSource::tuned().unwrap(),
        stop: Stop::default(),
    };
    let error = serve(options, |_| panic!("nothing is served")).await.unwrap_err();
    assert!(error.contains("/nowhere/litellm"), "{error}");
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

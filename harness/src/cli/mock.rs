//! `harness mock`: the mock world on its own.

use serde_json::json;

use super::args::{FileArguments, MockArguments};
use super::exit::ExitStatus;
use super::{check, printer};
use crate::gateway::config::LoadedBy;
use crate::gateway::local::Choice;
use crate::run::{ServeOptions, Stop, serve};

pub(super) fn mock(arguments: &MockArguments) -> ExitStatus {
    let files = FileArguments {
        paths: Vec::new(),
        env: Some(arguments.env.clone()),
        litellm_config: arguments.litellm_config.clone(),
    };
    let (loaded, config) = match check::loaded_with_config(&files, LoadedBy::Mock) {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let stop = Stop::default();
    let options =
        ServeOptions { environment: loaded.environment, gateway: Choice::Mock, config, stop: stop.clone() };
    let served = super::on_runtime(async move {
        stop.on_signals()?;
        Ok(serve(options, |serving| {
            let upstreams: serde_json::Map<String, serde_json::Value> =
                serving.upstreams.iter().map(|(name, url)| (name.clone(), json!(url))).collect();
            let telegram = serving.telegram.as_ref();
            let mut urls = json!({
                "gateway": serving.gateway,
                "master_key": serving.key.expose(),
                "upstreams": upstreams,
                "control": serving.control,
                "kubeconfig": serving.kubeconfig,
            });
            if let Some((url, token)) = telegram {
                urls["telegram"] = json!({ "api_root": url, "token": token.expose() });
            }
            printer::data(&format!("{urls}\n"));
        })
        .await)
    });
    match served {
        Ok(Ok(())) => ExitStatus::Pass,
        Ok(Err(error)) => printer::usage_error(&error),
        Err(error) => printer::usage_error(&format!("cannot start: {error}")),
    }
}

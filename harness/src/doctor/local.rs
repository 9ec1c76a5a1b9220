//! Environments on this machine: what a run makes itself is always fit, what runs already is asked.

use super::Examination;
use crate::environment::Environment;
use crate::gateway::pages::Pages;
use crate::gateway::secret::Secret;

pub(super) async fn examine(examination: &mut Examination, environment: &Environment) {
    examination.ok("components", "mock upstreams that a run makes in its own process");
    let Some(url) = &environment.gateway.url else {
        return examination.ok("gateway", "a run starts one of its own");
    };
    let key = match &environment.gateway.key_env {
        None => Secret::random(),
        Some(variable) => match std::env::var(variable) {
            Ok(key) => Secret::new(key),
            Err(_) => {
                return examination.problem(
                    "key",
                    format!("${variable}, which holds the gateway's key, is not set"),
                    "set it for this program; never write the key into a file",
                );
            }
        },
    };
    let pages = Pages { url, key: &key };
    super::cluster::models(examination, environment, pages.get("/v1/models").await);
    super::cluster::foreseen(examination, environment, pages).await;
}

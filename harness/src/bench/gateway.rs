//! What the mock gateway adds to a reply, so that it is known to be no part of what is measured.

use std::time::Duration;

use mocks::truth::{PRIMARY, Script};
use serde_json::json;

use super::load::figure;
use super::table::Row;
use super::truth::TruthServer;
use super::{BenchError, Size, other_core};
use crate::analysis::quantiles;
use crate::gateway::secret::Secret;
use crate::journal::{Clock, Outcome, Purpose};
use crate::probe::{Prober, Request};

/// Time between two probes.
const EVERY: Duration = Duration::from_millis(10);

/// The same upstream asked straight and through the mock gateway, in turn.
pub(super) async fn rows(size: Size) -> Result<Vec<Row>, BenchError> {
    let rounds = if size == Size::Quick { 100 } else { 1000 };
    let truth = TruthServer::start(other_core())?;
    let script = Script { chunks: 4, chunk_gap_us: 0, steps: Vec::new(), takes_down: false };
    let backend = truth.open(script).await?;
    let key = Secret::random();
    let options = mocks::gateway::GatewayOptions {
        config: json!({
            "model_list": [{
                "model_name": PRIMARY,
                "litellm_params": {
                    "model": format!("hosted_vllm/{PRIMARY}"),
                    "api_base": format!("{}/v1", backend.url()),
                    "api_key": "none",
                },
            }],
        }),
        seed: 0,
        master_key: Some(mocks::gateway::Secret::new(key.expose().to_owned())),
        port: 0,
    };
    let gateway = mocks::gateway::Gateway::start(options).await;
    let gateway = gateway
        .map_err(|error| BenchError::Part { part: "mock gateway".to_owned(), why: error.to_string() })?;
    let clock = Clock::starting_now();
    let prober = |url: String, key: &Secret| {
        Prober::new(&url, key.clone(), clock).map_err(|error| BenchError::Http(error.to_string()))
    };
    let ways = [prober(backend.url(), &key)?, prober(gateway.url(), &key)?];
    let mut took_us: [[Vec<u64>; 2]; 2] = Default::default();
    let mut failed = 0_u64;
    let mut timer = tokio::time::interval(EVERY);
    for index in 0..4 * rounds {
        timer.tick().await;
        let (way, streamed) = (index % 2, index / 2 % 2 == 1);
        let request = request(index, streamed, clock.now_us());
        let record = ways[way].send(&request).await;
        match (&record.outcome, record.first_content_us) {
            (Outcome::Ok, Some(at_us)) => {
                took_us[usize::from(streamed)][way].push(at_us.saturating_sub(record.sent_us));
            }
            _ => failed += 1,
        }
    }
    gateway.shutdown().await;
    let rows = took_us.into_iter().zip(["whole", "streamed"]).map(|(ways, form)| {
        let [straight, through] = ways.map(|took| quantiles(took, 0));
        let added = |of: fn(&crate::verdict::result::Quantiles) -> Option<f64>| {
            figure(of(&through).zip(of(&straight)).map(|(through, straight)| through - straight))
        };
        let value = format!(
            "first content straight p50 {}, p99 {}; through p50 {}, p99 {}; adds p50 {}, p99 {}; n {}, {failed} failed",
            figure(straight.p50),
            figure(straight.p99),
            figure(through.p50),
            figure(through.p99),
            added(|all| all.p50),
            added(|all| all.p99),
            straight.count
        );
        Row::new("gateway", &format!("mock gateway, {form}"), value, "-", None)
    });
    Ok(rows.collect())
}

fn request(index: usize, streamed: bool, now_us: u64) -> Request {
    Request {
        id: format!("gateway-{index}"),
        scenario: "gateway".to_owned(),
        route: "agent".to_owned(),
        purpose: Purpose::Traffic,
        model: PRIMARY.to_owned(),
        streamed,
        fresh: false,
        max_tokens: 8,
        timeout: Duration::from_secs(5),
        intended_us: now_us,
    }
}

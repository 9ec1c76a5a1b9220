use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use super::{ActiveFault, Driver, Patience};
use crate::cluster::access::Access;
use crate::cluster::faults::scale::Scale;
use crate::cluster::mutation::{Kubectl, Mutation};
use crate::cluster::record::{Keeper, Record, State};
use crate::environment::{FaultKind, ObjectName};
use crate::journal::{Clock, Journal};
use crate::plan::{PlannedFault, PlannedKind};
use crate::run::target::Healed;
use crate::units::Period;

const RUN: &str = "20261123T004551Z-0a1b2c";

/// A cluster with one Deployment and one record.
struct World {
    replicas: i64,
    version: u64,
    record: Value,
    /// Whoever is told to scale up says yes, and does not.
    deaf: bool,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn with<T>(&self, then: impl FnOnce(&mut World) -> T) -> T {
        then(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn state(&self) -> State {
        let map: ConfigMap = serde_json::from_value(self.with(|world| world.record.clone())).unwrap();
        Record::read(&map).unwrap().unwrap().changes[0].state
    }
}

impl World {
    fn scale(&self, replicas: i64) -> Value {
        json!({
            "kind": "Scale", "apiVersion": "autoscaling/v1",
            "metadata": {
                "name": "vllm", "namespace": "ml", "uid": "u1", "resourceVersion": self.version.to_string(),
            },
            "spec": { "replicas": replicas }, "status": { "replicas": replicas },
        })
    }

    fn answer(&mut self, request: &Request) -> Value {
        let body = || serde_json::from_slice::<Value>(&request.body).unwrap();
        let is_record = request.url.path().contains("configmaps");
        self.version += 1;
        match request.method.as_str() {
            "POST" | "PUT" => {
                self.record = body();
                self.record["metadata"]["resourceVersion"] = json!(self.version.to_string());
                self.record.clone()
            }
            "GET" if is_record => json!({
                "kind": "ConfigMapList", "apiVersion": "v1", "metadata": {}, "items": [self.record],
            }),
            "PATCH" => {
                let replicas = body()["spec"]["replicas"].as_i64().unwrap();
                if replicas == 0 || !self.deaf {
                    self.replicas = replicas;
                }
                self.scale(replicas)
            }
            _ => self.scale(self.replicas),
        }
    }
}

impl Respond for Shared {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        ResponseTemplate::new(200).set_body_json(self.with(|world| world.answer(request)))
    }
}

async fn start() -> (MockServer, Shared, Driver) {
    let world =
        Shared(Arc::new(Mutex::new(World { replicas: 2, version: 7, record: Value::Null, deaf: false })));
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(world.clone()).mount(&server).await;
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "mock",
        "clusters": [{ "name": "c", "cluster": { "server": server.uri() } }],
        "users": [{ "name": "u", "user": {} }],
        "contexts": [{ "name": "mock", "context": { "cluster": "c", "user": "u" } }],
    });
    let access = Access::with_kubeconfig(&kubeconfig, "mock", &["ml".to_owned()]).await.unwrap();
    let now = Timestamp::now();
    let record = Record::new(RUN, "home", "attic", None, now, now);
    let kubectl = Kubectl::new(None);
    let keeper =
        Keeper::create(&access, "ml", kubectl.clone(), Period::from_secs(600), record).await.unwrap();
    let journal = Arc::new(Journal::of_nothing(Clock::starting_now()));
    let mut driver = Driver::in_cluster(access, kubectl, journal, Arc::new(keeper));
    driver.patience = Patience {
        undo_within: Duration::from_secs(4),
        read_back_within: Duration::from_millis(50),
        again_after: Duration::from_millis(10),
        ..Patience::HERE
    };
    (server, world, driver)
}

fn fault() -> ActiveFault {
    let kind = PlannedKind::Down(FaultKind::ScaleToZero);
    ActiveFault { id: 0, fault: PlannedFault { component: "vllm".into(), kind } }
}

#[tokio::test]
async fn the_record_says_undone_only_once_it_reads_back_so() {
    let (_server, world, driver) = start().await;
    let scale = Scale { deployment: ObjectName::new("ml", "vllm"), uid: "u1".into(), replicas: 2 };
    driver.make(&fault(), &Mutation::Scale(scale)).await.unwrap();
    world.with(|world| world.deaf = true);
    assert!(matches!(driver.heal(&fault()).await, Ok(Healed::Undone)), "it was told so");
    assert_eq!(driver.is_healed("vllm").await, Ok(false));
    // Whatever the record has of it is open, and a write of anything else keeps it so.
    driver.record(&[(7, State::LeftAlone)]).await;
    assert!(world.state().is_open(), "{:?}", world.state());

    world.with(|world| world.deaf = false);
    assert!(matches!(driver.heal(&fault()).await, Ok(Healed::Undone)));
    assert_eq!(driver.is_healed("vllm").await, Ok(true));
    assert_eq!(world.state(), State::Undone);
    assert_eq!(world.with(|world| world.replicas), 2);
}

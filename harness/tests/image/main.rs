//! The image in real containers: the drill and the sweeper, on a network of their own, with the files that a pod gets.
//!
//! `scripts/test-image` builds the image, names it by `HARNESS_TEST_IMAGE`, and gives this test a Docker daemon; it is a
//! step of `scripts/test`. A plain `cargo test` does not run it.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

#[expect(dead_code, reason = "it is shared with tests that do more with it")]
#[path = "../deploy/apply.rs"]
mod apply;
#[expect(dead_code, reason = "it is shared with tests that do more with it")]
#[path = "../deploy/house.rs"]
mod house;

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;

use crate::apply::{DRILL, SWEEPER};
use crate::house::{CLOUD_AND_GPU_DOWN, House, SWEEP_EVERY, all_restored, environment, result, runs_in};

/// Nothing that Docker is asked for takes longer.
const LIMIT: Duration = Duration::from_secs(240);
/// Where a pod finds its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

const STRANGER: &str = "stranger";

async fn docker(arguments: &[&str]) -> Output {
    let child = Command::new("docker").args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    tokio::time::timeout(LIMIT, child).await.expect("docker ends in time").expect("there is a docker")
}

async fn must(arguments: &[&str]) -> String {
    let output = docker(arguments).await;
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A network from which only this machine is reached, at its own address there.
struct Lane {
    network: String,
    here: IpAddr,
}

impl Lane {
    async fn open() -> Self {
        let network = format!("harness-test-{}", std::process::id());
        must(&["network", "create", "--internal", &network]).await;
        let here =
            must(&["network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", &network]).await;
        Self { network, here: here.parse().unwrap() }
    }

    async fn close(self) {
        must(&["network", "rm", &self.network]).await;
    }

    /// Connections to a port here lead there; with TLS they are the API's.
    async fn lead(&self, port: u16, to: SocketAddr, tls: Option<TlsAcceptor>) -> u16 {
        let listener = TcpListener::bind((self.here, port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let tls = tls.clone();
                tokio::spawn(async move {
                    let Ok(mut there) = TcpStream::connect(to).await else { return };
                    // How a connection ends is what both of its ends say.
                    let _ended = match tls {
                        Some(tls) => match tls.accept(stream).await {
                            Ok(mut stream) => copy_bidirectional(&mut stream, &mut there).await,
                            Err(error) => Err(error),
                        },
                        None => copy_bidirectional(&mut stream, &mut there).await,
                    };
                });
            }
        });
        port
    }
}

fn tls() -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("../deploy/data/api-cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../deploy/data/api-key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// A file that anybody may read.
fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// What is mounted into the pods.
fn lay_out(house: &House, dir: &Path) {
    for account in [DRILL, SWEEPER] {
        let kubeconfig = house.cluster().kubeconfig_of_account("ml", account).unwrap();
        let token = kubeconfig["users"][0]["user"]["token"].as_str().unwrap().to_owned();
        write(&dir.join(account).join("token"), &token);
        write(&dir.join(account).join("ca.crt"), include_str!("../deploy/data/api-ca.pem"));
        write(&dir.join(account).join("namespace"), "ml");
    }
    // The right token, and the authority of somebody else.
    let token = std::fs::read_to_string(dir.join(SWEEPER).join("token")).unwrap();
    write(&dir.join(STRANGER).join("token"), &token);
    write(&dir.join(STRANGER).join("ca.crt"), include_str!("../../../mocks/tests/data/loopback-cert.pem"));
    write(&dir.join(STRANGER).join("namespace"), "ml");
    write(&dir.join("scenarios/short.yaml"), CLOUD_AND_GPU_DOWN);
    write(&dir.join("environment/environment.yaml"), &environment("in_cluster: true"));
    std::fs::create_dir(dir.join("reports")).unwrap();
    for (folder, mode) in [("", 0o755), ("reports", 0o777)] {
        std::fs::set_permissions(dir.join(folder), std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// `docker run` as a pod with the level `restricted` is run.
fn run_words(lane: &Lane, api: u16, account: &str, dir: &Path) -> Vec<String> {
    let volume = |from: &str, to: &str, how: &str| format!("{}:{to}:{how}", dir.join(from).display());
    let here = lane.here;
    let words = [
        "run",
        "--network",
        &lane.network,
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--memory=512m",
        &format!("--add-host=kubernetes.default.svc:{here}"),
        &format!("--add-host=litellm.ml.svc:{here}"),
        "--env=KUBERNETES_SERVICE_HOST=kubernetes.default.svc",
        &format!("--env=KUBERNETES_SERVICE_PORT={api}"),
        "--env=NO_COLOR=1",
        "--volume",
        &volume(account, ACCOUNT, "ro"),
        "--volume",
        &volume("scenarios", "/etc/failover-harness/scenarios", "ro"),
        "--volume",
        &volume("environment", "/etc/failover-harness/environment", "ro"),
        "--volume",
        &volume("reports", "/reports", "rw"),
    ];
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The arguments of a CronJob's container.
fn arguments(house: &House, cron_job: &str) -> Vec<String> {
    let (_, pod) = crate::apply::job_and_pod(house.cluster(), cron_job);
    let words = pod["containers"][0]["args"].as_array().unwrap();
    words.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

fn borrowed(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn drill_and_sweeper_run_from_the_image_in_containers_of_their_own() {
    let image = std::env::var("HARNESS_TEST_IMAGE").expect("HARNESS_TEST_IMAGE names the image");
    let house = House::without_image(SWEEP_EVERY).await;
    house.deploy(CLOUD_AND_GPU_DOWN).await;
    house.until_swept().await;
    let dir = TempDir::new().unwrap();
    lay_out(&house, dir.path());
    let lane = Lane::open().await;
    let api = house.cluster().url().trim_start_matches("http://").parse().unwrap();
    let api = lane.lead(0, api, Some(tls())).await;
    let litellm = *house.household.plane().resolve("ml", "litellm").first().unwrap();
    lane.lead(4000, (litellm, 4000).into(), None).await;
    let start = |account: &str, how: &[&str]| {
        let mut words = run_words(&lane, api, account, dir.path());
        words.extend(how.iter().map(|word| (*word).to_owned()));
        words.push(image.clone());
        words.extend(arguments(&house, account));
        words
    };
    let sweep = start(SWEEPER, &["--rm"]);
    let swept = must(&borrowed(&sweep)).await;
    assert!(swept.contains("no run has left anything"), "{swept}");

    // An API that another authority vouches for is not talked to, not even for its answer.
    let asked = house.cluster().audit().entries().len();
    let mut stranger = run_words(&lane, api, STRANGER, dir.path());
    stranger.extend(["--rm".to_owned(), image.clone()]);
    stranger.extend(arguments(&house, SWEEPER));
    let refused = docker(&borrowed(&stranger)).await;
    let said = crate::house::lines(&refused);
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains("certificate"), "{said}");
    assert_eq!(house.cluster().audit().entries().len(), asked, "the token was not sent");

    // A run that is killed while it holds its faults.
    let name = format!("harness-test-drill-{}", std::process::id());
    let drill = start(DRILL, &["--detach", "--name", &name]);
    must(&borrowed(&drill)).await;
    house.until_faulted(&["vllm"]).await;
    must(&["kill", "--signal=KILL", &name]).await;
    must(&["rm", "--force", &name]).await;
    assert_eq!(house.replicas("vllm"), 0);
    let mut sweeps = 0;
    while !all_restored(house.cluster()) {
        sweeps += 1;
        assert!(sweeps <= 4, "the sweeper does not restore");
        docker(&borrowed(&sweep)).await;
    }
    assert_eq!(house.replicas("vllm"), 1);
    house.assert_clean();

    // And one that comes to its end, with a report in its volume.
    let drill = start(DRILL, &["--rm"]);
    let output = docker(&borrowed(&drill)).await;
    let said = crate::house::lines(&output);
    // On a busy machine it may be inconclusive.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{said}");
    let last: Value = result(runs_in(&dir.path().join("reports")).last().unwrap());
    assert_eq!((&last["ended"], &last["restored"]), (&"completed".into(), &true.into()), "{said}");
    assert_eq!(house.replicas("vllm"), 1);
    house.assert_clean();
    lane.close().await;
    house.strike().await;
}

//! exec and logs.

use std::time::Duration;

use futures::AsyncBufReadExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{AttachParams, LogParams};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::household::{CLOUD, CLOUD_PORT, Stage, WITHIN, usual};

/// Runs a command in the gateway's pod and gives stdout, stderr and how it ended.
async fn run(stage: &Stage, words: &[&str], input: Option<&str>) -> (String, String, Status) {
    let parameters = AttachParams::default().stdin(input.is_some()).stdout(true).stderr(true);
    let pod = stage.pod("litellm").await;
    let both = async {
        let mut process = stage.api::<Pod>().exec(&pod, words.to_vec(), &parameters).await.unwrap();
        let status = process.take_status().unwrap();
        let (mut stdout, mut stderr) = (process.stdout().unwrap(), process.stderr().unwrap());
        let stdin = process.stdin();
        // Meanwhile, because the command may write while it reads.
        let write = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                stdin.write_all(input.as_bytes()).await.unwrap();
                stdin.shutdown().await.unwrap();
            }
        };
        let (mut out, mut err) = (String::new(), String::new());
        let reads = async { tokio::join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err)) };
        let ((read_out, read_err), status, ()) = tokio::join!(reads, status, write);
        read_out.unwrap();
        read_err.unwrap();
        (out, err, status.expect("every command ends with a status"))
    };
    timeout(WITHIN, both).await.expect("the command ends in time")
}

fn exit_code(status: &Status) -> Option<&str> {
    let causes = status.details.as_ref()?.causes.as_ref()?;
    causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"))?.message.as_deref()
}

#[tokio::test]
async fn a_command_has_its_channels_and_its_exit_code() {
    let stage = usual().await;
    let (out, err, status) = run(&stage, &["sh", "-c", "echo out; echo err >&2; exit 3"], None).await;
    assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
    assert_eq!((status.status.as_deref(), exit_code(&status)), (Some("Failure"), Some("3")));
    let long = "x".repeat(300_000);
    let (out, _, status) = run(&stage, &["cat"], Some(&long)).await;
    assert!(out == long);
    assert_eq!(status.status.as_deref(), Some("Success"));
    let (_, _, status) = run(&stage, &["no-such-command"], None).await;
    assert!(status.message.unwrap().contains("executable file not found"));
    let (out, _, _) =
        run(&stage, &["sh", "-c", "env | grep -v ^PATH= | grep -v ^PYTHONPATH= | sort"], None).await;
    let pod = stage.pod("litellm").await;
    let named: Vec<_> = out
        .lines()
        .filter(|line| !["PWD", "SHLVL", "_", "OLDPWD"].contains(&line.split('=').next().unwrap()))
        .collect();
    assert_eq!(named, [format!("HOSTNAME={pod}")]);
    stage.shutdown().await;
}

#[tokio::test]
async fn python_asks_the_dns_of_the_cluster() {
    let stage = usual().await;
    let script = format!(
        "import asyncio, socket
for host, port in [('vllm', 8000), ('ollama.ml', 11434), ('vllm.ml.svc.cluster.local', 8000), ('{CLOUD}', {CLOUD_PORT})]:
    connection = socket.create_connection((host, port), timeout=5)
    connection.sendall(b'x')
    print(host, connection.recv(1) == b'x', flush=True)
direct = socket.socket()
direct.connect(('vllm', 8000))
print('connect by name', flush=True)
async def ask():
    found = await asyncio.get_running_loop().getaddrinfo('vllm.ml.svc', 8000, type=socket.SOCK_STREAM)
    print(found[0][4][0])
asyncio.run(ask())
print(socket.gethostbyname('vllm'))
try:
    socket.getaddrinfo('no-such-name.ml', 80)
except socket.gaierror as error:
    print(error.errno == socket.EAI_NONAME)
print(socket.getaddrinfo('127.0.0.1', 1)[0][4])
"
    );
    let (out, err, status) = run(&stage, &["python3", "-c", &script], None).await;
    assert_eq!(status.status.as_deref(), Some("Success"), "{err}");
    let vllm = stage.address("vllm", 8000).unwrap().ip();
    let wanted = format!(
        "vllm True\nollama.ml True\nvllm.ml.svc.cluster.local True\n{CLOUD} True\nconnect by name\n{vllm}\n{vllm}\nTrue\n('127.0.0.1', 1)\n"
    );
    assert_eq!(out, wanted);
    stage.shutdown().await;
}

#[tokio::test]
async fn a_pod_sees_its_own_connections_and_none_of_another_pod() {
    let stage = usual().await;
    let address = stage.address(CLOUD, CLOUD_PORT).unwrap();
    let ip = async |app: &str| {
        let pod = stage.api::<Pod>().get(&stage.pod(app).await).await.unwrap();
        pod.status.unwrap().pod_ip.unwrap()
    };
    let neighbour = tokio::net::TcpSocket::new_v4().unwrap();
    neighbour.bind(format!("{}:0", ip("vllm").await).parse().unwrap()).unwrap();
    let _of_neighbour = neighbour.connect(address).await.unwrap();
    let _of_gateway = tokio::net::TcpStream::connect(address).await.unwrap();
    let script = format!(
        "import socket, struct\n\
         own = socket.create_connection(('{CLOUD}', {CLOUD_PORT}))\n\
         place = '%08X:%04X' % (struct.unpack('=I', socket.inet_aton('{}'))[0], {CLOUD_PORT})\n\
         lines = [line.split() for line in open('/proc/net/tcp')]\n\
         open_ones = {{line[1] for line in lines if line[2:4] == [place, '01']}}\n\
         print(own.getsockname()[0], len(open_ones))\n",
        address.ip()
    );
    // Only what is established, and each once: the kernel's table has what was closed, too, and is not read at one instant.
    let (out, err, _) = run(&stage, &["python3", "-c", &script], None).await;
    assert_eq!(out.trim(), format!("{} 2", ip("litellm").await), "its own and the gateway's: {err}");
    stage.shutdown().await;
}

#[tokio::test]
async fn a_name_can_lead_elsewhere_while_a_script_runs() {
    let stage = usual().await;
    let pod = stage.pod("litellm").await;
    let script = format!(
        "import socket, sys\nfor line in sys.stdin:\n    print(socket.gethostbyname('{CLOUD}'), flush=True)\n"
    );
    let parameters = AttachParams::default().stdin(true).stdout(true).stderr(false);
    let mut process =
        stage.api::<Pod>().exec(&pod, ["python3", "-u", "-c", &script], &parameters).await.unwrap();
    let mut stdin = process.stdin().unwrap();
    let mut lines = tokio::io::BufReader::new(process.stdout().unwrap());
    let mut seen = Vec::new();
    for round in 0..2 {
        stdin.write_all(b"look\n").await.unwrap();
        let mut line = String::new();
        let read = tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line);
        timeout(WITHIN, read).await.unwrap().unwrap();
        assert_eq!(line.trim(), stage.address(CLOUD, 1).unwrap().ip().to_string());
        seen.push(line);
        if round == 0 {
            stage.household.plane().network().move_host(CLOUD, 1).await.unwrap();
        }
    }
    assert_ne!(seen[0], seen[1]);
    drop((stdin, process));
    stage.shutdown().await;
}

#[tokio::test]
async fn a_session_ends_with_its_whole_group_and_with_its_pod() {
    let stage = usual().await;
    let pod = stage.pod("litellm").await;
    let parameters = AttachParams::default().stdin(false).stdout(true).stderr(false);
    let words = ["sh", "-c", "sleep 300 & echo $!; wait"];
    let child = async || {
        let mut process = stage.api::<Pod>().exec(&pod, words, &parameters).await.unwrap();
        let mut lines = tokio::io::BufReader::new(process.stdout().unwrap());
        let mut line = String::new();
        let read = tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line);
        timeout(WITHIN, read).await.unwrap().unwrap();
        (process, lines, line.trim().to_owned())
    };
    let is_gone = |id: &str| match std::fs::read_to_string(format!("/proc/{id}/stat")) {
        // Whoever is to take note of its end may take a while.
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    let (process, lines, left) = child().await;
    assert!(!is_gone(&left));
    drop((process, lines));
    stage.eventually("the end of a command whose client left", async || is_gone(&left)).await;
    let (mut process, _lines, kept) = child().await;
    let status = process.take_status().unwrap();
    stage.api::<Pod>().delete(&pod, &kube::api::DeleteParams::default()).await.unwrap();
    let status = timeout(WITHIN, status).await.unwrap().unwrap();
    assert_eq!(exit_code(&status), Some("137"));
    stage.eventually("the end of a command whose pod ended", async || is_gone(&kept)).await;
    stage.shutdown().await;
}

#[tokio::test]
async fn logs_are_read_whole_in_part_and_on_and_on() {
    let stage = usual().await;
    let name = stage.pod("vllm").await;
    let pods = stage.api::<Pod>();
    let whole = pods.logs(&name, &LogParams::default()).await.unwrap();
    assert_eq!(whole, "Started\nApplication startup complete\n");
    let last = LogParams { tail_lines: Some(1), timestamps: true, ..LogParams::default() };
    let last = pods.logs(&name, &last).await.unwrap();
    let (at, line) = last.trim_end().split_once(' ').unwrap();
    assert!(at.ends_with('Z') && line == "Application startup complete", "{last}");
    let follow = LogParams { follow: true, tail_lines: Some(0), ..LogParams::default() };
    let mut lines = pods.log_stream(&name, &follow).await.unwrap().lines();
    stage.scale("vllm", 0).await;
    let next = async { futures::TryStreamExt::try_next(&mut lines).await.unwrap() };
    assert_eq!(timeout(WITHIN, next).await.unwrap().as_deref(), Some("Shutting down"));
    let next = async { futures::TryStreamExt::try_next(&mut lines).await.unwrap() };
    assert_eq!(timeout(WITHIN, next).await.unwrap(), None, "it ends with the pod");
    stage.shutdown().await;
}

#[tokio::test]
async fn shutdown_ends_commands_that_run() {
    let stage = usual().await;
    let pod = stage.pod("litellm").await;
    let parameters = AttachParams::default().stdin(false).stdout(true).stderr(false);
    let _process = stage.api::<Pod>().exec(&pod, ["sleep", "300"], &parameters).await.unwrap();
    let ended = timeout(Duration::from_secs(5), stage.household.shutdown()).await;
    assert!(ended.is_ok(), "a command outlived the cluster");
}

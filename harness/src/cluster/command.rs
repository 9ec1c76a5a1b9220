//! A short command in a container, and what it prints.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::AttachParams;
use tokio::io::AsyncReadExt;

use super::access::{Access, Target, Verb};
use crate::environment::ObjectName;

/// A command that reads has ended by then.
const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// Nothing that is read is longer.
const OUTPUT_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// What a command prints on its standard output. Nothing else of it is kept: it may hold what nobody should see.
///
/// # Errors
/// In words: it may not be run, is not there, did not end well or in time, or prints too much.
pub(super) async fn output(
    access: &Access,
    pod: &ObjectName,
    container: &str,
    command: &[&str],
) -> Result<String, String> {
    let program = command.first().copied().unwrap_or_default();
    match tokio::time::timeout(ENDS_WITHIN, run(access, pod, container, command)).await {
        Ok(printed) => printed.map_err(|why| format!("`{program}` in {pod}: {why}")),
        Err(_) => Err(format!("`{program}` in {pod} has not ended within {} s", ENDS_WITHIN.as_secs())),
    }
}

async fn run(access: &Access, pod: &ObjectName, container: &str, command: &[&str]) -> Result<String, String> {
    let parameters = AttachParams::default().container(container).stdout(true).stderr(false);
    let api = access.streaming::<Pod>(&pod.namespace);
    let exec = api.exec(&pod.name, command.iter().copied(), &parameters);
    // Allowed by `create`, and so a change as far as we may make any; nothing is changed by it.
    let opened = access.bounded(Verb::Create, Target::new("pods/exec", pod), exec).await;
    let mut process = opened.map_err(|error| error.to_string())?;
    let (Some(output), Some(status)) = (process.stdout(), process.take_status()) else {
        return Err("an exec without streams".to_owned());
    };
    let mut printed = Vec::new();
    let mut bounded = output.take(OUTPUT_BYTES_MAX + 1);
    bounded
        .read_to_end(&mut printed)
        .await
        .map_err(|error| format!("its output breaks off: {}", error.kind()))?;
    if printed.len() as u64 > OUTPUT_BYTES_MAX {
        return Err(format!("it prints more than {} MiB", OUTPUT_BYTES_MAX / 1024 / 1024));
    }
    let Some(status) = status.await else {
        return Err("the cluster does not say how it ended".to_owned());
    };
    if status.status.as_deref() != Some("Success") {
        let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
        let code = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
        let code = code.and_then(|cause| cause.message.as_deref()).and_then(|text| text.parse::<u8>().ok());
        return Err(match code {
            Some(code) => format!("it ends with exit code {code}"),
            None => "it cannot be started".to_owned(),
        });
    }
    String::from_utf8(printed).map_err(|_| "it prints no text".to_owned())
}

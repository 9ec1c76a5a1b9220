//! Starting the script in a pod.

use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, AttachedProcess};

use super::session::{COMMAND, CannotOpen, Opener, Pipes};
use crate::cluster::access::{Access, Target, Verb};
use crate::environment::ObjectName;

/// What may be under way in each direction: kube's default of 1 KiB stalls a session of many lines.
const BUFFER: usize = 64 * 1024;

/// Runs the script in a container of a pod.
#[must_use]
pub fn in_pod(access: &Access, pod: &ObjectName, container: Option<&str>) -> Opener {
    let (access, pod) = (Arc::new(access.clone()), pod.clone());
    let container = container.map(str::to_owned);
    Box::new(move || {
        let (access, pod, container) = (Arc::clone(&access), pod.clone(), container.clone());
        async move { open(&access, &pod, container).await }.boxed()
    })
}

async fn open(access: &Access, pod: &ObjectName, container: Option<String>) -> Result<Pipes, CannotOpen> {
    let mut parameters = AttachParams::default()
        .stdin(true)
        .stdout(true)
        .stderr(true)
        .max_stdin_buf_size(BUFFER)
        .max_stdout_buf_size(BUFFER)
        .max_stderr_buf_size(BUFFER);
    parameters.container = container;
    let api = access.streaming::<Pod>(&pod.namespace);
    // Asked for by GET, and allowed by `get` and `create` both: a change as far as we may make any.
    let process = access
        .bounded(Verb::Create, Target::new("pods/exec", pod), api.exec(&pod.name, COMMAND, &parameters))
        .await
        .map_err(|error| CannotOpen {
            for_good: error.is_forbidden() || error.is_not_found(),
            why: error.to_string(),
        })?;
    pipes(process).ok_or_else(|| CannotOpen { why: "an exec without streams".to_owned(), for_good: true })
}

fn pipes(mut process: AttachedProcess) -> Option<Pipes> {
    let (input, output, errors) = (process.stdin()?, process.stdout()?, process.stderr()?);
    let status = process.take_status()?;
    let ended = async move { status.await.and_then(|status| status.message) };
    Some(Pipes {
        input: Box::new(input),
        output: Box::new(output),
        errors: Box::new(errors),
        ended: Box::pin(ended),
        // Dropping it ends its task and with it the connection.
        connection: Box::new(process),
    })
}

//! `harness init`: a first environment file for a cluster.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use super::args::InitArguments;
use super::exit::ExitStatus;
use super::printer;
use crate::cluster::access::Access;
use crate::draft::{Found, draft, read};

pub(super) fn init(arguments: &InitArguments, quiet: bool) -> ExitStatus {
    let found = match super::on_runtime(async { Ok(found(arguments).await) }) {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return printer::usage_error(&error),
        Err(error) => return printer::usage_error(&format!("cannot start: {error}")),
    };
    let text = draft(&found);
    let Some(file) = &arguments.out else { return printer::data(&text) };
    match write(file, &text) {
        Ok(()) => {
            if !quiet {
                printer::tell(&format!("written: {}", file.display()));
            }
            ExitStatus::Pass
        }
        Err(error) => printer::usage_error(&format!("cannot write {}: {error}", file.display())),
    }
}

async fn found(arguments: &InitArguments) -> Result<Found, String> {
    let InitArguments { context, kubeconfig, namespace, .. } = arguments;
    let access = Access::to_read(context, kubeconfig.clone()).await.map_err(|error| error.to_string())?;
    let found = read(&access, namespace).await.map_err(|error| {
        let hint = if error.is_forbidden() && namespace.is_empty() {
            "; name the namespaces that may be read by --namespace"
        } else {
            ""
        };
        format!("{error}{hint}")
    })?;
    Ok(Found { kubeconfig: kubeconfig.clone(), ..found })
}

/// What is there already is somebody's work.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(file)?.write_all(text.as_bytes())
}

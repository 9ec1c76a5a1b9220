//! `harness run`.

use std::path::Path;
use std::sync::Arc;

use super::args::{ClientKind, GatewayKind, RetriesKind, RunArguments};
use super::events::Events;
use super::exit::ExitStatus;
use super::progress::Progress;
use super::{check, printer};
use crate::client::{Agents, Retries};
use crate::environment::Environment;
use crate::gateway::config::LoadedBy;
use crate::gateway::litellm::find::FindOptions;
use crate::gateway::local::Choice;
use crate::journal::Entry;
use crate::report::{TerminalStyle, terminal};
use crate::run::{ClientChoice, RunError, RunOptions, Stop, Watcher};
use crate::verdict::result::RunResult;

/// The environment that has routes through openclaw, and is meant by asking for openclaw alone.
const OF_OPENCLAW: &str = "openclaw";

pub(super) fn run(mut arguments: RunArguments, quiet: bool) -> ExitStatus {
    if arguments.client == Some(ClientKind::Openclaw) {
        arguments.files.env.get_or_insert_with(|| OF_OPENCLAW.to_owned());
    }
    let loaded_by = match arguments.gateway {
        None | Some(GatewayKind::Mock) => LoadedBy::Mock,
        Some(GatewayKind::Litellm) => LoadedBy::Any,
    };
    let (loaded, config) = match check::loaded_with_config(&arguments.files, loaded_by) {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let gateway = match gateway(&arguments, loaded.environment.gateway.url.as_deref()) {
        Ok(gateway) => gateway,
        Err(message) => return printer::usage_error(message),
    };
    let client = match client(&arguments, &loaded.environment) {
        Ok(client) => client,
        Err(message) => return printer::usage_error(message),
    };
    let stop = Stop::default();
    let options = RunOptions {
        environment: loaded.environment,
        scenarios: loaded.scenarios,
        gateway,
        client,
        config,
        out: arguments.out,
        deadline: arguments.deadline.map(|deadline| deadline.0),
        no_dead_man: arguments.no_dead_man,
        stop: stop.clone(),
    };
    let events = match arguments.events.map(|_| Events::to(std::io::stdout())).transpose() {
        Ok(events) => events,
        Err(error) => {
            printer::tell(&format!("error: cannot stream events: {error}"));
            return ExitStatus::Inconclusive;
        }
    };
    let output = Arc::new(Output { progress: Progress::new(quiet), events });
    let watcher = Arc::clone(&output);
    let finished = super::on_runtime(async move {
        stop.on_signals()?;
        Ok(crate::run::run(options, watcher).await)
    });
    output.finish();
    match finished {
        Ok(Ok(finished)) => {
            match &output.events {
                None => show(&finished.result, &finished.dir, quiet),
                Some(_) if quiet => {}
                Some(_) => {
                    printer::tell(table(&finished.result, printer::color_on_stderr()).trim_end());
                    tell_place(&finished.dir);
                }
            }
            finished.exit_code.map_or_else(|| ExitStatus::of(&finished.result), ExitStatus::of_run)
        }
        Ok(Err(error)) => {
            printer::tell(&format!("error: {error}"));
            match error {
                RunError::Unjournaled { left, .. }
                | RunError::JournalLost { left, .. }
                | RunError::Report { left, .. }
                    if !left.is_empty() =>
                {
                    ExitStatus::NotRestored
                }
                RunError::Unjournaled { exit_code: Some(code), .. } => ExitStatus::of_run(code),
                // A person's mistake in a file or its surroundings, before anything was touched.
                RunError::Config { .. } | RunError::NoKey { .. } => ExitStatus::Usage,
                RunError::Directory { .. }
                | RunError::Journal(_)
                | RunError::Unjournaled { .. }
                | RunError::JournalLost { .. }
                | RunError::Report { .. } => ExitStatus::Inconclusive,
            }
        }
        Err(error) => {
            printer::tell(&format!("error: cannot start: {error}"));
            ExitStatus::Inconclusive
        }
    }
}

/// Which gateway to run, or why the arguments do not say.
fn gateway(arguments: &RunArguments, url: Option<&str>) -> Result<Choice, &'static str> {
    let names_litellm = arguments.litellm_bin.is_some() || arguments.install_litellm;
    match (url, arguments.gateway) {
        (Some(_), gateway)
            if gateway.is_some() || names_litellm || arguments.files.litellm_config.is_some() =>
        {
            Err(
                "the environment names a gateway that already runs (`gateway.url`), so --gateway and --litellm-... have no meaning",
            )
        }
        (Some(url), _) => Ok(Choice::Running(url.to_owned())),
        (None, None | Some(GatewayKind::Mock)) if names_litellm => {
            Err("--litellm-bin and --install-litellm need --gateway litellm")
        }
        (None, None | Some(GatewayKind::Mock)) => Ok(Choice::Mock),
        (None, Some(GatewayKind::Litellm)) => Ok(Choice::LiteLlm(FindOptions {
            bin: arguments.litellm_bin.clone(),
            install: arguments.install_litellm,
            ..FindOptions::default()
        })),
    }
}

/// Which openclaw to run before the gateway, if any, or why the arguments do not fit the environment.
fn client(arguments: &RunArguments, environment: &Environment) -> Result<Option<ClientChoice>, &'static str> {
    let agents = Agents::of(environment);
    match (arguments.client, agents) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(
            "the environment has routes that go through openclaw (`via`): add --client openclaw, with --install-openclaw or --openclaw-bin FILE",
        ),
        (Some(ClientKind::Openclaw), None) => Err(
            "no route of the environment that --env names goes through openclaw: leave --env out (the environment openclaw is meant then), or --client, or give a route `via: openclaw` (as in scenarios/environments/openclaw.yaml)",
        ),
        (Some(ClientKind::Openclaw), Some(agents)) => Ok(Some(ClientChoice {
            find: crate::client::find::FindOptions {
                bin: arguments.openclaw_bin.clone(),
                install: arguments.install_openclaw,
                ..Default::default()
            },
            agents,
            retries: match arguments.openclaw_retries {
                RetriesKind::Stock => Retries::Stock,
                RetriesKind::Bounded => Retries::Bounded,
            },
        })),
    }
}

/// What is shown of a run while it goes on.
struct Output {
    progress: Progress,
    events: Option<Events>,
}

impl Output {
    fn finish(&self) {
        self.progress.finish();
        if let Some(events) = &self.events {
            events.finish();
        }
    }
}

impl Watcher for Output {
    fn entry(&self, entry: &Entry) {
        if let Some(events) = &self.events {
            events.entry(entry);
        }
        self.progress.entry(entry);
    }

    fn progress(&self, line: &str) {
        self.progress.progress(line);
    }
}

/// The final table, and where the files are.
pub(super) fn show(result: &RunResult, dir: &Path, quiet: bool) {
    printer::data(&table(result, printer::color_on_stdout()));
    if !quiet {
        tell_place(dir);
    }
}

fn table(result: &RunResult, color: bool) -> String {
    terminal(result, TerminalStyle { color, width: terminal_width() })
}

fn tell_place(dir: &Path) {
    printer::tell(&format!("report: {}", dir.join("report.md").display()));
}

fn terminal_width() -> usize {
    let columns = rustix::termios::tcgetwinsize(std::io::stdout()).map(|size| usize::from(size.ws_col));
    columns.ok().filter(|columns| *columns > 0).unwrap_or(120)
}

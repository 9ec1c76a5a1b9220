//! The command line: arguments in, library calls, exit codes out. Data goes to stdout, all else to stderr.

mod args;
mod bench;
mod check;
mod compare;
mod doctor;
mod events;
mod exit;
mod gate;
mod init;
mod list;
mod mock;
mod plan;
mod printer;
mod progress;
mod report;
mod restore;
mod run;

use std::future::Future;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use args::{Arguments, Command};
pub use exit::ExitStatus;

/// Parse the process's arguments and do what they say.
#[must_use]
pub fn main() -> ExitCode {
    leave_no_core();
    allow_descriptors();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap knows which of its errors are help and version, and where they are printed.
            let status = if error.use_stderr() { ExitStatus::Usage } else { ExitStatus::Pass };
            let _ = error.print();
            return status.into();
        }
    };
    start_log(&arguments);
    dispatch(arguments).into()
}

fn dispatch(arguments: Arguments) -> ExitStatus {
    let quiet = arguments.quiet;
    match arguments.command {
        Command::Run(run) => run::run(run, quiet),
        Command::Check(check) => check::check(&check),
        Command::Plan(plan) => plan::plan(&plan),
        Command::Restore(restore) => restore::restore(&restore, quiet),
        Command::Doctor(doctor) => doctor::doctor(&doctor),
        Command::Init(init) => init::init(&init, quiet),
        Command::Report(report) => report::report(&report, quiet),
        Command::Compare(sets) => compare::run(&sets),
        Command::List(list) => list::list(&list),
        Command::Mock(mock) => mock::mock(&mock),
        Command::Gate(gate) => gate::gate(gate),
        Command::Bench(bench) => bench::bench(&bench),
        Command::BenchPart { cpu, part, given } => bench::part(&part, cpu, &given),
        Command::Schema { of } => {
            let schema = match of {
                args::SchemaOf::Scenario => crate::input::schema(crate::input::FileKind::Scenario),
                args::SchemaOf::Environment => crate::input::schema(crate::input::FileKind::Environment),
                args::SchemaOf::Result => crate::report::schema(),
            };
            printer::data(&format!("{schema:#}\n"))
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "harness", &mut script);
            printer::data(&String::from_utf8_lossy(&script))
        }
        Command::Supervise { command } => {
            ExitStatus::Other(crate::gateway::litellm::supervise::supervise(command))
        }
    }
}

/// A picture of the memory on disk would show keys. Every child inherits it. Linux's `dumpable` stays as it is: without
/// it, /proc of this process would be closed to its own user, too.
fn leave_no_core() {
    let core = Resource::Core;
    let limit = Rlimit { current: Some(0), ..getrlimit(core) };
    // Less than what is allowed is always allowed.
    let _ = setrlimit(core, limit);
}

/// A probe that hangs holds its connection: with the usual 1024 descriptors a long outage could use them up, and a connect
/// that fails for that reason looks like one that the fault made fail.
fn allow_descriptors() {
    let files = Resource::Nofile;
    let limit = getrlimit(files);
    // As many as the system allows this process.
    let _ = setrlimit(files, Rlimit { current: limit.maximum, ..limit });
}

fn start_log(arguments: &Arguments) {
    use tracing_subscriber::Layer as _;
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;

    let level = match (arguments.quiet, arguments.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    // What a call to the API ended with is told by whoever made it, and whether it matters.
    let targets = Targets::new().with_default(level).with_target("kube_client", LevelFilter::OFF);
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let log = match arguments.log_format {
        args::LogFormat::Text => log.with_ansi(printer::color_on_stderr()).boxed(),
        args::LogFormat::Json => log.json().boxed(),
    };
    // A second call would be a test in the same process; the first log stays.
    let _ = tracing_subscriber::registry().with(log.with_filter(targets)).try_init();
}

/// Run a future on a runtime of its own, so that every task ends with the command.
fn on_runtime<T>(future: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    // Four threads whatever the machine has: the mock world, the probes and the witness live side by side,
    // and a busy machine must not make one wait for another longer than its scheduler does.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
    let outcome = runtime.block_on(future);
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome
}

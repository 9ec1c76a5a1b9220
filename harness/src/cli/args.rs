//! What can be said on the command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::units::Period;

/// Proves that an LLM stack answers from the right model, in time, when the cloud, the GPU or both go away,
/// and that everything comes back afterwards.
#[derive(Debug, Parser)]
#[command(name = "harness", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Arguments {
    /// More log on stderr (twice: even more).
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// No progress, no log below errors.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Form of the log on stderr.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes of `run`:
  0  every verdict is pass
  1  a requirement failed
  2  bad usage or file
  3  inconclusive: nothing failed, but something could not be established (also interrupted or refused)
  4  something could not be restored; the output says what";

/// Form of the log.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take the stack through its modes, measure, judge, restore, and write the reports.
    Run(RunArguments),
    /// Validate files against an environment; touches nothing.
    Check(FileArguments),
    /// Show the order of modes, every mutation with its undo, and the probe rates; changes nothing.
    Plan(PlanArguments),
    /// Look whether an environment is fit for a run, and whether openclaw's move away from Anthropic is done; changes
    /// nothing. Ends with 0 where all is well, with 1 where a requirement fails, with 3 where a run would be refused or
    /// something cannot be told.
    Doctor(DoctorArguments),
    /// Undo what any earlier run has left in a cluster; can be repeated. Ends with 0, also where it left alone what
    /// somebody has changed since, and with 4 where something is left.
    Restore(RestoreArguments),
    /// Draft an environment file from what a cluster has; changes nothing in it.
    Init(InitArguments),
    /// Judge old runs again from their journals and write their reports again.
    Report(ReportArguments),
    /// Lay two runs, or two sets of nights, beside each other: is one slower, or does it miss more often?
    Compare(CompareArguments),
    /// List the runs in a directory, one line each.
    List(ListArguments),
    /// Serve the mock world until interrupted; prints its URLs as JSON.
    Mock(MockArguments),
    /// Stand between a gateway and an endpoint, pass bytes on, and hold the faults that runs ask for, each until its end.
    Gate(GateArguments),
    /// Measure the harness itself: outages of known length, its limits, and other tools beside it.
    Bench(BenchArguments),
    /// Print a JSON Schema.
    Schema {
        /// Of which file.
        #[arg(value_enum)]
        of: SchemaOf,
    },
    /// Print a completion script.
    Completions {
        /// For which shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// A part of the bench, as a process of its own.
    #[command(hide = true)]
    BenchPart {
        /// On which core.
        #[arg(long)]
        cpu: Option<usize>,
        /// Which.
        part: String,
        /// What it is given.
        #[arg(default_value = "")]
        given: String,
    },
    /// Run a command that must not outlive its parent.
    #[command(hide = true)]
    Supervise {
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// Which scenarios, where.
#[derive(Debug, Args)]
pub struct FileArguments {
    /// Scenario files or directories of them [default: scenarios/, or the five built in; with the environment openclaw
    /// those of scenarios/openclaw/].
    pub paths: Vec<PathBuf>,
    /// Environment: a name or a file [default: local; with --client openclaw the environment openclaw].
    #[arg(long, value_name = "NAME|FILE")]
    pub env: Option<String>,
    /// Local runs: a LiteLLM config.yaml that either gateway loads [default: the tuned one built in].
    #[arg(long, value_name = "FILE")]
    pub litellm_config: Option<PathBuf>,
}

/// `harness run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Which scenarios, where.
    #[command(flatten)]
    pub files: FileArguments,
    /// Local runs: the mock gateway, or a real LiteLLM process [default: mock].
    #[arg(long, value_enum)]
    pub gateway: Option<GatewayKind>,
    /// Local runs: which LiteLLM executable.
    #[arg(long, value_name = "FILE", conflicts_with = "install_litellm")]
    pub litellm_bin: Option<PathBuf>,
    /// Local runs: set up the pinned LiteLLM in a cached Python environment.
    #[arg(long)]
    pub install_litellm: bool,
    /// Local runs: what stands before the gateway, for routes with `via`.
    #[arg(long, value_enum)]
    pub client: Option<ClientKind>,
    /// Local runs: which openclaw executable.
    #[arg(long, value_name = "FILE", conflicts_with = "install_openclaw", requires = "client")]
    pub openclaw_bin: Option<PathBuf>,
    /// Local runs: set up the pinned openclaw and the Node that it needs in a cache, with npm.
    #[arg(long, requires = "client")]
    pub install_openclaw: bool,
    /// Local runs: how openclaw retries.
    #[arg(long, value_enum, default_value = "stock", requires = "client")]
    pub openclaw_retries: RetriesKind,
    /// Where run directories go; DIR/latest points at the newest.
    #[arg(long, value_name = "DIR", default_value = "reports")]
    pub out: PathBuf,
    /// The whole run ends, restored, by then (e.g. `10m`).
    #[arg(long, value_name = "D")]
    pub deadline: Option<Period>,
    /// Stream the journal's lines to stdout (`-`) while the run goes on, for other programs; the final table goes to stderr
    /// then.
    #[arg(long, value_name = "-", value_parser = ["-"])]
    pub events: Option<String>,
    /// Clusters: go on although no sweeper would restore if this program and its machine were lost.
    #[arg(long)]
    pub no_dead_man: bool,
}

/// `harness plan`.
#[derive(Debug, Args)]
pub struct PlanArguments {
    /// Which scenarios, where.
    #[command(flatten)]
    pub files: FileArguments,
    /// Clusters: plan for a run with --no-dead-man.
    #[arg(long)]
    pub no_dead_man: bool,
}

/// `harness restore`.
#[derive(Debug, Args)]
pub struct RestoreArguments {
    /// Environment: a name or a file.
    #[arg(long, value_name = "NAME|FILE", default_value = "local")]
    pub env: String,
    /// Only what nobody else will undo, in less than a minute and without waiting for pods: for a CronJob.
    #[arg(long, conflicts_with_all = ["take_over", "wait"])]
    pub abandoned: bool,
    /// Take the lock from a run that lives, which stops it, and restore.
    #[arg(long)]
    pub take_over: bool,
    /// How long to wait until what was scaled back is available [default: `ready_within` of the component].
    #[arg(long, value_name = "D")]
    pub wait: Option<Period>,
}

/// Kind of gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GatewayKind {
    /// Imitates LiteLLM in this process.
    Mock,
    /// A real LiteLLM proxy.
    Litellm,
}

/// What stands before the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClientKind {
    /// A real openclaw, started for the run.
    Openclaw,
}

/// How openclaw retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RetriesKind {
    /// As it ships.
    Stock,
    /// One bounded request a turn: no retries and no fallbacks of its own.
    Bounded,
}

/// `harness doctor`.
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// Environment: a name or a file.
    #[arg(long, value_name = "NAME|FILE", default_value = "local")]
    pub env: String,
    /// Look at this openclaw.json instead, and at nothing else; the environment says only what must be in it.
    #[arg(long, value_name = "FILE")]
    pub openclaw_config: Option<PathBuf>,
    /// Look for Anthropic in this LiteLLM config.yaml instead, and at nothing else.
    #[arg(long, value_name = "FILE")]
    pub litellm_config: Option<PathBuf>,
}

/// `harness init`.
#[derive(Debug, Args)]
pub struct InitArguments {
    /// Context of the kubeconfig.
    #[arg(long, value_name = "X")]
    pub context: String,
    /// The kubeconfig [default: those of $KUBECONFIG, or ~/.kube/config].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespaces to look in [default: all].
    #[arg(long, value_name = "NS", num_args = 1..)]
    pub namespace: Vec<String>,
    /// Where to write the draft, which must not be there yet [default: stdout].
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `harness report`.
#[derive(Debug, Args)]
pub struct ReportArguments {
    /// Run directories.
    #[arg(value_name = "RUN_DIR", default_value = "reports/latest")]
    pub runs: Vec<PathBuf>,
}

/// `harness compare`.
#[derive(Debug, Args)]
pub struct CompareArguments {
    /// A run directory, or a directory of them: those are taken together, and must be of one configuration.
    pub first: PathBuf,
    /// What is compared with it, likewise.
    pub second: PathBuf,
}

/// `harness list`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Directory of run directories.
    #[arg(default_value = "reports")]
    pub dir: PathBuf,
}

/// `harness mock`.
#[derive(Debug, Args)]
pub struct MockArguments {
    /// Environment whose components are served: a name or a file.
    #[arg(long, value_name = "NAME|FILE", default_value = "local")]
    pub env: String,
    /// A LiteLLM config.yaml for the mock gateway [default: the tuned one built in].
    #[arg(long, value_name = "FILE")]
    pub litellm_config: Option<PathBuf>,
}

/// `harness gate`.
#[derive(Debug, Args)]
pub struct GateArguments {
    /// Where the gateway connects.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// Where that leads; the name is looked up for each connection.
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub to: String,
    /// Where runs ask, over HTTP. Whoever reaches it can cut the way; a port-forward reaches it on loopback, too.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9099")]
    pub control: SocketAddr,
    /// The longest time that a fault may be asked for.
    #[arg(long, value_name = "D", default_value = "24h")]
    pub max_hold: Period,
}

/// `harness bench`.
#[derive(Debug, Args)]
pub struct BenchArguments {
    /// Little of everything.
    #[arg(long, conflicts_with_all = ["events", "job"])]
    pub quick: bool,
    /// How many outages.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub events: usize,
    /// Only these rows, e.g. `--row B1 --row B5` [default: all].
    #[arg(long, value_name = "ROW", value_parser = clap::builder::PossibleValuesParser::new(crate::bench::ROWS), conflicts_with = "job")]
    pub row: Vec<String>,
    /// Write the table here, too, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Measure nothing: say how long a run took beside what its scenario files demand.
    #[arg(long, value_name = "RUN_DIR")]
    pub job: Option<PathBuf>,
}

fn host_and_port(text: &str) -> Result<String, String> {
    let right = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if right { Ok(text.to_owned()) } else { Err("write a host and a port, like `ollama.com:443`".to_owned()) }
}

/// What a schema is of.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SchemaOf {
    /// Scenario files.
    Scenario,
    /// Environment files.
    Environment,
    /// `result.json`.
    Result,
}

//! One run of the script: feeding it, reading it, and noticing when it is gone.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::ProberOptions;
use super::line::Lines;
use super::target::Target;

/// What the container runs: it takes the script itself from standard input, since some proxies before an API allow
/// no address long enough for it.
pub const COMMAND: [&str; 4] =
    ["python3", "-u", "-c", "import json;exec(json.loads(open(0,'rb',0,closefd=False).readline()))"];
const SCRIPT: &str = include_str!("prober.py");

/// Between two echoes.
const ECHO_EVERY: Duration = Duration::from_millis(500);
/// Looks come several times a second: nothing for so long is the end.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// What is written fits into the buffers: one that takes longer does not arrive.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// The script ends by itself when it hears nothing for so long.
const UNHEARD_MAX: Duration = Duration::from_secs(15);
/// After the end of its input the script ends at once.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);
/// What is kept of its last words on standard error.
const LAST_WORDS_MAX: usize = 2048;

/// A started process: the script's, or one that could not become it.
pub struct Pipes {
    /// Standard input.
    pub input: Box<dyn AsyncWrite + Send + Unpin>,
    /// Standard output.
    pub output: Box<dyn AsyncRead + Send + Unpin>,
    /// Standard error.
    pub errors: Box<dyn AsyncRead + Send + Unpin>,
    /// Resolves when the process has ended, with what is known of how.
    pub ended: Pin<Box<dyn Future<Output = Option<String>> + Send>>,
    /// What ends the connection when it is dropped.
    pub connection: Box<dyn Send>,
}

/// Starts the process once more.
pub type Opener = Box<dyn Fn() -> BoxFuture<'static, Result<Pipes, CannotOpen>> + Send + Sync>;

/// Why the process was not started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct CannotOpen {
    /// In words.
    pub why: String,
    /// It will not be otherwise next time: forbidden, or the pod is gone.
    pub for_good: bool,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was asked to.
    Stopped,
    /// By itself, with the reason.
    Broke(String),
}

/// Who takes in what is read.
pub(super) trait Reader {
    /// Bytes came.
    fn read(&mut self, lines: &mut Lines, bytes: &[u8]);
    /// The number of an echo that is sent now.
    fn ask_echo(&mut self) -> u64;
}

#[derive(Serialize)]
struct Configuration<'a> {
    targets: &'a [Target],
    look_every_ms: u64,
    hang_ms: u64,
    ask_every_ms: u64,
    resolve_every_ms: u64,
    sockets_every_ms: u64,
    gateway_port: u16,
    ends_after_ms: u64,
    silence_ms: u64,
}

/// The script and its configuration, as two lines.
fn preamble(targets: &[Target], options: &ProberOptions) -> String {
    let ms = |period: Duration| u64::try_from(period.as_millis()).unwrap_or(u64::MAX).max(1);
    let configuration = Configuration {
        targets,
        look_every_ms: ms(options.look_every),
        hang_ms: ms(options.hang),
        ask_every_ms: ms(options.ask_every),
        resolve_every_ms: ms(options.resolve_every),
        sockets_every_ms: ms(options.sockets_every),
        gateway_port: options.gateway_port,
        ends_after_ms: ms(options.ends_after),
        silence_ms: ms(UNHEARD_MAX),
    };
    let script = serde_json::to_string(SCRIPT).expect("text is JSON");
    let configuration = serde_json::to_string(&configuration).expect("strings and numbers are JSON");
    format!("{script}\n{configuration}\n")
}

/// Feed and read one process until it ends or `stop`.
pub(super) async fn follow(
    mut pipes: Pipes,
    targets: &[Target],
    options: &ProberOptions,
    reader: &mut impl Reader,
    stop: &CancellationToken,
) -> End {
    let mut last_words = Vec::new();
    let end = exchange(&mut pipes, &preamble(targets, options), reader, &mut last_words, stop).await;
    let Pipes { mut input, mut output, errors, ended, connection } = pipes;
    // Only this ends the input of an exec; a half of its stream that is dropped does not.
    let _ = timeout(LEAVE_LIMIT, input.shutdown()).await;
    drop(input);
    let said = timeout(LEAVE_LIMIT, async {
        // What nobody reads would keep the end from coming.
        let (mut nowhere, mut rest) = (tokio::io::sink(), output.as_mut());
        let (said, _) = tokio::join!(ended, tokio::io::copy(&mut rest, &mut nowhere));
        said
    });
    let said = said.await.ok().flatten();
    drop((output, errors, connection));
    match end {
        End::Stopped => End::Stopped,
        End::Broke(why) => {
            let words = String::from_utf8_lossy(&last_words);
            // The last line of a traceback names the error; the first line of a shell's message is its only one.
            let word = words.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
            let told: Vec<_> = [why.as_str(), said.as_deref().unwrap_or_default(), word]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect();
            End::Broke(told.join(": "))
        }
    }
}

async fn exchange(
    pipes: &mut Pipes,
    preamble: &str,
    reader: &mut impl Reader,
    last_words: &mut Vec<u8>,
    stop: &CancellationToken,
) -> End {
    let mut lines = Lines::default();
    let (mut bytes, mut words) = (vec![0; 16 * 1024], vec![0; 1024]);
    // Everything that is to be written; the process may print before it has read all of it.
    let mut pending = preamble.as_bytes().to_vec();
    let mut write_by = Instant::now() + WRITE_LIMIT;
    let mut heard = Instant::now();
    let mut echo = interval(ECHO_EVERY);
    echo.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut errors_open = true;
    // While Python starts, an echo would take as long as that.
    let mut runs = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return End::Stopped,
            written = timeout_at(write_by, pipes.input.write(&pending)), if !pending.is_empty() => match written {
                Ok(Ok(count)) if count > 0 => {
                    pending.drain(..count);
                    write_by = Instant::now() + WRITE_LIMIT;
                }
                Ok(_) => pending.clear(),
                Err(_) => return End::Broke("what was written did not arrive".to_owned()),
            },
            _ = echo.tick(), if runs && pending.is_empty() => {
                pending = format!("{}\n", reader.ask_echo()).into_bytes();
                write_by = Instant::now() + WRITE_LIMIT;
            }
            read = timeout_at(heard + SILENCE_MAX, pipes.output.read(&mut bytes)) => match read {
                Ok(Ok(0)) => {
                    if errors_open {
                        // Its last words may still be on their way.
                        let rest = async {
                            while let Ok(count @ 1..) = pipes.errors.read(&mut words).await {
                                keep(last_words, &words[..count]);
                            }
                        };
                        let _ = timeout(LEAVE_LIMIT, rest).await;
                    }
                    return End::Broke("the prober ended".to_owned());
                }
                Ok(Ok(count)) => {
                    (heard, runs) = (Instant::now(), true);
                    reader.read(&mut lines, &bytes[..count]);
                }
                Ok(Err(error)) => return End::Broke(format!("the stream broke ({})", error.kind())),
                Err(_) => return End::Broke(format!("nothing came for {} s", SILENCE_MAX.as_secs())),
            },
            read = pipes.errors.read(&mut words), if errors_open => match read {
                Ok(0) | Err(_) => errors_open = false,
                Ok(count) => keep(last_words, &words[..count]),
            },
        }
    }
}

fn keep(last_words: &mut Vec<u8>, bytes: &[u8]) {
    last_words.extend_from_slice(bytes);
    let surplus = last_words.len().saturating_sub(LAST_WORDS_MAX);
    last_words.drain(..surplus);
}

//! The truth server as a process of its own, and what it tells.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use mocks::truth::{Order, Script, Told, monotonic_us};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::BenchError;
use crate::journal::Clock;

/// `None` once the server tells nothing any more.
type Listeners = Arc<Mutex<Option<BTreeMap<u64, UnboundedSender<Told>>>>>;

/// A running truth server; ends with this.
pub(super) struct TruthServer {
    child: Child,
    orders: Mutex<Option<ChildStdin>>,
    listeners: Listeners,
    next_id: std::sync::atomic::AtomicU64,
}

/// One backend of it.
pub(super) struct Backend<'s> {
    server: &'s TruthServer,
    id: u64,
    told: UnboundedReceiver<Told>,
    /// Port that is asked.
    pub(super) port: u16,
    /// Port of the component behind it.
    pub(super) component: u16,
}

impl TruthServer {
    /// Start it, on this core where one is named.
    pub(super) fn start(cpu: Option<usize>) -> Result<Self, BenchError> {
        let program = std::env::current_exe()?;
        let mut command = Command::new(program);
        command.arg("bench-part").stdin(Stdio::piped()).stdout(Stdio::piped());
        command.args(cpu.map(|cpu| format!("--cpu={cpu}"))).arg("truth");
        let mut child = command.spawn()?;
        let listeners = Listeners::new(Mutex::new(Some(BTreeMap::new())));
        if let Some(lines) = child.stdout.take() {
            let listeners = Arc::clone(&listeners);
            std::thread::Builder::new().name("truth".into()).spawn(move || {
                for line in BufReader::new(lines).lines().map_while(Result::ok) {
                    tell(&listeners, &line);
                }
                // Whoever waits for it hears that it is gone.
                listeners.lock().unwrap_or_else(PoisonError::into_inner).take();
            })?;
        }
        let orders = Mutex::new(child.stdin.take());
        Ok(Self { child, orders, listeners, next_id: 0.into() })
    }

    fn order(&self, order: &Order) -> Result<(), BenchError> {
        let mut line = serde_json::to_string(order).map_err(|error| BenchError::Truth(error.to_string()))?;
        line.push('\n');
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        match orders.as_mut() {
            Some(orders) => Ok(orders.write_all(line.as_bytes()).and_then(|()| orders.flush())?),
            None => Err(BenchError::Truth("it takes no orders".to_owned())),
        }
    }

    /// A new backend, which listens.
    pub(super) async fn open(&self, script: Script) -> Result<Backend<'_>, BenchError> {
        let id = self.next_id.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (sender, mut told) = unbounded_channel();
        if let Some(listeners) = &mut *self.listeners.lock().unwrap_or_else(PoisonError::into_inner) {
            listeners.insert(id, sender);
        }
        self.order(&Order::Open { id, script })?;
        match told.recv().await {
            Some(Told::Opened { port, component, .. }) => {
                Ok(Backend { server: self, id, told, port, component })
            }
            Some(Told::Failed { why, .. }) => Err(BenchError::Truth(why)),
            _ => Err(BenchError::Truth("it is gone".to_owned())),
        }
    }
}

impl Drop for TruthServer {
    fn drop(&mut self) {
        // It ends with its orders; what does not is killed.
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn tell(listeners: &Listeners, line: &str) {
    let Ok(told) = serde_json::from_str::<Told>(line) else { return };
    let (Told::Opened { id, .. }
    | Told::Down { id, .. }
    | Told::Changed { id, .. }
    | Told::Ended { id, .. }
    | Told::Failed { id, .. }) = &told;
    let mut listeners = listeners.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(listeners) = &mut *listeners else { return };
    let is_over = matches!(told, Told::Ended { .. } | Told::Failed { .. });
    let id = *id;
    if let Some(listener) = listeners.get(&id) {
        let _gone = listener.send(told);
    }
    if is_over {
        listeners.remove(&id);
    }
}

/// What really happened, in microseconds of CLOCK_MONOTONIC; each change lies between its two instants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Happened {
    /// The component went down.
    pub(super) down: Option<(u64, u64)>,
    /// The steps that were made, in order.
    pub(super) steps: Vec<(u64, u64)>,
    /// Requests that it got.
    pub(super) requests: u64,
}

impl Backend<'_> {
    /// Its URL, without `/v1`.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Start its script and do not wait.
    pub(super) fn start(&self) -> Result<(), BenchError> {
        self.server.order(&Order::Go { id: self.id })
    }

    /// Start its script; comes back once the first step is made.
    pub(super) async fn go(&mut self, happened: &mut Happened) -> Result<(), BenchError> {
        self.start()?;
        while happened.steps.is_empty() {
            self.take(happened).await?;
        }
        Ok(())
    }

    /// End it, with all that it told meanwhile.
    pub(super) async fn end(mut self, happened: &mut Happened) -> Result<(), BenchError> {
        self.server.order(&Order::End { id: self.id })?;
        while self.take(happened).await? {}
        Ok(())
    }

    /// Take one thing that it tells; false once it is over.
    async fn take(&mut self, happened: &mut Happened) -> Result<bool, BenchError> {
        match self.told.recv().await {
            Some(Told::Down { from_us, to_us, .. }) => happened.down = Some((from_us, to_us)),
            Some(Told::Changed { from_us, to_us, .. }) => happened.steps.push((from_us, to_us)),
            Some(Told::Ended { requests, .. }) => {
                happened.requests = requests;
                return Ok(false);
            }
            Some(Told::Failed { why, .. }) => return Err(BenchError::Truth(why)),
            Some(Told::Opened { .. }) => {}
            None => return Err(BenchError::Truth("it is gone".to_owned())),
        }
        Ok(true)
    }
}

/// CLOCK_MONOTONIC at the zero of a run's clock.
pub(super) fn zero_of(clock: Clock) -> u64 {
    // The least of several readings is the one that nothing came between.
    (0..9).map(|_| monotonic_us().saturating_sub(clock.now_us())).min().unwrap_or(0)
}

/// The truth server itself: orders on stdin, what it tells on stdout, both a JSON object a line.
pub(super) fn serve() -> std::io::Result<()> {
    let (orders, received) = unbounded_channel::<Order>();
    let (tell, mut told) = unbounded_channel::<Told>();
    std::thread::Builder::new().name("orders".into()).spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(order) = serde_json::from_str(&line) else { continue };
            if orders.send(order).is_err() {
                return;
            }
        }
    })?;
    let printer = std::thread::Builder::new().name("told".into()).spawn(move || {
        let mut out = std::io::stdout().lock();
        while let Some(told) = told.blocking_recv() {
            let Ok(line) = serde_json::to_string(&told) else { continue };
            if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
                return;
            }
        }
    })?;
    // One thread: it has one core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(mocks::truth::serve(received, tell));
    drop(runtime);
    let _joined = printer.join();
    Ok(())
}

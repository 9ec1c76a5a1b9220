//! Backends that listen, and make the steps of their scripts.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connection::{self, Shared, State};
use super::reply::{Errors, Replies};
use super::{Does, Order, PRIMARY, SPARE, Script, Told, monotonic_us};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 4096;
/// How often a port is tried that was given up.
const AGAIN_MAX: u32 = 2000;

/// Carries out orders until there are no more.
pub async fn serve(mut orders: UnboundedReceiver<Order>, told: UnboundedSender<Told>) {
    let mut backends = JoinSet::new();
    let mut by_id: BTreeMap<u64, UnboundedSender<Command>> = BTreeMap::new();
    while let Some(order) = orders.recv().await {
        match order {
            Order::Open { id, script } => {
                let (commands, received) = unbounded_channel();
                by_id.insert(id, commands);
                let told = told.clone();
                backends.spawn(async move {
                    if let Err(error) = run(id, &script, received, &told).await {
                        let _left = told.send(Told::Failed { id, why: error.to_string() });
                    }
                });
            }
            Order::Go { id } => command(&by_id, id, Command::Go, &told),
            Order::End { id } => {
                command(&by_id, id, Command::End, &told);
                by_id.remove(&id);
            }
        }
        while backends.try_join_next().is_some() {}
    }
}

enum Command {
    Go,
    End,
}

fn command(
    by_id: &BTreeMap<u64, UnboundedSender<Command>>,
    id: u64,
    command: Command,
    told: &UnboundedSender<Told>,
) {
    let sent = by_id.get(&id).is_some_and(|backend| backend.send(command).is_ok());
    if !sent {
        let _left = told.send(Told::Failed { id, why: "there is no such backend".to_owned() });
    }
}

async fn run(
    id: u64,
    script: &Script,
    mut commands: UnboundedReceiver<Command>,
    told: &UnboundedSender<Told>,
) -> std::io::Result<()> {
    let mut listener = Some(listen(0)?);
    let mut component = Some(listen(0)?);
    let port = |listener: &Option<TcpListener>| {
        listener.as_ref().map_or(Ok(0), |listener| listener.local_addr().map(|address| address.port()))
    };
    let own_port = port(&listener)?;
    let _left = told.send(Told::Opened { id, port: own_port, component: port(&component)? });
    let replies = |alias: &str| Arc::new(Replies::of(alias, script.chunks));
    let first = State { does: Does::Serve(PRIMARY.to_owned()), replies: replies(PRIMARY) };
    let (state, _) = watch::channel(first);
    let shared = Arc::new(Shared {
        errors: Errors::new(),
        chunk_gap: Duration::from_micros(script.chunk_gap_us),
        requests: AtomicU64::new(0),
    });
    // Built before they are needed, so that a step takes no longer than it must.
    let steps: Vec<State> = script
        .steps
        .iter()
        .map(|step| State {
            does: step.does.clone(),
            replies: match &step.does {
                Does::Serve(alias) => replies(alias),
                _ => replies(SPARE),
            },
        })
        .collect();
    // Whoever still asks is cut off when the backend is over.
    let mut clients = JoinSet::new();
    let (mut started, mut next) = (None::<Instant>, 0);
    loop {
        let due = started.zip(script.steps.get(next));
        let due = due.map(|(from, step)| from + Duration::from_micros(step.after_us));
        tokio::select! {
            biased;
            () = at(due) => {
                if next == 0 && script.takes_down {
                    let from_us = monotonic_us();
                    component = None;
                    let _left = told.send(Told::Down { id, from_us, to_us: monotonic_us() });
                }
                let from_us = monotonic_us();
                let refuses = steps[next].does == Does::Refuse;
                if refuses {
                    listener = None;
                } else if listener.is_none() {
                    listener = Some(listen_again(own_port).await?);
                }
                state.send_replace(steps[next].clone());
                let _left = told.send(Told::Changed { id, step: next, from_us, to_us: monotonic_us() });
                next += 1;
            }
            command = commands.recv() => match command {
                Some(Command::Go) => started = Some(Instant::now()),
                Some(Command::End) | None => break,
            },
            stream = accept(&listener) => {
                clients.spawn(connection::serve(stream, state.subscribe(), Arc::clone(&shared)));
            }
            // A look is answered by being accepted.
            _look = accept(&component) => {}
        }
        while clients.try_join_next().is_some() {}
    }
    let requests = shared.requests.load(Ordering::Relaxed);
    let _left = told.send(Told::Ended { id, requests });
    Ok(())
}

fn listen(port: u16) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.listen(BACKLOG)
}

/// On a port that was given up: until it is free, somebody's connection may have been given it.
async fn listen_again(port: u16) -> std::io::Result<TcpListener> {
    for _ in 0..AGAIN_MAX {
        if let Ok(listener) = listen(port) {
            return Ok(listener);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    listen(port)
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn accept(listener: &Option<TcpListener>) -> tokio::net::TcpStream {
    match listener {
        Some(listener) => loop {
            if let Ok((stream, _)) = listener.accept().await {
                return stream;
            }
            // Out of files: those that end make room.
            tokio::task::yield_now().await;
        },
        None => std::future::pending().await,
    }
}

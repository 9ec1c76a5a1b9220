//! Looking again and again, and telling the journal what changed.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::look::{Look, Target};
use crate::journal::{Event, Journal};

/// How often unchanged observations are summed up in the journal.
const COUNT_EVERY_US: u64 = 1_000_000;

/// The newest observation, and the last change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// `None` before the first look.
    pub up: Option<bool>,
    /// When the last change to down was *known* (upper end of its bracket), if it is down.
    pub down_since_us: Option<u64>,
    /// When the newest look that saw it down was sent.
    pub last_down_sent_us: Option<u64>,
    /// When the newest look was sent.
    pub last_sent_us: u64,
    /// What was seen last.
    pub saw: String,
}

/// A running witness of one component.
pub struct Witness {
    observed: watch::Receiver<Observed>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Witness {
    /// Start looking.
    #[must_use]
    pub fn start(component: &str, target: Target, client: reqwest::Client, journal: Arc<Journal>) -> Self {
        let (sender, observed) = watch::channel(Observed::default());
        let stop = CancellationToken::new();
        let teller = Teller { component: component.to_owned(), source: target.source(), journal, sender };
        let task = tokio::spawn(look_on(target, client, teller, stop.clone()));
        Self { observed, stop, task: Some(task) }
    }

    /// Someone else looks, and tells the journal; this one only passes on what they see.
    #[must_use]
    pub fn following(observed: watch::Receiver<Observed>) -> Self {
        Self { observed, stop: CancellationToken::new(), task: None }
    }

    /// What it sees.
    #[must_use]
    pub fn observed(&self) -> watch::Receiver<Observed> {
        self.observed.clone()
    }

    /// Stop looking; looks under way are given up.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// One that is replaced stops looking, too: two witnesses of one component would tell everything twice.
impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn look_on(target: Target, client: reqwest::Client, mut teller: Teller, stop: CancellationToken) {
    let mut timer = tokio::time::interval(target.every());
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    // Looks overlap when they hang; results are taken in the order of sending. Bounded: each look ends
    // by its hang limit, so at most hang / every are open.
    let mut looks = FuturesOrdered::new();
    let mut counts = Counts::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = timer.tick() => {
                let (target, client, clock) = (target.clone(), client.clone(), teller.journal.clock());
                looks.push_back(async move {
                    let sent_us = clock.now_us();
                    let look = target.look(&client).await;
                    (sent_us, clock.now_us(), look)
                });
            }
            Some((sent_us, done_us, look)) = looks.next() => teller.tell(&mut counts, sent_us, done_us, &look),
        }
    }
    counts.flush(&teller);
}

struct Teller {
    component: String,
    source: &'static str,
    journal: Arc<Journal>,
    sender: watch::Sender<Observed>,
}

impl Teller {
    fn tell(&mut self, counts: &mut Counts, sent_us: u64, done_us: u64, look: &Look) {
        let before = self.sender.borrow().clone();
        if before.up != Some(look.up) {
            counts.flush(self);
            self.journal.append(Event::WitnessSaw {
                component: self.component.clone(),
                source: self.source.to_owned(),
                up: look.up,
                sent_us,
                done_us,
                saw: look.saw.clone(),
                previous_sent_us: before.up.map(|_| before.last_sent_us),
            });
        }
        counts.add(self, sent_us, look.up);
        self.sender.send_modify(|observed| {
            if !look.up {
                if observed.up != Some(false) {
                    observed.down_since_us = Some(done_us);
                }
                observed.last_down_sent_us = Some(sent_us);
            } else {
                observed.down_since_us = None;
            }
            observed.up = Some(look.up);
            observed.last_sent_us = sent_us;
            observed.saw.clone_from(&look.saw);
        });
    }
}

#[derive(Default)]
struct Counts {
    from_us: u64,
    to_us: u64,
    up: u64,
    down: u64,
}

impl Counts {
    fn add(&mut self, teller: &Teller, sent_us: u64, up: bool) {
        if self.up + self.down == 0 {
            self.from_us = sent_us;
        }
        self.to_us = sent_us;
        *(if up { &mut self.up } else { &mut self.down }) += 1;
        if self.to_us - self.from_us >= COUNT_EVERY_US {
            self.flush(teller);
        }
    }

    fn flush(&mut self, teller: &Teller) {
        let Self { from_us, to_us, up, down } = std::mem::take(self);
        if up + down > 0 {
            let component = teller.component.clone();
            teller.journal.append(Event::WitnessCounted { component, from_us, to_us, up, down });
        }
    }
}

/// Wait until a witness's observation satisfies `wanted`; `None` when `limit` is over or it stopped.
pub(crate) async fn wait_until(
    observed: &mut watch::Receiver<Observed>,
    limit: Duration,
    wanted: impl FnMut(&Observed) -> bool,
) -> Option<Observed> {
    let seen = tokio::time::timeout(limit, observed.wait_for(wanted)).await.ok()?.ok()?;
    Some(seen.clone())
}

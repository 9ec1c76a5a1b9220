//! How every controller works: something of its kinds changes, it looks a moment later at everything as it is by
//! then, and sets right what is wrong. So nothing depends on which changes it saw.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::kubernetes::resources::Resource;
use crate::kubernetes::store::{Store, Subscription};

/// One controller.
pub(crate) trait Reconcile: Send + 'static {
    /// The kinds whose changes call for a look.
    fn kinds(&self) -> Vec<&'static Resource>;

    /// Looks at everything and sets right what is wrong. The answer is after how long to look again even if nothing
    /// changes.
    fn reconcile(&mut self) -> impl Future<Output = Option<Duration>> + Send;

    /// Gives up what it holds; the last call.
    fn close(self) -> impl Future<Output = ()> + Send
    where
        Self: Sized,
    {
        async {}
    }
}

/// Runs a controller until `end`: first at once, and then `delay` after each change.
pub(crate) async fn run(
    store: Store,
    delay: Duration,
    end: CancellationToken,
    mut controller: impl Reconcile,
) {
    let kinds = controller.kinds();
    let work = async {
        loop {
            let mut changes = subscribe(&store);
            let again = controller.reconcile().await;
            let deadline = again.map(|after| Instant::now() + after);
            let changed = next_of(&mut changes, &kinds);
            match deadline {
                None => changed.await,
                Some(deadline) => {
                    // Either is a reason to look.
                    let _woken = tokio::time::timeout_at(deadline, changed).await;
                }
            }
            tokio::time::sleep(delay).await;
        }
    };
    tokio::select! {
        () = end.cancelled() => {}
        () = work => {}
    }
    controller.close().await;
}

/// All changes from now on.
pub(crate) fn subscribe(store: &Store) -> Subscription {
    loop {
        // The version may be compacted away between the two calls, and then there is a newer one.
        if let Ok(changes) = store.subscribe(store.version()) {
            return changes;
        }
    }
}

/// Waits for a change of one of these kinds; also for having missed some.
async fn next_of(changes: &mut Subscription, kinds: &[&'static Resource]) {
    while let Ok(change) = changes.next().await {
        if kinds.contains(&change.key.resource) {
            return;
        }
    }
}

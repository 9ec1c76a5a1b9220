//! What stands before the gateway of a local run: openclaw with a relay behind it, and a Bot API where people write over
//! Telegram. Started after the gateway, stopped before it, whatever happens.

use std::collections::BTreeMap;
use std::sync::Arc;

use mocks::telegram::BotApi;

use super::stage::Stage;
use crate::client::find::{FindOptions, Found, find};
use crate::client::process::{OpenClaw, READY_WITHIN, StartOptions};
use crate::client::relay::Relay;
use crate::client::{AGENT, Agents, Retries, transcript};
use crate::environment::Via;
use crate::gateway::litellm::process::own_guard;
use crate::gateway::local::Gateway;
use crate::gateway::secret::Secret;
use crate::journal::{ClientStarted, Event, WarmUp};
use crate::probe::{Chats, Ledger, Prober, Way, Ways};
use crate::verdict::result::Ended;

/// What stands before the gateway.
#[derive(Clone, Debug)]
pub struct ClientChoice {
    /// Which openclaw.
    pub find: FindOptions,
    /// Its models.
    pub agents: Agents,
    /// How it retries.
    pub retries: Retries,
}

/// All that stands before the gateway. Dropping it kills it.
pub(super) struct Conversation {
    found: Found,
    openclaw: OpenClaw,
    relay: Relay,
    telegram: Option<Arc<BotApi>>,
}

impl Stage<'_> {
    /// openclaw before this gateway, ready and warm, if the run has one; and the prober, whose routes go through it then.
    ///
    /// # Errors
    /// How the run ended without it.
    pub(super) async fn start_conversation(
        &self,
        prober: Prober,
        gateway: &Gateway,
    ) -> Result<(Prober, Option<Conversation>), Ended> {
        let Some(choice) = &self.options.client else { return Ok((prober, None)) };
        let ledger = Ledger::default();
        let started = tokio::select! {
            // Dropping the start kills what it has started.
            () = self.options.stop.token().cancelled() => return Err(self.interrupted()),
            started = self.start_openclaw(choice, gateway, &ledger) => started,
        };
        let conversation = started.map_err(|error| self.refuse(&error))?;
        let warm = tokio::select! {
            () = self.options.stop.token().cancelled() => None,
            warm = conversation.openclaw.warm_up() => Some(warm),
        };
        let Some((status, took)) = warm else {
            self.stop_conversation(conversation).await;
            return Err(self.interrupted());
        };
        let turn =
            WarmUp { alias: AGENT.to_owned(), streamed: false, status, took_ms: took.as_secs_f64() * 1000.0 };
        self.journal.append(Event::WarmedUp { requests: vec![turn] });
        Ok((prober.through(self.ways(&conversation, ledger)), Some(conversation)))
    }

    /// In words, why it is not there.
    async fn start_openclaw(
        &self,
        choice: &ClientChoice,
        gateway: &Gateway,
        ledger: &Ledger,
    ) -> Result<Conversation, String> {
        let mut progress = |line: &str| self.watcher.progress(line);
        let found = find(&choice.find, &mut progress).await.map_err(|error| error.to_string())?;
        progress(&format!("starting openclaw {}", found.version));
        let no_relay = |error: std::io::Error| format!("the relay before the gateway did not start: {error}");
        let relay = Relay::start(&gateway.url, Arc::clone(&self.journal), ledger.clone());
        let relay = relay.await.map_err(no_relay)?;
        let token = Secret::new(format!("1:{}", Secret::random().expose()));
        let telegram = match choice.agents.telegram {
            true => Some(BotApi::start(0, token.expose()).await),
            false => None,
        };
        let telegram = telegram.transpose();
        let telegram = telegram.map_err(|error| format!("the mock Bot API did not start: {error}"))?;
        let gateway_url = relay.url();
        let api_root = telegram.as_ref().map(BotApi::url);
        let openclaw = OpenClaw::start(StartOptions {
            found: &found,
            agents: &choice.agents,
            retries: choice.retries,
            gateway_url: &gateway_url,
            gateway_key: &self.keys.probes,
            telegram: api_root.as_deref().map(|url| (url, &token)),
            run_dir: &self.dir,
            guard: own_guard().map_err(|error| format!("cannot find this program's own file: {error}"))?,
            ready_within: READY_WITHIN,
        });
        let openclaw = openclaw.await.map_err(|error| error.to_string())?;
        if let Some(telegram) = &telegram {
            let polled = tokio::time::timeout(READY_WITHIN, telegram.polled()).await;
            polled.map_err(|_| "openclaw never asked the Bot API for updates".to_owned())?;
        }
        self.journal.append(Event::ClientStarted(ClientStarted {
            version: found.version.clone(),
            retries: choice.retries.word().to_owned(),
            settings: choice.retries.settings(),
        }));
        Ok(Conversation { found, openclaw, relay, telegram: telegram.map(Arc::new) })
    }

    fn ways(&self, conversation: &Conversation, ledger: Ledger) -> Ways {
        let openclaw = &conversation.openclaw;
        let chats = conversation.telegram.as_ref().map(|api| Arc::new(Chats::new(Arc::clone(api))));
        let mut ways = BTreeMap::new();
        for (name, route) in &self.options.environment.routes {
            let (url, token) = (openclaw.url(), openclaw.token().clone());
            let way = match route.via {
                Via::Gateway => None,
                Via::Openclaw => Some(Way::Chat { url, token, agent: AGENT.to_owned() }),
                Via::OpenclawSubagent => Some(Way::Hook { url, token: openclaw.hooks_token().clone() }),
                Via::Telegram => chats.clone().map(Way::Telegram),
            };
            ways.extend(way.map(|way| (name.clone(), way)));
        }
        Ways::new(ways, ledger)
    }

    /// Stops all of it; what cannot be stopped is told.
    pub(super) async fn stop_conversation(&self, conversation: Conversation) {
        let Conversation { found, openclaw, relay, telegram } = conversation;
        if !openclaw.is_alive() {
            let text = format!(
                "openclaw ended by itself during the run: from then on nobody got through it; its log is {}",
                crate::client::process::LOG_FILE
            );
            self.journal.append(Event::Found { text });
        }
        if let Err(error) = openclaw.stop().await {
            self.journal.append(Event::Found { text: error.to_string() });
        }
        relay.shutdown().await;
        match transcript::read(&found, &self.dir).await {
            Ok(turns) => {
                turns.into_iter().for_each(|turn| self.journal.append(Event::TurnTranscribed(turn)));
            }
            Err(why) => {
                let text = format!("openclaw's own transcripts could not be read: {why}");
                self.journal.append(Event::Found { text });
            }
        }
        if let Some(telegram) = telegram {
            telegram.shutdown().await;
        }
    }
}

//! What is found out before anything is measured or changed.

use super::stage::Stage;
use crate::cluster::access::Access;
use crate::cluster::gateway::Gateway;
use crate::cluster::openclaw;
use crate::gateway::pages::Pages;
use crate::gateway::secret::Secret;
use crate::journal::Event;
use crate::outlook;

impl Stage<'_> {
    /// Writes down how the gateway says that it routes. A run goes on whatever it says.
    pub(super) async fn ask_gateway(&self, url: &str, key: &Secret) {
        let pages = Pages { url, key };
        let asked = tokio::select! {
            () = self.options.stop.token().cancelled() => return,
            asked = pages.routing() => asked,
        };
        let told = asked
            .map_err(|error| error.to_string())
            .and_then(|[settings, info, models]| outlook::read(&settings, &info, &models));
        let (settings, why) = match told {
            Ok(settings) => (Some(Box::new(settings)), None),
            Err(why) => (None, Some(why)),
        };
        self.journal.append(Event::GatewayTold { settings, why });
    }

    /// Writes down the state that openclaw's migration has left, where the environment says where openclaw is. A run goes
    /// on whatever it is: it keeps no mode from being measured.
    pub(super) async fn look_at_migration(&self, access: &Access, gateway: &Gateway) {
        let lines = tokio::select! {
            () = self.options.stop.token().cancelled() => return,
            lines = openclaw::migration(access, &self.options.environment, Ok(gateway)) => lines,
        };
        if let Some(lines) = lines {
            self.journal.append(Event::MigrationSeen { lines });
        }
    }
}

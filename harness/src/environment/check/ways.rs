//! Routes that enter the stack before the gateway.

use super::World;
use crate::environment::Via;
use crate::environment::written::RouteWritten;
use crate::input::at::{At, Entries, FromText};
use crate::input::checker::Checker;

/// openclaw has one agent that people talk to and one model for sub-agents: routes that share one must agree.
pub(super) fn check(check: &mut Checker<'_>, routes: &Entries<RouteWritten>, world: &World<'_>) {
    let mut agents: [Option<(&At<String>, &At<String>)>; 2] = [None, None];
    for (name, route) in &routes.0 {
        let Some(route) = route else { continue };
        let Some(written) = route.via.there() else { continue };
        // What is no way has been said.
        let Ok(via) = Via::read(&written.value.text) else { continue };
        if via == Via::Gateway {
            continue;
        }
        if matches!(world, World::Cluster { .. }) {
            check.problem(
                written.place,
                "openclaw is started on this machine, before a gateway of this machine",
                "leave `via` out, or write an environment with `embedded: { profile: realistic }` alone",
            );
        }
        let (agent, what) = match via {
            Via::OpenclawSubagent => (&mut agents[1], "sub-agents"),
            Via::Gateway | Via::Openclaw | Via::Telegram => (&mut agents[0], "agent"),
        };
        let Some(model) = route.model.there() else { continue };
        match agent {
            None => *agent = Some((name, model)),
            Some((first, own)) if own.value != model.value => check.problem(
                model.place,
                &format!(
                    "openclaw's {what} cannot use `{}` here and `{}` on `{}`",
                    model.value, own.value, first.value
                ),
                "a run has one openclaw: give these routes the same model",
            ),
            Some(_) => {}
        }
    }
}

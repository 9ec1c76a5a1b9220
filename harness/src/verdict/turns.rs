//! Turns with openclaw, in words: whether its layer and the gateway's compounded, and what bounds that.

use crate::analysis::{Figures, KnownFrom, RunFacts, TurnFigures, ms, turns};

use super::result::Turns;

/// `None` where a route enters at the gateway.
pub(super) fn of(run: &RunFacts, figures: &Figures) -> Option<Turns> {
    let route = run.start.environment.routes.get(&figures.planned.route)?;
    if route.via.is_gateway() {
        return None;
    }
    let own = turns(&figures.judged, &figures.planned.model);
    let unknown = || "unknown".to_owned();
    let known_by = own.known_from.iter().map(|(from, count)| (source(*from).to_owned(), *count));
    Some(Turns {
        via: route.via.word().to_owned(),
        version: run.client.as_ref().map_or_else(unknown, |client| client.version.clone()),
        retries: run.client.as_ref().map_or_else(unknown, |client| client.retries.clone()),
        requests: own.requests,
        most: own.most,
        several: own.several,
        none: own.none,
        gateway_ms: own.gateway.clone(),
        before_ms: own.before.clone(),
        known_by: known_by.collect(),
        words: words(run, figures, &own),
    })
}

fn source(from: KnownFrom) -> &'static str {
    match from {
        KnownFrom::Upstream => "journal of the upstream",
        KnownFrom::GatewayHeaders => "headers of the gateway's answer to openclaw",
        KnownFrom::StreamModel => "model that the gateway's stream names",
        KnownFrom::Transcript => "responseModel in openclaw's own transcript",
        KnownFrom::Window => "gateway's answer to the only turn in flight",
        KnownFrom::Nothing => "nothing",
    }
}

fn words(run: &RunFacts, figures: &Figures, own: &TurnFigures) -> Vec<String> {
    let turns = figures.judged.len() as u64;
    let mut words = Vec::new();
    if turns == 0 {
        return words;
    }
    if let Some((waited_us, first_us)) = own.longest_several_us {
        words.push(format!(
            "The layers compounded: {} of {turns} turns became several requests to the gateway, {} at most, since openclaw asks again what the gateway has already tried on its whole chain. The longest of these turns took {:.1} s, the first request of it {:.1} s.",
            own.several,
            own.most,
            ms(waited_us) / 1000.0,
            ms(first_us) / 1000.0
        ));
        words.push(
            "What bounds it: `retry.provider.maxRetries: 0` in openclaw's agent/settings.json; openclaw.json has no key for it."
                .to_owned(),
        );
    } else {
        words.push(
            "The layers did not compound: no turn became more than one request to the gateway.".to_owned(),
        );
    }
    if !own.others_asked.is_empty() {
        let others: Vec<&str> = own.others_asked.iter().map(String::as_str).collect();
        words.push(format!(
            "openclaw went on to its own fallbacks ({}), which the gateway's chain has too: `agents.defaults.model.fallbacks: []` in openclaw.json leaves them to the gateway.",
            others.join(", ")
        ));
    }
    if own.unanswered > 0 {
        words.push(format!(
            "In {} turns a request was given up that the gateway had not answered. What bounds such a wait: `models.providers.litellm.timeoutSeconds` in openclaw.json, and `timeout` in LiteLLM's router settings for each model that it tries.",
            own.unanswered
        ));
    }
    if own.none > 0 {
        words.push(format!("Of {} turns no request reached the gateway.", own.none));
    }
    let set = run.client.as_ref().map(|client| client.settings.join("; ")).filter(|set| !set.is_empty());
    words.extend(set.map(|set| format!("Set in this run: {set}.")));
    words
}

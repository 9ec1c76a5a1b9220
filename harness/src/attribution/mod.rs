//! Who served a reply: a claim from every source, one answer by the strongest, conflicts named.
//!
//! One file a source. Strongest first: the upstreams' own journals, the gateway's response headers, the body, and of turns
//! through openclaw its own transcript. What a model says about itself is never a source, nor are headers that are known to lie: LiteLLM's hop count (it counts
//! nesting) and its overhead (it holds sleeps and misses hangs). A reply that no source names is nobody's.

pub mod balance;
mod body;
pub mod counters;
pub mod gateway_log;
mod headers;
pub mod hops;
mod journals;
pub mod ollama_log;
mod reconcile;
mod transcript;
pub mod uvicorn_log;
pub mod window;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use self::reconcile::{Attribution, Stand, reconcile};
use crate::journal::{ClaimSource, ProbeRecord, UpstreamCall};

/// What can say who served one reply. Strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The upstreams' own records of the probe.
    Journal,
    /// `x-litellm-model-id`.
    HeaderModelId,
    /// `x-litellm-model-group`.
    HeaderModelGroup,
    /// `x-litellm-model-api-base`: a component and no alias.
    HeaderApiBase,
    /// `model` of a whole reply.
    BodyWhole,
    /// `model` of a stream's first chunk.
    BodyStreamed,
    /// `responseModel` of openclaw's own transcript.
    Transcript,
}

impl Source {
    /// All of them, strongest first.
    pub const ALL: [Self; 7] = [
        Self::Journal,
        Self::HeaderModelId,
        Self::HeaderModelGroup,
        Self::HeaderApiBase,
        Self::BodyWhole,
        Self::BodyStreamed,
        Self::Transcript,
    ];

    /// As reports name it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Journal => "upstream journal",
            Self::HeaderModelId => "x-litellm-model-id",
            Self::HeaderModelGroup => "x-litellm-model-group",
            Self::HeaderApiBase => "x-litellm-model-api-base",
            Self::BodyWhole => "body model",
            Self::BodyStreamed => "chunk model",
            Self::Transcript => "openclaw's transcript",
        }
    }

    /// How much its word counts.
    #[must_use]
    pub fn strength(self) -> Strength {
        match self {
            Self::Journal => Strength::Served,
            Self::HeaderModelId | Self::HeaderModelGroup => Strength::Routed,
            Self::HeaderApiBase => Strength::Reached,
            Self::BodyWhole | Self::BodyStreamed | Self::Transcript => Strength::Named,
        }
    }
}

/// How much a claim counts, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strength {
    /// A name in the reply, which LiteLLM fills in by four different rules.
    Named,
    /// Where the gateway sent the request.
    Reached,
    /// Whom the gateway chose.
    Routed,
    /// Whoever served wrote it down.
    Served,
}

/// What one source claims of one reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The alias, where it names one.
    pub alias: Option<String>,
    /// The component, where that is known.
    pub component: Option<String>,
    /// How much it counts.
    pub strength: Strength,
    /// The value as it stood there.
    pub raw: String,
}

/// What became of asking one source about one reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It says nothing.
    Nothing,
    /// It says something that names nobody who is known, or that is known to be wrong there.
    Unusable(String),
    /// It names somebody.
    Claim(Claimed),
}

/// One source's word on one reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Which source.
    pub source: Source,
    /// What it says.
    pub said: Said,
}

/// What is known about aliases.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Alias by upstream model name without provider, e.g. `kimi-k2.5` -> `cloud-kimi`; deployment ids, too.
    pub by_upstream_model: BTreeMap<String, String>,
    /// Component by alias.
    pub components: BTreeMap<String, String>,
    /// Component by where the gateway reaches it: `host:port`, or `host` alone.
    pub bases: BTreeMap<String, String>,
}

impl Names {
    /// The alias that an upstream's journal speaks of.
    #[must_use]
    pub fn of_upstream(&self, model: &str) -> Option<&str> {
        self.by_upstream_model.get(model).map(String::as_str)
    }

    fn is_alias(&self, name: &str) -> bool {
        self.by_upstream_model.values().any(|alias| alias == name)
    }

    /// An alias, a `provider/model`, or an upstream model name; anything else names nobody.
    fn of_text<'a>(&'a self, text: &'a str) -> Option<&'a str> {
        if self.is_alias(text) {
            return Some(text);
        }
        let model = text.split_once('/').map_or(text, |(_, model)| model);
        self.of_upstream(text).or_else(|| self.of_upstream(model))
    }

    /// The component at a URL.
    fn of_base(&self, url: &str) -> Option<&str> {
        let (at, host) = place(url)?;
        let service = host.trim_end_matches(".cluster.local").trim_end_matches(".svc");
        let known = [at.as_str(), host.as_str(), service].into_iter().find_map(|key| self.bases.get(key));
        known.map(String::as_str)
    }

    /// Somebody at this URL is this component.
    pub fn add_base(&mut self, url: &str, component: &str) {
        if let Some((at, _)) = place(url) {
            self.bases.insert(at, component.to_owned());
        }
    }
}

/// `host:port` and `host` of a URL.
fn place(url: &str) -> Option<(String, String)> {
    let url = reqwest::Url::parse(url).ok()?;
    let (host, port) = (url.host_str()?, url.port_or_known_default()?);
    Some((format!("{host}:{port}"), host.to_owned()))
}

/// Attribute one complete reply. `calls` are the upstreams' own records of this probe, in time order.
#[must_use]
pub fn attribute(probe: &ProbeRecord, calls: &[&UpstreamCall], names: &Names) -> Attribution {
    reconcile(&readings(probe, probe.streamed, calls, names), names)
}

/// As [`attribute`], of a turn: openclaw always asks for a stream, whatever the person asked it for. `transcribed`: its own
/// transcript has the answer.
#[must_use]
pub fn attribute_turn(
    probe: &ProbeRecord,
    transcribed: bool,
    calls: &[&UpstreamCall],
    names: &Names,
) -> Attribution {
    let mut readings = readings(probe, true, calls, names);
    if transcribed {
        readings.push(transcript::read(probe, calls, names));
    }
    reconcile(&readings, names)
}

fn readings(probe: &ProbeRecord, streamed: bool, calls: &[&UpstreamCall], names: &Names) -> Vec<Reading> {
    let mut readings = vec![Reading { source: Source::Journal, said: journals::read(calls, names) }];
    readings.extend(headers::read(probe, names));
    readings.push(body::read(probe, streamed, calls, names));
    readings
}

/// The alias that the gateway's headers name: enough for the live view, not for a verdict.
#[must_use]
pub fn by_header(probe: &ProbeRecord) -> Option<String> {
    let value = |source| value_of(probe, source).map(str::to_owned);
    value(ClaimSource::HeaderModelGroup).or_else(|| value(ClaimSource::HeaderModelId))
}

fn value_of(probe: &ProbeRecord, source: ClaimSource) -> Option<&str> {
    probe.claims.iter().find(|claim| claim.source == source).map(|claim| claim.value.as_str())
}

/// A claim by a name that stands for an alias.
fn named(source: Source, raw: &str, names: &Names) -> Said {
    let Some(alias) = names.of_text(raw) else { return Said::Unusable(raw.to_owned()) };
    Said::Claim(Claimed {
        alias: Some(alias.to_owned()),
        component: names.components.get(alias).cloned(),
        strength: source.strength(),
        raw: raw.to_owned(),
    })
}

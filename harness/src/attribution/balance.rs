//! Counts over a run: an upstream served at least what clients got from it, and what it served beyond that has a cause.

use std::collections::BTreeMap;

use super::{Attribution, Names};
use crate::journal::{Outcome, ProbeRecord, Purpose, UpstreamCall};

/// Why an upstream answered a request whose answer no client of a route got from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A control probe asked for it by name.
    Control,
    /// The gateway sent the same request to it again.
    Resent,
    /// It was for a request of openclaw's before the one whose answer the person got.
    AskedAgain,
    /// The gateway went on to another, or had gone on before it was answered.
    WentOn,
    /// Its client had given up.
    GivenUp,
    /// Its client got an error all the same.
    Error,
    /// A witness asked it past the gateway.
    Witness,
    /// A request from before the measurement.
    WarmUp,
    /// openclaw asked it on its own account, for no probe.
    Openclaw,
    /// Others were seen to use the gateway.
    Others,
}

impl Cause {
    /// As reports name it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Resent => "resent by the gateway",
            Self::AskedAgain => "openclaw asked again",
            Self::WentOn => "the gateway went on",
            Self::GivenUp => "given up by its client",
            Self::Error => "ended in an error",
            Self::Witness => "witness",
            Self::WarmUp => "warm-up",
            Self::Openclaw => "openclaw's own",
            Self::Others => "other users",
        }
    }
}

/// What an upstream served under one alias, and what clients got from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Answers that its journal shows in full.
    pub served: u64,
    /// Complete replies that clients of routes got from it.
    pub got: u64,
    /// Of those, so many that its journal does not show.
    pub missing: u64,
    /// What it served beyond that, by cause.
    pub explained: BTreeMap<Cause, u64>,
    /// What it served and nobody is known to have asked for: instants of arrival.
    pub unexplained: Vec<u64>,
}

/// Whether the journals show the answer that this reply is attributed to.
#[must_use]
pub fn is_shown(attribution: &Attribution, calls: &[UpstreamCall], names: &Names) -> bool {
    let Some(alias) = &attribution.alias else { return true };
    calls
        .iter()
        .any(|call| call.status == Some(200) && names.of_upstream(&call.model) == Some(alias.as_str()))
}

/// What a client got.
#[derive(Clone, Copy, Debug)]
pub struct Replied<'a> {
    /// The probe.
    pub record: &'a ProbeRecord,
    /// Who served it.
    pub attribution: &'a Attribution,
    /// When openclaw made the request whose answer it passed on, or its last; 0 where it went to the gateway itself.
    pub last_us: u64,
}

/// The balance of every alias. `own`: when openclaw's requests for no probe began and ended. `others`: others were seen to use
/// the gateway.
pub fn balance<'a>(
    probes: &BTreeMap<&str, Replied<'a>>,
    calls: impl Iterator<Item = &'a UpstreamCall>,
    names: &Names,
    own: &[(u64, u64)],
    others: bool,
) -> BTreeMap<String, Balance> {
    let of_openclaw = |at_us: u64| own.iter().any(|(from_us, to_us)| (*from_us..=*to_us).contains(&at_us));
    let mut all: BTreeMap<String, Balance> = BTreeMap::new();
    let mut shown: BTreeMap<(&str, String), u64> = BTreeMap::new();
    for call in calls.filter(|call| call.status == Some(200)) {
        let alias = names.of_upstream(&call.model).unwrap_or(&call.model).to_owned();
        let own = all.entry(alias.clone()).or_default();
        own.served += 1;
        let known = call.probe.as_deref().and_then(|id| Some((id, *probes.get(id)?)));
        let cause = match known {
            Some((_, Replied { last_us, .. })) if call.received_us < last_us => Some(Cause::AskedAgain),
            Some((id, Replied { record, attribution, .. })) => {
                let is_server = attribution.alias.as_deref() == Some(alias.as_str());
                match &record.outcome {
                    Outcome::Ok if is_server && call.received_us <= record.ended_us => {
                        let times = shown.entry((id, alias)).or_default();
                        *times += 1;
                        match (*times, record.purpose) {
                            (2.., _) => Some(Cause::Resent),
                            (_, Purpose::Control) => Some(Cause::Control),
                            (_, Purpose::Traffic) => continue,
                        }
                    }
                    Outcome::Ok => Some(Cause::WentOn),
                    Outcome::Censored(_) => Some(Cause::GivenUp),
                    Outcome::Error(class) if class == "client-timeout" => Some(Cause::GivenUp),
                    Outcome::Error(_) => Some(Cause::Error),
                }
            }
            None => match call.purpose.as_deref().filter(|_| call.probe.is_none()) {
                Some("witness") => Some(Cause::Witness),
                Some("warm-up") => Some(Cause::WarmUp),
                None if call.probe.is_none() && of_openclaw(call.received_us) => Some(Cause::Openclaw),
                Some(_) | None => others.then_some(Cause::Others),
            },
        };
        match cause {
            Some(cause) => *own.explained.entry(cause).or_default() += 1,
            None => own.unexplained.push(call.received_us),
        }
    }
    for (id, Replied { record, attribution, .. }) in probes {
        let Some(alias) = attribution.alias.as_ref().filter(|_| record.purpose == Purpose::Traffic) else {
            continue;
        };
        let own = all.entry(alias.clone()).or_default();
        own.got += 1;
        own.missing += u64::from(!shown.contains_key(&(*id, alias.clone())));
    }
    all
}

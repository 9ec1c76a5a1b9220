//! The upstreams' own journals: whoever answered a probe last, and in full, served it.

use super::{Claimed, Names, Said, Source};
use crate::journal::UpstreamCall;

/// `calls` are those made while the client still waited, in time order.
pub(super) fn read(calls: &[&UpstreamCall], names: &Names) -> Said {
    let Some(served) = last_answer(calls) else { return Said::Nothing };
    match names.of_upstream(&served.model) {
        Some(alias) => Said::Claim(Claimed {
            alias: Some(alias.to_owned()),
            component: Some(served.component.clone()),
            strength: Source::Journal.strength(),
            raw: served.model.clone(),
        }),
        None => Said::Unusable(served.model.clone()),
    }
}

pub(super) fn last_answer<'a>(calls: &[&'a UpstreamCall]) -> Option<&'a UpstreamCall> {
    calls.iter().rev().find(|call| call.status == Some(200)).copied()
}

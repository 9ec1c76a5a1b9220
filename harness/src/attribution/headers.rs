//! LiteLLM's response headers. Those of an error name nobody: it carries none of them.
//!
//! `x-litellm-attempted-fallbacks` is kept as a raw value and read by nobody: it counts nesting, so two hops and three
//! are both 1 there.

use super::{Claimed, Names, Reading, Said, Source, named, value_of};
use crate::journal::{ClaimSource, ProbeRecord};

pub(super) fn read(probe: &ProbeRecord, names: &Names) -> [Reading; 3] {
    let chosen = |source, header| {
        let said = value_of(probe, header).map_or(Said::Nothing, |raw| named(source, raw, names));
        Reading { source, said }
    };
    [
        chosen(Source::HeaderModelId, ClaimSource::HeaderModelId),
        chosen(Source::HeaderModelGroup, ClaimSource::HeaderModelGroup),
        Reading { source: Source::HeaderApiBase, said: reached(probe, names) },
    ]
}

/// Where the request went: a second witness, which knows components and not aliases.
fn reached(probe: &ProbeRecord, names: &Names) -> Said {
    let Some(raw) = value_of(probe, ClaimSource::HeaderApiBase) else { return Said::Nothing };
    match names.of_base(raw) {
        Some(component) => Said::Claim(Claimed {
            alias: None,
            component: Some(component.to_owned()),
            strength: Source::HeaderApiBase.strength(),
            raw: raw.to_owned(),
        }),
        None => Said::Unusable(raw.to_owned()),
    }
}

//! `model` in the body: of a whole reply, or of a stream's chunks.

use super::{Names, Reading, Said, Source, journals, named, value_of};
use crate::journal::{ClaimSource, ProbeRecord, UpstreamCall};

/// `streamed`: the gateway's own answer was a stream, whatever the person asked for.
pub(super) fn read(probe: &ProbeRecord, streamed: bool, calls: &[&UpstreamCall], names: &Names) -> Reading {
    let source = if streamed { Source::BodyStreamed } else { Source::BodyWhole };
    let said = value_of(probe, ClaimSource::BodyModel).map_or(Said::Nothing, |raw| {
        let is_lie = names.of_text(raw).is_some_and(|alias| streamed && is_known_lie(alias, calls, names));
        if is_lie { Said::Unusable(raw.to_owned()) } else { named(source, raw, names) }
    });
    Reading { source, said }
}

/// LiteLLM stamps all chunks with the fallback that accepted the stream first, also where that one broke it before its
/// first content and another delivered it.
pub(super) fn is_known_lie(alias: &str, calls: &[&UpstreamCall], names: &Names) -> bool {
    let of = |call: &UpstreamCall| names.of_upstream(&call.model) == Some(alias);
    calls.iter().any(|call| of(call)) && journals::last_answer(calls).is_none_or(|served| !of(served))
}

//! `responseModel` in openclaw's own transcript: what the gateway's stream named, where that is not the model asked for.
//!
//! Where it is the same, or the stream names none, there is no such field: it says nothing then, and nothing about who it was
//! not.

use super::{Names, Reading, Said, Source, body, named, value_of};
use crate::journal::{ClaimSource, ProbeRecord, UpstreamCall};

pub(super) fn read(probe: &ProbeRecord, calls: &[&UpstreamCall], names: &Names) -> Reading {
    let source = Source::Transcript;
    let said = value_of(probe, ClaimSource::ResponseModel).map_or(Said::Nothing, |raw| {
        // It is copied from the stream, with what is wrong there.
        let is_lie = names.of_text(raw).is_some_and(|alias| body::is_known_lie(alias, calls, names));
        if is_lie { Said::Unusable(raw.to_owned()) } else { named(source, raw, names) }
    });
    Reading { source, said }
}

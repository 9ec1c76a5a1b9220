//! Reconciling: the strongest source names the alias; the others agree, are silent, or conflict.

use std::collections::BTreeMap;

use super::{Claimed, Names, Reading, Said, Source};

/// How a source stands to what the strongest says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stand {
    /// It says the same, or is the one that said it.
    Agreed,
    /// It says nothing.
    Silent,
    /// It says something that names nobody, or that is known to be wrong there.
    Unusable,
    /// It names somebody else.
    Conflicted,
}

/// What the sources say together about one complete reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attribution {
    /// By the strongest source; `None` where none named an alias.
    pub alias: Option<String>,
    /// That source.
    pub by: Option<Source>,
    /// Sources that name another than the strongest does: source and its raw value.
    pub conflicts: Vec<String>,
    /// How each source that was asked stands to it.
    pub stands: BTreeMap<Source, Stand>,
}

/// One answer from all readings of one reply.
#[must_use]
pub fn reconcile(readings: &[Reading], names: &Names) -> Attribution {
    let claims = readings.iter().filter_map(|reading| match &reading.said {
        Said::Claim(claim) if claim.alias.is_some() => Some((reading.source, claim)),
        Said::Claim(_) | Said::Nothing | Said::Unusable(_) => None,
    });
    // Of two that are equally strong the one that stands first in the list of sources.
    let strongest = claims.min_by_key(|(source, claim)| (std::cmp::Reverse(claim.strength), *source));
    let mut attribution = Attribution {
        alias: strongest.and_then(|(_, claim)| claim.alias.clone()),
        by: strongest.map(|(source, _)| source),
        ..Attribution::default()
    };
    for reading in readings {
        let stand = match &reading.said {
            Said::Nothing => Stand::Silent,
            Said::Unusable(_) => Stand::Unusable,
            Said::Claim(claim) => stand(claim, strongest.map(|(_, claim)| claim), names),
        };
        if let (Stand::Conflicted, Said::Claim(claim)) = (stand, &reading.said) {
            attribution.conflicts.push(format!("{}={}", reading.source.word(), claim.raw));
        }
        attribution.stands.insert(reading.source, stand);
    }
    attribution
}

fn stand(claim: &Claimed, strongest: Option<&Claimed>, names: &Names) -> Stand {
    // A component alone makes nobody the server.
    let Some(strongest) = strongest else { return Stand::Unusable };
    let agrees = match (&claim.alias, &claim.component) {
        (Some(_), _) => Some(claim.alias == strongest.alias),
        (None, Some(component)) => {
            let of_alias = strongest.alias.as_ref().and_then(|alias| names.components.get(alias));
            of_alias.or(strongest.component.as_ref()).map(|own| own == component)
        }
        (None, None) => None,
    };
    match agrees {
        Some(true) => Stand::Agreed,
        Some(false) => Stand::Conflicted,
        None => Stand::Unusable,
    }
}

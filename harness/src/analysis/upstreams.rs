//! What upstreams counted themselves, beside what clients got from them.

use super::facts::Probe;
use crate::attribution::Names;
use crate::journal::UpstreamCounted;
use crate::verdict::result::{CountStanding, UpstreamCount};

/// One count of a mode, and how it stands to the replies that are attributed to the component. A count is everybody's, so
/// more than clients got is no contradiction, and fewer is one only where all of it has come.
pub(super) fn upstream_count(counted: &UpstreamCounted, probes: &[Probe], names: &Names) -> UpstreamCount {
    let is_own = |probe: &&Probe| {
        let alias = probe.attribution.alias.as_ref();
        alias.and_then(|alias| names.components.get(alias)) == Some(&counted.component)
    };
    let got = probes.iter().filter(is_own).count() as u64;
    UpstreamCount {
        component: counted.component.clone(),
        source: counted.source.clone(),
        calls: counted.calls,
        answered: counted.answered,
        ours: counted.ours,
        got,
        standing: standing(counted, got),
        trouble: counted.trouble.clone(),
    }
}

fn standing(counted: &UpstreamCounted, got: u64) -> CountStanding {
    let is_whole = counted.complete && counted.trouble.is_none();
    match counted.trouble {
        Some(_) if counted.calls == 0 => CountStanding::Silent,
        _ if counted.answered >= got && counted.answered > counted.ours => CountStanding::Beyond,
        _ if counted.answered >= got => CountStanding::Agrees,
        _ if is_whole => CountStanding::Contradicts,
        _ => CountStanding::NotKnown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::standing;
    use crate::journal::UpstreamCounted;
    use crate::verdict::result::CountStanding::{Agrees, Beyond, Contradicts, NotKnown, Silent};

    fn counted(calls: u64, answered: u64, complete: bool, trouble: Option<&str>) -> UpstreamCounted {
        UpstreamCounted {
            scenario: "s".into(),
            component: "vllm".into(),
            source: "access log".into(),
            calls,
            answered,
            ours: 20,
            complete,
            trouble: trouble.map(str::to_owned),
        }
    }

    #[test]
    fn fewer_answers_contradict_only_where_all_have_come() {
        let broke = Some("it broke");
        for (count, got, wanted) in [
            (counted(10, 10, true, None), 10, Agrees),
            (counted(14, 12, false, None), 10, Agrees),
            (counted(12, 9, true, None), 10, Contradicts),
            (counted(12, 9, false, None), 10, NotKnown),
            (counted(12, 9, true, broke), 10, NotKnown),
            (counted(0, 0, true, broke), 10, Silent),
            (counted(0, 0, true, None), 10, Contradicts),
            (counted(30, 30, true, None), 10, Beyond),
            (counted(0, 0, true, None), 0, Agrees),
        ] {
            assert_eq!(standing(&count, got), wanted, "{count:?}, {got}");
        }
    }

    proptest! {
        /// Whoever else asks, and whatever is lost on the way as long as that is known, nothing contradicts.
        #[test]
        fn others_and_losses_never_contradict(got in 0_u64..50, more in 0_u64..50, lost in 0_u64..50, known in any::<bool>()) {
            let shown = (got + more).saturating_sub(lost);
            let is_known = (lost > 0).then_some("some are lost").filter(|_| known);
            let count = counted(shown, shown, lost == 0, is_known);
            prop_assert_ne!(standing(&count, got), Contradicts);
        }
    }
}

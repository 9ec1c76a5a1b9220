//! What the lines of a prober add up to: pure, lines in, journal events and a picture of the pod out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::clock::{Mapped, PodClock};
use super::held::{Fate, HeldSeen};
use super::line::{Line, Look, Resolved, SocketState, Sockets};
use super::state::{TargetState, Timed};
use super::symptom::Symptom;
use crate::journal::Event;
use crate::witness::Observed;

/// Lines that are kept until the clock is known; the first echo is asked for before the first look.
const WAITING_MAX: usize = 256;
/// Echoes that may be under way.
const ECHOES_MAX: usize = 16;
/// Addresses that are told apart of those who are connected to the gateway.
const CLIENTS_MAX: usize = 32;
/// A name that has had no address for longer is not resolved any more. A question or an answer that was lost costs 5 s.
const RESOLVED_WITHIN_US: u64 = 7_000_000;
/// Addresses that are remembered of a target.
const EVER_MAX: usize = 256;

/// What is known of the pod by now. Instants are microseconds on the run's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Version of the pod's Python.
    pub python: Option<String>,
    /// Error of the newest instant that came from the pod, in microseconds.
    pub clock_error_us: Option<u64>,
    /// By component.
    pub targets: BTreeMap<String, TargetSeen>,
    /// Established connections to the gateway's own port without the prober's, by remote address, when they were
    /// counted last; `None` where they cannot be.
    pub inbound: Option<Inbound>,
    /// How often the stream was opened.
    pub streams: u32,
    /// When and why it broke, oldest first.
    pub breaks: Vec<(u64, String)>,
    /// Lines that were none of the script's.
    pub bad_lines: u64,
    /// Why it is given up, once it is.
    pub ended: Option<String>,
}

/// Connections to the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inbound {
    /// When they were counted.
    pub at_us: u64,
    /// How many, by remote address; `others` beyond 32 of those.
    pub from: BTreeMap<String, u64>,
    /// There were more sockets than are read.
    pub cut: bool,
}

impl Inbound {
    /// Of several counts, the most from each address; the newest time.
    pub fn add(&mut self, other: &Self) {
        self.at_us = self.at_us.max(other.at_us);
        self.cut |= other.cut;
        for (client, count) in &other.from {
            let known = self.from.contains_key(client) || self.from.len() < CLIENTS_MAX;
            let most = self.from.entry(if known { client.clone() } else { "others".to_owned() }).or_default();
            *most = (*most).max(*count);
        }
    }
}

/// What is known of one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetSeen {
    /// A and AAAA, as they were last; empty where its name has none.
    pub addresses: BTreeSet<IpAddr>,
    /// Every address that it had.
    pub ever: BTreeSet<IpAddr>,
    /// There were more addresses at some time than are looked at or remembered.
    pub more: bool,
    /// How often its name was asked for and had an address.
    pub answers: u64,
    /// Why its name has no address.
    pub unresolved: Option<String>,
    /// How new connections fail, while it is down.
    pub symptom: Option<Symptom>,
    /// The held connection.
    pub held: HeldSeen,
    /// Sockets of the pod to it without the prober's, by state, and when they were counted.
    pub sockets: Option<(u64, BTreeMap<SocketState, u64>)>,
    /// Why they cannot be counted.
    pub uncounted: Option<String>,
}

/// What became of the gateway's pooled connections to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pool {
    /// None is left.
    Drained,
    /// Some are left, but what is asked on an old connection is not answered any more.
    Dead(Fate),
    /// So many are left, on which requests may still get through.
    Open(u64),
    /// They have not been counted since.
    Unknown,
}

impl TargetSeen {
    /// Connections to it that could carry a request.
    #[must_use]
    pub fn pooled(&self) -> Option<u64> {
        let (_, states) = self.sockets.as_ref()?;
        let open = [SocketState::Established, SocketState::CloseWait];
        Some(open.iter().filter_map(|state| states.get(state)).sum())
    }

    /// What became of the gateway's pooled connections since a fault took effect. A packet filter leaves them
    /// `ESTABLISHED`; only an answer, or its lack, shows whether they still work.
    #[must_use]
    pub fn pool(&self, effective_us: u64) -> Pool {
        let counted = self.sockets.as_ref().filter(|(at_us, _)| *at_us >= effective_us);
        let (Some(_), Some(pooled)) = (counted, self.pooled()) else { return Pool::Unknown };
        if pooled == 0 {
            return Pool::Drained;
        }
        match self.held.fate(effective_us) {
            fate @ (Fate::Silent | Fate::Cut(Symptom::Reset)) => Pool::Dead(fate),
            Fate::Kept | Fate::Cut(_) | Fate::Unknown => Pool::Open(pooled),
        }
    }
}

/// Takes lines in.
#[derive(Debug)]
pub(super) struct Digest {
    components: Vec<String>,
    states: Vec<TargetState>,
    numbers: Vec<u64>,
    /// When each name was answered for with an address last, or at all where it has had none, in this stream.
    named_us: Vec<Option<u64>>,
    clock: PodClock,
    echoes: BTreeMap<u64, u64>,
    next_echo: u64,
    waiting: Vec<Line>,
    seen: Seen,
}

impl Digest {
    /// For targets in the order of the configuration.
    #[must_use]
    pub(super) fn new(states: Vec<TargetState>) -> Self {
        let components: Vec<String> = states.iter().map(|state| state.component().to_owned()).collect();
        let targets = components.iter().map(|name| (name.clone(), TargetSeen::default()));
        Self {
            numbers: vec![0; components.len()],
            named_us: vec![None; components.len()],
            clock: PodClock::default(),
            echoes: BTreeMap::new(),
            next_echo: 1,
            waiting: Vec::new(),
            seen: Seen { targets: targets.collect(), ..Seen::default() },
            components,
            states,
        }
    }

    /// What is known.
    #[must_use]
    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// What is known of each target as of a component that a witness looks at, in their order.
    pub(super) fn observed(&self) -> impl Iterator<Item = &Observed> {
        self.states.iter().map(TargetState::observed)
    }

    /// The number of an echo that is asked for now.
    pub(super) fn ask_echo(&mut self, now_us: u64) -> u64 {
        let number = self.next_echo;
        self.next_echo += 1;
        if self.echoes.len() >= ECHOES_MAX {
            self.echoes.pop_first();
        }
        self.echoes.insert(number, now_us);
        number
    }

    /// A stream begins: another process, whose numbers begin anew, perhaps on another clock.
    pub(super) fn begin(&mut self) {
        self.seen.streams += 1;
        self.clock = PodClock::default();
        self.echoes.clear();
        self.waiting.clear();
        self.numbers.fill(0);
        self.named_us.fill(None);
    }

    /// The stream broke: from here on nothing is known.
    pub(super) fn lose(&mut self, at_us: u64, why: &str) -> Vec<Event> {
        self.seen.breaks.push((at_us, why.to_owned()));
        self.seen.inbound = None;
        for target in self.seen.targets.values_mut() {
            target.held.lose();
            target.sockets = None;
            target.symptom = None;
        }
        self.states.iter_mut().flat_map(|state| state.lose(why)).collect()
    }

    /// It is not opened again.
    pub(super) fn end(&mut self, why: &str) {
        self.seen.ended = Some(why.to_owned());
    }

    /// A line that is none of the script's.
    pub(super) fn spoil(&mut self) {
        self.seen.bad_lines += 1;
    }

    /// Take in one line that came now.
    pub(super) fn take(&mut self, line: Line, now_us: u64) -> Vec<Event> {
        if line.target().is_some_and(|target| target >= self.components.len()) {
            self.spoil();
            return Vec::new();
        }
        match line {
            Line::Hello(hello) => {
                let (major, minor, patch) = hello.python;
                self.seen.python = Some(format!("{major}.{minor}.{patch}"));
                Vec::new()
            }
            Line::Echo(echo) => {
                let Some(sent_us) = self.echoes.remove(&echo.number) else {
                    self.spoil();
                    return Vec::new();
                };
                self.clock.take(sent_us, now_us, echo.mono_ns);
                self.seen.clock_error_us = self.clock.map(echo.mono_ns).map(|mapped| mapped.error_us);
                let waiting = std::mem::take(&mut self.waiting);
                waiting.into_iter().flat_map(|line| self.take_timed(&line)).collect()
            }
            line if self.clock.is_known() => self.take_timed(&line),
            line => {
                if self.waiting.len() < WAITING_MAX {
                    self.waiting.push(line);
                } else {
                    self.spoil();
                }
                Vec::new()
            }
        }
    }

    fn take_timed(&mut self, line: &Line) -> Vec<Event> {
        match line {
            Line::Look(look) => return self.take_look(look),
            Line::Held(held) => {
                let ended = self.map(held.sent_ns.saturating_add(held.took_ns));
                let (Some(born), Some(sent), Some(ended)) =
                    (self.map(held.born_ns), self.map(held.sent_ns), ended)
                else {
                    return Vec::new();
                };
                let target = self.seen.targets.get_mut(&self.components[held.target]);
                if let Some(target) = target {
                    target.held.take(held, born.latest_us(), sent.earliest_us(), ended.latest_us());
                }
            }
            Line::Resolved(resolved) => self.take_resolved(resolved),
            Line::Sockets(sockets) => self.take_sockets(sockets),
            Line::Hello(_) | Line::Echo(_) => {}
        }
        Vec::new()
    }

    fn map(&self, pod_ns: u64) -> Option<Mapped> {
        self.clock.map(pod_ns)
    }

    fn take_look(&mut self, look: &Look) -> Vec<Event> {
        let (Some(sent), Some(done)) =
            (self.map(look.sent_ns), self.map(look.sent_ns.saturating_add(look.took_ns)))
        else {
            return Vec::new();
        };
        // The script tells looks in the order of sending; what is not in order is none of its own.
        if look.number <= self.numbers[look.target] {
            self.spoil();
            return Vec::new();
        }
        self.numbers[look.target] = look.number;
        self.seen.clock_error_us = Some(done.error_us);
        let target = self.seen.targets.get_mut(&self.components[look.target]);
        let state = &mut self.states[look.target];
        let mut timed = Timed::new(sent, done, look.shown());
        timed.unresolved = look.unresolved.is_some();
        timed.name_is_stale = self.named_us[look.target]
            .is_some_and(|at_us| timed.sent_us > at_us.saturating_add(RESOLVED_WITHIN_US));
        let events = state.take(timed);
        if let Some(target) = target {
            target.symptom = state.symptom().cloned();
        }
        events
    }

    fn take_resolved(&mut self, resolved: &Resolved) {
        let answered = self.map(resolved.sent_ns.saturating_add(resolved.took_ns));
        let target = self.seen.targets.get_mut(&self.components[resolved.target]);
        let (Some(target), Some(answered)) = (target, answered) else { return };
        let named_us = &mut self.named_us[resolved.target];
        if named_us.is_none() || resolved.error.is_none() {
            *named_us = Some(answered.latest_us());
        }
        target.more |= resolved.more;
        target.unresolved = resolved.error.as_ref().map(|error| error.as_str().to_owned());
        target.addresses = resolved.addresses.iter().copied().collect();
        target.answers += u64::from(!target.addresses.is_empty());
        for address in &target.addresses {
            if target.ever.len() < EVER_MAX {
                target.ever.insert(*address);
            }
            target.more |= !target.ever.contains(address);
        }
    }

    fn take_sockets(&mut self, sockets: &Sockets) {
        let Some(at) = self.map(sockets.sent_ns) else { return };
        let at_us = at.earliest_us();
        let error = sockets.error.as_ref().map(|error| error.as_str().to_owned());
        self.seen.inbound =
            error.is_none().then(|| Inbound { at_us, from: sockets.inbound.clone(), cut: sockets.cut });
        for (index, component) in self.components.iter().enumerate() {
            let Some(target) = self.seen.targets.get_mut(component) else { continue };
            // A table that was cut may hide any number.
            let counted = sockets.to.get(index).filter(|_| error.is_none() && !sockets.cut);
            target.sockets = counted.map(|states| (at_us, states.clone()));
            target.uncounted = match (counted, &error) {
                (Some(_), _) => None,
                (None, Some(error)) => Some(format!("/proc/net/tcp: {error}")),
                (None, None) => Some("there are more sockets than are read".to_owned()),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Digest, Pool, TargetState};
    use crate::cluster::prober::line::{Line, Lines};
    use crate::journal::Event;

    /// The pod's clock is 5 s ahead of the run's.
    const AHEAD_NS: u64 = 5_000_000_000;

    struct Pod(Digest);

    impl Pod {
        fn new() -> Self {
            let state = |name| TargetState::new(name, Duration::from_millis(150));
            let mut digest = Digest::new(["cloud", "vllm"].map(state).into());
            digest.begin();
            Self(digest)
        }

        fn line(&mut self, text: &str, now_us: u64) -> Vec<Event> {
            let line = Line::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
            self.0.take(line, now_us)
        }

        fn echo(&mut self, sent_us: u64, received_us: u64) -> Vec<Event> {
            let number = self.0.ask_echo(sent_us);
            let mono = AHEAD_NS + (sent_us + received_us) / 2 * 1000;
            self.line(&format!(r#"{{"echo":{{"number":{number},"mono":{mono},"wall":1}}}}"#), received_us)
        }

        fn look(&mut self, number: u64, at_us: u64, error: &str) -> Vec<Event> {
            let sent = AHEAD_NS + at_us * 1000;
            let text = format!(
                r#"{{"look":{{"target":0,"number":{number},"sent":{sent},"took":1000000,"tries":[["1.2.3.4",{error}]]}}}}"#
            );
            self.line(&text, at_us + 2000)
        }

        fn sockets(&mut self, at_us: u64, to: &str, rest: &str) {
            let sent = AHEAD_NS + at_us * 1000;
            self.line(&format!(r#"{{"sockets":{{"sent":{sent},"took":1,"to":[{to},{{}}]{rest}}}}}"#), at_us);
        }
    }

    #[test]
    fn instants_are_told_on_the_clock_of_the_run_with_its_error_counted_in() {
        let mut pod = Pod::new();
        assert!(pod.look(1, 100_000, "null").is_empty(), "nothing can be told before the first echo");
        let events = pod.echo(90_000, 94_000);
        let [Event::WitnessSaw { sent_us, done_us, up: true, .. }] = &events[..] else {
            panic!("{events:?}")
        };
        // Half a round trip of 4 ms, and the drift of a few milliseconds.
        assert!((97_980..98_000).contains(sent_us), "{sent_us}");
        assert!((103_000..103_020).contains(done_us), "{done_us}");
    }

    #[test]
    fn looks_out_of_order_and_unknown_targets_are_passed_over() {
        let mut pod = Pod::new();
        pod.echo(0, 1000);
        pod.look(2, 100_000, "null");
        assert!(pod.look(2, 100_000, "null").is_empty());
        assert!(pod.look(1, 100_000, "null").is_empty());
        pod.line(r#"{"resolved":{"target":2,"sent":1,"took":1,"more":false,"error":"EAI_NONAME"}}"#, 5);
        pod.line(r#"{"echo":{"number":99,"mono":1,"wall":1}}"#, 5);
        assert_eq!(pod.0.seen().bad_lines, 4);
    }

    #[test]
    fn a_stream_that_broke_leaves_nothing_known() {
        let mut pod = Pod::new();
        pod.echo(0, 1000);
        pod.look(1, 100_000, "null");
        pod.sockets(110_000, r#"{"established":1}"#, "");
        pod.0.lose(120_000, "connection lost");
        assert_eq!(pod.0.observed().next().map(|observed| observed.up), Some(None));
        assert_eq!(pod.0.seen().targets["cloud"].pooled(), None);
        pod.0.begin();
        pod.echo(200_000, 201_000);
        assert_eq!(pod.look(1, 300_000, "null").len(), 1, "numbers begin anew");
    }

    #[test]
    fn every_address_that_a_name_had_is_remembered() {
        let mut pod = Pod::new();
        pod.echo(0, 1000);
        for (address, more) in [("1.2.3.4", false), ("1.2.3.5", true), ("1.2.3.6", false)] {
            pod.line(
                &format!(
                    r#"{{"resolved":{{"target":0,"sent":{AHEAD_NS},"took":1,"more":{more},"addresses":["{address}"]}}}}"#
                ),
                2000,
            );
        }
        let cloud = &pod.0.seen().targets["cloud"];
        assert_eq!((cloud.addresses.len(), cloud.ever.len()), (1, 3));
        assert!(cloud.more, "that there were more once is not forgotten");
    }

    /// One lookup that failed is kept for half a second, in which there are three looks.
    #[test]
    fn a_name_is_lost_once_no_answer_had_an_address_for_long() {
        let mut pod = Pod::new();
        pod.echo(0, 1000);
        let resolved = |pod: &mut Pod, at_us: u64, found: &str| {
            let sent = AHEAD_NS + at_us * 1000;
            pod.line(
                &format!(r#"{{"resolved":{{"target":0,"sent":{sent},"took":1,"more":false,{found}}}}}"#),
                at_us,
            );
        };
        let reached = |events: Vec<Event>| {
            events.into_iter().find_map(|event| match event {
                Event::SeenFromPod { reached, saw, .. } => Some((reached, saw)),
                _ => None,
            })
        };
        pod.0.states[0] = TargetState::new("cloud", Duration::from_millis(150)).seen_from("ml/litellm-0");
        resolved(&mut pod, 100_000, r#""addresses":["1.2.3.4"]"#);
        let mut told = Vec::new();
        for number in 1..80 {
            let at_us = 100_000 + number * 150_000;
            if number % 3 == 1 {
                resolved(&mut pod, at_us, r#""error":"EAI_AGAIN""#);
            }
            let sent = AHEAD_NS + at_us * 1000;
            let text = format!(
                r#"{{"look":{{"target":0,"number":{number},"sent":{sent},"took":1,"tries":[["1.2.3.4",null]],"unresolved":"EAI_AGAIN"}}}}"#
            );
            told.extend(reached(pod.line(&text, at_us)).map(|(reached, saw)| (reached, saw, at_us)));
        }
        let [(Some(true), ..), (Some(false), saw, at_us)] = &told[..] else { panic!("{told:?}") };
        assert_eq!(saw, "its name has no address");
        assert!((8_000_000..9_000_000).contains(at_us), "{told:?}");
        // Where it never had one, from the first answer on.
        let mut pod = Pod::new();
        pod.echo(0, 1000);
        resolved(&mut pod, 100_000, r#""error":"EAI_AGAIN""#);
        resolved(&mut pod, 5_000_000, r#""error":"EAI_AGAIN""#);
        assert_eq!(pod.0.named_us[0].map(|at_us| at_us / 1_000_000), Some(0));
    }

    #[test]
    fn pooled_connections_are_seen_to_drain() {
        let mut pod = Pod::new();
        pod.echo(0, 1000);
        let cloud = |pod: &Pod| pod.0.seen().targets["cloud"].clone();
        assert_eq!(cloud(&pod).pool(0), Pool::Unknown);
        pod.sockets(1_000_000, r#"{"established":2,"close-wait":1,"time-wait":7}"#, "");
        assert_eq!(cloud(&pod).pool(900_000), Pool::Open(3));
        assert_eq!(cloud(&pod).pool(1_100_000), Pool::Unknown, "counted before the fault");
        pod.sockets(2_000_000, r#"{"time-wait":9,"syn-sent":1}"#, "");
        assert_eq!(cloud(&pod).pool(1_100_000), Pool::Drained);
        pod.sockets(3_000_000, "{}", r#","cut":true"#);
        assert_eq!(cloud(&pod).pool(1_100_000), Pool::Unknown, "what was not read may hide some");
    }

    #[test]
    fn a_pool_whose_connections_are_not_answered_is_dead() {
        let mut pod = Pod::new();
        pod.echo(0, 1000);
        pod.sockets(3_000_000, r#"{"established":1}"#, "");
        let (born, sent) = (AHEAD_NS + 500_000_000, AHEAD_NS + 2_500_000_000);
        let silent = r#""error":"silent""#;
        for (end, is_dead) in [(silent, false), (silent, true), (r#""status":200"#, false), (silent, false)] {
            let text = format!(
                r#"{{"held":{{"target":0,"number":1,"phase":"ask","born":{born},"sent":{sent},"took":1,{end}}}}}"#
            );
            pod.line(&text, 3_000_000);
            let pool = pod.0.seen().targets["cloud"].pool(2_000_000);
            assert_eq!(matches!(pool, Pool::Dead(_)), is_dead, "{pool:?}");
        }
    }

    proptest! {
        /// Any lines in any order, at any times: nothing panics, nothing grows without bound.
        #[test]
        fn any_lines_are_taken(lines in prop::collection::vec((0_usize..6, any::<[u64; 4]>(), 0_usize..3), 0..300)) {
            let mut pod = Pod::new();
            for (kind, [a, b, c, now], target) in lines {
                let text = match kind {
                    0 => format!(r#"{{"look":{{"target":{target},"number":{a},"sent":{b},"took":{c},"tries":[["::1",null]]}}}}"#),
                    1 => format!(r#"{{"look":{{"target":{target},"number":{a},"sent":{b},"took":{c},"tries":[["::1","silent"]]}}}}"#),
                    2 => format!(r#"{{"held":{{"target":{target},"number":1,"phase":"ask","born":{a},"sent":{b},"took":{c},"error":"closed"}}}}"#),
                    3 => format!(r#"{{"resolved":{{"target":{target},"sent":{a},"took":{b},"more":true,"addresses":["::1"]}}}}"#),
                    4 => format!(r#"{{"sockets":{{"sent":{a},"took":{b},"to":[{{"established":{c}}}],"inbound":{{"x":{c}}}}}}}"#),
                    _ => {
                        let number = pod.0.ask_echo(b);
                        format!(r#"{{"echo":{{"number":{number},"mono":{a},"wall":{c}}}}}"#)
                    }
                };
                for line in Lines::default().feed(format!("{text}\n").as_bytes()) {
                    pod.0.take(line.expect("as the script writes"), now);
                }
            }
            prop_assert!(pod.0.waiting.len() <= super::WAITING_MAX);
        }
    }
}

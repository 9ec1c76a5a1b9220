//! The held connection of a target: what an enforcer does with connections that were there before.

use std::collections::VecDeque;

use super::line::{Held, Phase};
use super::symptom::Symptom;

/// Lost connections that are remembered.
const LOST_MAX: usize = 16;

/// Requests in a row that make a connection silent.
pub(super) const UNANSWERED_NEEDED: u32 = 2;

/// Answers whose times are remembered.
const TOOK_MAX: usize = 32;

/// What is known of a target's held connection. Instants are microseconds on the run's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldSeen {
    /// When the connection that is open now was established; `None` where none is.
    pub born_us: Option<u64>,
    /// When the last request was sent that was answered.
    pub answered_sent_us: Option<u64>,
    /// When the last request was answered.
    pub answered_us: Option<u64>,
    /// When the oldest request was sent that is still not answered.
    pub silent_since_us: Option<u64>,
    /// How many requests in a row were not answered in time, on the connection that is open now.
    pub unanswered: u32,
    /// How the last connections that had been established were lost, newest first.
    pub lost: VecDeque<Lost>,
    /// Why none could be opened, when that was tried last.
    pub not_opened: Option<Symptom>,
    /// How long the last answers took, in microseconds, oldest first.
    pub took_us: VecDeque<u64>,
}

/// An established connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// When it was established.
    pub born_us: u64,
    /// When its end was known.
    pub at_us: u64,
    /// How: reset, or closed in good order.
    pub how: Symptom,
}

/// What became of connections that were established before an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is answered as before: so will the gateway's pooled connections be.
    Kept,
    /// It is open, and not answered.
    Silent,
    /// It was reset or closed.
    Cut(Symptom),
    /// There was none, or nothing was asked since.
    Unknown,
}

impl Fate {
    /// One word for the report.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            Self::Kept => "kept",
            Self::Silent => "silent",
            Self::Cut(how) => how.word(),
            Self::Unknown => "unknown",
        }
    }
}

impl HeldSeen {
    /// Take in one line, with its instants on the run's clock.
    pub fn take(&mut self, line: &Held, born_us: u64, sent_us: u64, now_us: u64) {
        let established = line.born_ns != 0;
        let Some(error) = &line.error else {
            self.born_us = Some(born_us);
            self.answered_sent_us = Some(sent_us);
            self.answered_us = Some(now_us);
            if self.took_us.len() == TOOK_MAX {
                self.took_us.pop_front();
            }
            self.took_us.push_back(line.took_ns / 1000);
            self.silent_since_us = None;
            self.unanswered = 0;
            self.not_opened = None;
            return;
        };
        match (line.phase, error.symptom()) {
            (Phase::Open | Phase::Tls, symptom) => {
                self.born_us = None;
                self.silent_since_us = None;
                self.unanswered = 0;
                self.not_opened = Some(symptom);
            }
            (Phase::Ask, Symptom::Silent) => {
                self.born_us = established.then_some(born_us);
                self.silent_since_us.get_or_insert(sent_us);
                self.unanswered = self.unanswered.saturating_add(1);
            }
            (Phase::Ask | Phase::Idle, how) => {
                if established {
                    self.lost.truncate(LOST_MAX - 1);
                    self.lost.push_front(Lost { born_us, at_us: now_us, how });
                }
                self.born_us = None;
                self.silent_since_us = None;
                self.unanswered = 0;
            }
        }
    }

    /// The stream broke: what is open there now is not known.
    pub fn lose(&mut self) {
        *self = Self::default();
    }

    /// Whether a request that was sent after `since_us` was answered after `at_us`: what was found dead then was not.
    #[must_use]
    pub fn is_answered_after(&self, since_us: u64, at_us: u64) -> bool {
        let sent = self.answered_sent_us.is_some_and(|sent| sent >= since_us);
        sent && self.answered_us.is_some_and(|answered| answered > at_us)
    }

    /// What became of a connection that was established before `since_us`, as far as requests after it show.
    #[must_use]
    pub fn fate(&self, since_us: u64) -> Fate {
        let cut = self.lost.iter().find(|lost| lost.born_us < since_us && lost.at_us >= since_us);
        if let Some(lost) = cut {
            return Fate::Cut(lost.how.clone());
        }
        if self.born_us.is_none_or(|born| born >= since_us) {
            return Fate::Unknown;
        }
        match self.silent_since_us {
            // Two in a row: one may have been lost, or met a server that is busy.
            Some(_) if self.unanswered >= UNANSWERED_NEEDED => Fate::Silent,
            Some(_) => Fate::Unknown,
            None if self.answered_sent_us.is_some_and(|sent| sent >= since_us) => Fate::Kept,
            None => Fate::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Fate, HeldSeen};
    use crate::cluster::prober::line::Line;
    use crate::cluster::prober::symptom::Symptom;

    fn take(seen: &mut HeldSeen, phase: &str, born: u64, sent: u64, now: u64, end: &str) {
        let text = format!(
            r#"{{"held":{{"target":0,"number":1,"phase":"{phase}","born":{born},"sent":{sent},"took":1,{end}}}}}"#
        );
        let Ok(Line::Held(line)) = Line::parse(text.as_bytes()) else { panic!("{text}") };
        seen.take(&line, born, sent, now);
    }

    const OK: &str = r#""status":200"#;

    #[test]
    fn what_becomes_of_an_old_connection_is_told() {
        let mut seen = HeldSeen::default();
        take(&mut seen, "ask", 10, 20, 21, OK);
        assert_eq!(seen.fate(30), Fate::Unknown, "nothing was asked since");
        let mut kept = seen.clone();
        take(&mut kept, "ask", 10, 40, 41, OK);
        assert_eq!(kept.fate(30), Fate::Kept);
        let mut silent = seen.clone();
        take(&mut silent, "ask", 10, 40, 41, r#""error":"silent""#);
        assert_eq!(silent.fate(30), Fate::Unknown, "one may be lost");
        take(&mut silent, "ask", 10, 40, 51, r#""error":"silent""#);
        assert_eq!((silent.fate(30), silent.silent_since_us), (Fate::Silent, Some(40)));
        take(&mut silent, "ask", 10, 40, 91, OK);
        assert_eq!(silent.fate(30), Fate::Kept, "late is answered");
        assert!(silent.is_answered_after(30, 60) && !silent.is_answered_after(30, 91));
        let mut reset = seen;
        take(&mut reset, "ask", 10, 40, 41, r#""error":"ECONNRESET""#);
        take(&mut reset, "open", 0, 50, 51, r#""error":"ECONNREFUSED""#);
        assert_eq!(reset.fate(30), Fate::Cut(Symptom::Reset));
        assert_eq!(reset.not_opened, Some(Symptom::Refused));
        take(&mut reset, "ask", 60, 60, 61, OK);
        assert_eq!(reset.fate(70), Fate::Unknown);
        assert_eq!(
            reset.fate(30),
            Fate::Cut(Symptom::Reset),
            "a new connection does not undo the end of the old"
        );
    }
}

//! What goes wrong with requests on purpose.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It waits before anything is done.
    Latency(Duration),
    /// It is never answered, and nothing is done.
    Hang,
    /// Its connection is closed without an answer, and nothing is done.
    Cut,
    /// It is refused with this status, for example 429, 500, 503, 504.
    Refused {
        /// The HTTP status code.
        code: u16,
        /// Seconds of a `Retry-After` header.
        retry_after: Option<u32>,
    },
    /// It is carried out, and then its connection is closed without an answer.
    LostAnswer,
    /// A watch is cut in the middle of a line after so many whole events.
    CutMidLine {
        /// Events that arrive whole.
        after: usize,
    },
}

/// Which requests are troubled, and how often. What is empty or none fits everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChaosRule {
    /// The verb as RBAC has it: `get`, `patch`, `watch`; empty for all.
    pub verb: String,
    /// The resource with its subresource, for example `deployments/scale`; empty for all.
    pub resource: String,
    /// How many requests are troubled; none for all to come.
    pub times: Option<u32>,
    /// What happens to them.
    pub trouble: Trouble,
}

/// The rules in force, first come first served. Copies are the same.
#[derive(Debug, Clone, Default)]
pub struct Chaos {
    rules: Arc<Mutex<Vec<(u32, ChaosRule)>>>,
}

impl Chaos {
    /// Adds a rule after those that are there.
    pub fn add(&self, rule: ChaosRule) {
        self.add_after(0, rule);
    }

    /// The same for a rule that lets the first `spared` requests that it fits through.
    pub fn add_after(&self, spared: u32, rule: ChaosRule) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).push((spared, rule));
    }

    /// Ends all trouble for requests to come.
    pub fn clear(&self) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What happens to this request.
    pub(super) fn strike(&self, verb: &str, resource: &str) -> Option<Trouble> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |rule: &ChaosRule| {
            (rule.verb.is_empty() || rule.verb == verb)
                && (rule.resource.is_empty() || rule.resource == resource)
        };
        for at in 0..rules.len() {
            let (spared, rule) = &mut rules[at];
            if !fits(rule) || rule.times == Some(0) {
                continue;
            }
            if *spared > 0 {
                *spared -= 1;
                continue;
            }
            let trouble = rule.trouble.clone();
            if let Some(times) = &mut rule.times {
                *times = times.saturating_sub(1);
                if *times == 0 {
                    rules.remove(at);
                }
            }
            return Some(trouble);
        }
        None
    }
}

//! What vLLM counts, as its page `/metrics` shows it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// How a request may end, as vLLM names it.
const REASONS: [&str; 3] = ["stop", "length", "abort"];

/// Requests that ended, by model and how.
#[derive(Debug, Clone, Default)]
pub(super) struct Metrics {
    ended: Arc<Mutex<BTreeMap<(String, &'static str), u64>>>,
}

impl Metrics {
    pub(super) fn count(&self, model: &str, reason: &'static str) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        *ended.entry((model.to_owned(), reason)).or_default() += 1;
    }

    /// A new process counts from 0.
    pub(super) fn forget(&self) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The page, with a series for each model and way to end.
    pub(super) fn page(&self, models: &[&str]) -> String {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let name = "vllm:request_success_total";
        let mut page =
            format!("# HELP {name} Count of successfully processed requests.\n# TYPE {name} counter\n");
        for model in models {
            for reason in REASONS {
                let count = ended.get(&((*model).to_owned(), reason)).copied().unwrap_or_default();
                // Writing to a string cannot fail.
                let _ = writeln!(
                    page,
                    "{name}{{engine=\"0\",finished_reason=\"{reason}\",model_name=\"{model}\"}} {count}.0"
                );
            }
        }
        page
    }
}

//! Whether a process group still runs.

use std::fs;

use rustix::process::{Pid, test_kill_process_group};

/// Whether no process of `group` runs any more. A process that has ended but was not reaped (in a container
/// whose first process reaps nothing it may stay so for good) does not count as running.
pub(super) fn is_gone(group: Pid) -> bool {
    test_kill_process_group(group).is_err() || all_ended(group).unwrap_or(false)
}

/// `None` where there is no `/proc` to look at.
fn all_ended(group: Pid) -> Option<bool> {
    let mut seen = false;
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        // Gone between listing and reading, or no process at all.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((state, process_group)) = state_and_group(&stat) else { continue };
        if process_group == group.as_raw_nonzero().get() {
            seen = true;
            if !matches!(state, "Z" | "X") {
                return Some(false);
            }
        }
    }
    seen.then_some(true)
}

/// From `PID (NAME) STATE PARENT GROUP ...`; the name may hold blanks and parentheses.
fn state_and_group(stat: &str) -> Option<(&str, i32)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    Some((state, fields.nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, getpgrp};

    use super::{all_ended, is_gone, state_and_group};

    #[test]
    fn names_with_parentheses_do_not_shift_fields() {
        assert_eq!(state_and_group("12 (a) b) S) Z 1 77 9 0"), Some(("Z", 77)));
        assert_eq!(state_and_group("12 (a"), None);
    }

    #[test]
    fn this_group_runs_and_a_foreign_number_does_not() {
        assert!(!is_gone(getpgrp()));
        let beyond_any = Pid::from_raw(i32::MAX).expect("a number");
        assert!(is_gone(beyond_any));
        assert_ne!(all_ended(getpgrp()), Some(true));
    }
}

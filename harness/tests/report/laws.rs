//! What holds for any result, however strange its texts and figures.

use harness::report::{self, TerminalStyle};
use harness::verdict::result::{RequirementVerdict, RunResult, Verdict};
use proptest::prelude::*;
use quick_junit::{NonSuccessKind, Report, TestCaseStatus};

use crate::any_result::any_result;
use crate::fixture;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_result_is_rendered_the_same_way_twice(run in any_result(), color: bool, width in 0_usize..200) {
        prop_assert_eq!(report::markdown(&run), report::markdown(&run.clone()));
        let style = TerminalStyle { color, width };
        prop_assert_eq!(report::terminal(&run, style), report::terminal(&run.clone(), style));
        prop_assert_eq!(report::junit(&run), report::junit(&run.clone()));
    }

    #[test]
    fn json_reads_back_as_the_same_result(run in any_result()) {
        let text = report::json(&run);
        prop_assert!(text.ends_with('\n'));
        prop_assert_eq!(serde_json::from_str::<RunResult>(&text).unwrap(), run);
    }

    #[test]
    fn junit_reads_back_and_fails_exactly_where_the_result_does(run in any_result()) {
        let text = report::junit(&run);
        let read = Report::deserialize_from_str(&text).unwrap();
        prop_assert_eq!(read.test_suites.len(), run.scenarios.len() + 1);
        prop_assert!(read.tests > 0);
        prop_assert_eq!(has_failure(&read), must_fail(&run), "{}", text);
        prop_assert!(text.chars().all(xml_character), "{:?}", text);
    }

    #[test]
    fn markdown_holds_no_markup_but_its_own(run in any_result()) {
        let text = report::markdown(&run);
        let mut lines = text.lines();
        prop_assert!(lines.next().unwrap().starts_with("# "));
        prop_assert!(lines.clone().all(|line| !line.starts_with("# ")), "one title: {}", text);
        prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
        for line in lines {
            prop_assert!(!opens_html(line), "{}", line);
        }
        tables_are_even(&text)?;
    }

    #[test]
    fn without_color_the_terminal_gets_no_escape(run in any_result()) {
        let text = report::terminal(&run, TerminalStyle { color: false, width: 80 });
        prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{:?}", text);
    }
}

#[test]
fn known_runs_fail_in_junit_exactly_where_the_result_does() {
    for (name, run) in fixture::all() {
        let read = Report::deserialize_from_str(&report::junit(&run)).unwrap();
        assert_eq!(has_failure(&read), must_fail(&run), "{name}");
    }
}

fn has_failure(report: &Report) -> bool {
    let cases = report.test_suites.iter().flat_map(|suite| &suite.test_cases);
    cases
        .into_iter()
        .any(|case| matches!(case.status, TestCaseStatus::NonSuccess { kind: NonSuccessKind::Failure, .. }))
}

fn must_fail(run: &RunResult) -> bool {
    run.scenarios.iter().any(|s| s.verdict == Verdict::Fail)
        || run.requirements.iter().any(|r| r.verdict == RequirementVerdict::Fail)
}

fn xml_character(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

/// A `<` that no backslash escapes.
fn opens_html(line: &str) -> bool {
    let mut escaped = false;
    for c in line.chars() {
        match c {
            '\\' if !escaped => escaped = true,
            '<' if !escaped => return true,
            _ => escaped = false,
        }
    }
    false
}

/// Every row of a table has as many cells as the row above it.
fn tables_are_even(text: &str) -> Result<(), TestCaseError> {
    let mut above = None;
    for line in text.lines() {
        let cells = line.starts_with('|').then(|| bars(line));
        if let (Some(above), Some(cells)) = (above, cells) {
            prop_assert_eq!(above, cells, "{}", line);
        }
        above = cells;
    }
    Ok(())
}

/// Pipes that no backslash escapes.
fn bars(line: &str) -> usize {
    let mut escaped = false;
    let mut bars = 0;
    for c in line.chars() {
        match c {
            '\\' if !escaped => escaped = true,
            '|' if !escaped => bars += 1,
            _ => escaped = false,
        }
    }
    bars
}

//! What the reports of known runs look like. Read the difference before accepting it.

use harness::report;
use harness::verdict::result::RunResult;

use crate::fixture;

fn check(name: &str, run: &RunResult) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        insta::assert_snapshot!(format!("{name}.md"), report::markdown(run));
        insta::assert_snapshot!(format!("{name}.junit"), report::junit(run));
        let plain = report::TerminalStyle { color: false, width: 100 };
        insta::assert_snapshot!(format!("{name}.terminal"), report::terminal(run, plain));
    });
}

#[test]
fn all_five_modes_pass() {
    check("all-pass", &fixture::all_pass());
}

#[test]
fn stock_settings_never_answer_within_the_client_timeout() {
    check("stock-fails", &fixture::stock_fails());
}

#[test]
fn a_run_interrupted_in_the_middle() {
    check("interrupted", &fixture::interrupted());
}

#[test]
fn a_run_that_could_not_be_restored() {
    check("not-restored", &fixture::not_restored());
}

#[test]
fn colors_are_there_only_on_demand_and_change_no_word() {
    let run = fixture::stock_fails();
    let [plain, colored] =
        [false, true].map(|color| report::terminal(&run, report::TerminalStyle { color, width: 120 }));
    assert!(!plain.contains('\u{1b}') && plain.is_ascii(), "{plain}");
    assert!(colored.contains("\u{1b}[31m"), "{colored}");
    let words = |text: &str| -> Vec<String> {
        let bare = ["\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m", "\u{1b}[39m"]
            .iter()
            .fold(text.to_owned(), |text, code| text.replace(code, ""));
        let frame =
            |c: char| c.is_whitespace() || "+-=|".contains(c) || ('\u{2500}'..='\u{257F}').contains(&c);
        bare.split(frame).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    assert_eq!(words(&plain), words(&colored));
}

#[test]
fn the_terminal_stays_within_its_width() {
    for (name, run) in fixture::all() {
        for (color, width) in [(false, 80), (true, 80), (false, 72)] {
            let mut text = report::terminal(&run, report::TerminalStyle { color, width });
            for code in ["\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m", "\u{1b}[39m"] {
                text = text.replace(code, "");
            }
            assert!(text.lines().all(|line| line.chars().count() <= width), "{name} at {width}:\n{text}");
        }
    }
}

#[test]
fn all_files_of_a_run_directory_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let run_dir = dir.path().join("run");
    let run = fixture::all_pass();
    let samples = report::RouteSamples {
        scenario: "cloud-down".into(),
        route: "agent".into(),
        start_ms: 1,
        samples_us: vec![2_000_000],
        errors: 0,
    };
    report::write(&run_dir, &run, std::slice::from_ref(&samples)).unwrap();
    let read = |name: &str| std::fs::read(run_dir.join(name)).unwrap();
    assert_eq!(read("result.json"), report::json(&run).into_bytes());
    assert_eq!(read("report.md"), report::markdown(&run).into_bytes());
    assert_eq!(read("junit.xml"), report::junit(&run).into_bytes());
    assert_eq!(read("histograms/cloud-down.agent.hlog"), report::histograms(&[samples])[0].1);
    let names = std::fs::read_dir(&run_dir).unwrap().count();
    assert_eq!(names, 4, "no partial file is left");
}

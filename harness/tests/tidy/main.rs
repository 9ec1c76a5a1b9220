//! House rules that neither the compiler nor clippy knows: which module may use which, how long a file may be,
//! what has no place in the repository.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

use std::fs;
use std::path::{Path, PathBuf};

/// No file is longer; most are far shorter.
const LINES_MAX: usize = 700;
/// Folders at the root that hold nothing that a person wrote.
const NOT_OURS: [&str; 3] = ["target", "reports", ".git"];

/// Module of the harness -> what else of the harness it may use; a path allows itself and what is inside it. Data
/// goes one way, so nobody uses `cli`, and what is right of the journal never uses what is left of it to act.
const EDGES: [(&str, &[&str]); 26] = [
    ("http", &[]),
    ("statistics", &[]),
    ("units", &[]),
    ("input", &["units", "scenario", "environment"]),
    ("scenario", &["units", "input", "environment"]),
    ("environment", &["units", "input", "scenario::Source"]),
    ("plan", &["units", "scenario", "environment"]),
    // `verdict::result` holds plain data that journal and analysis share with the verdict; it judges nothing.
    ("journal", &["environment", "plan", "verdict::result"]),
    ("gateway", &["units", "environment", "http", "input", "probe::classify"]),
    ("probe", &["http", "journal", "plan", "scenario", "gateway::secret", "attribution::by_header"]),
    // What stands before the gateway, and what it asks of it.
    ("client", &["environment", "gateway", "http", "journal", "probe"]),
    // What a run does to a cluster, and nothing of what it concludes.
    (
        "cluster",
        &[
            "units",
            "attribution::counters",
            "attribution::gateway_log",
            "attribution::ollama_log",
            "attribution::uvicorn_log",
            "environment",
            "gateway::pages",
            "gateway::secret",
            "http",
            "journal",
            "migration",
            "verdict::result",
            "witness",
        ],
    ),
    ("witness", &["journal", "probe::classify"]),
    // From any machine, with nothing but what runs have written into the cluster.
    ("restore", &["environment", "cluster"]),
    (
        "run",
        &[
            "units",
            "scenario",
            "environment",
            "plan",
            "client",
            "cluster",
            "restore",
            "journal",
            "gateway",
            "http",
            "migration",
            "outlook",
            "probe",
            "witness",
            "attribution::by_header",
            "analysis",
            "verdict",
            "report",
        ],
    ),
    ("draft", &["environment", "cluster", "gateway::config", "input::foreign"]),
    // Pure, like what is right of the journal; `verdict::result` is the shape of its lines.
    ("migration", &["environment", "verdict::result"]),
    ("outlook", &["environment", "verdict::result"]),
    ("doctor", &["outlook", "environment", "cluster", "gateway", "journal", "migration", "verdict::result"]),
    ("attribution", &["journal"]),
    ("analysis", &["units", "journal", "plan", "scenario", "environment", "attribution", "verdict::result"]),
    ("verdict", &["analysis", "journal", "outlook", "plan", "scenario", "statistics"]),
    ("compare", &["statistics", "verdict::result"]),
    ("report", &["verdict::result"]),
    (
        "cli",
        &[
            "units",
            "input",
            "scenario",
            "environment",
            "client",
            "cluster",
            "compare",
            "doctor",
            "draft",
            "plan",
            "journal",
            "gateway",
            "migration",
            "restore",
            "run",
            "attribution",
            "bench",
            "verdict",
            "report",
        ],
    ),
    // Measures what the harness measures with.
    (
        "bench",
        &[
            "units",
            "environment",
            "scenario",
            "plan",
            "journal",
            "gateway::secret",
            "http",
            "probe",
            "witness",
            "analysis",
            "verdict",
        ],
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Files under `folder` whose names end in one of `ends`: path from the root of the repository, and text.
fn files(folder: &str, ends: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                if !NOT_OURS.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if ends.iter().any(|end| name.ends_with(end)) {
                // Some files that must fail are not UTF-8.
                found.push((name, String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()));
            }
        }
    }
    assert!(!found.is_empty(), "the rule must have something to look at");
    found.sort();
    found
}

fn sources() -> Vec<(String, String)> {
    [files("harness", &[".rs"]), files("mocks", &[".rs"])].concat()
}

/// The lines of a file that belong to tests: all of a file in a `tests` folder or of a `tests.rs`, else what
/// follows `#[cfg(test)]` of a whole item of the file: one of a field or a statement is not where its tests begin.
fn test_lines<'a>(name: &str, text: &'a str) -> Vec<(usize, &'a str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    if name.contains("/tests/") || name.ends_with("/tests.rs") {
        lines.collect()
    } else {
        lines.skip_while(|(_, line)| *line != "#[cfg(test)]").collect()
    }
}

#[test]
fn no_file_is_too_long_to_read() {
    let lengths = sources().into_iter().map(|(name, text)| (name, text.lines().count()));
    let long: Vec<_> = lengths.filter(|(_, lines)| *lines > LINES_MAX).collect();
    assert!(long.is_empty(), "more than {LINES_MAX} lines: {long:?}");
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not break its own rule.
    let marks =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!"), concat!("unimple", "mented!")];
    let all = files("", &[".rs", ".md", ".toml", ".yaml", "justfile", "scripts/test", ".ci/run"]);
    let mut left = Vec::new();
    for (name, text) in &all {
        for (index, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                left.push(format!("{name}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    assert!(left.is_empty(), "{}", left.join("\n"));
}

#[test]
fn tests_wait_for_conditions_and_never_just_sleep() {
    let sleep = concat!("sle", "ep");
    let calls =
        [format!("::{sleep}("), format!(" {sleep}("), format!("time::{sleep};"), format!("thread::{sleep};")];
    let mut sleeping = Vec::new();
    for (name, text) in &sources() {
        for (number, line) in test_lines(name, text) {
            if calls.iter().any(|call| line.contains(call)) {
                sleeping.push(format!("{name}:{number}: {}", line.trim()));
            }
        }
    }
    assert!(sleeping.is_empty(), "{}", sleeping.join("\n"));
}

#[test]
fn the_mock_world_does_not_know_the_harness() {
    let manifest = fs::read_to_string(root().join("mocks/Cargo.toml")).unwrap();
    assert!(manifest.contains("[dependencies]"), "the rule must have something to look at");
    for line in manifest.lines() {
        let key = line.split(['=', '.', ' ']).next().unwrap();
        assert_ne!(key, "harness", "mocks must not depend on harness: {line}");
    }
}

#[test]
fn every_shipped_scenario_is_documented() {
    let mut text = fs::read_to_string(root().join("README.md")).unwrap();
    text.extend(files("docs", &[".md"]).into_iter().map(|(_, text)| text));
    for (name, _) in files("scenarios", &[".yaml"]) {
        let stem = Path::new(&name).file_stem().unwrap().to_str().unwrap();
        assert!(text.contains(&format!("`{stem}`")), "{name} is named neither in README.md nor in docs/");
    }
}

#[test]
fn the_tests_that_the_documents_lean_on_exist() {
    let code: String = sources().into_iter().map(|(_, text)| text).collect();
    for (file, section) in [("docs/architecture.md", "Invariants"), ("docs/cluster.md", "Accidents")] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let (_, after) = text.split_once(&format!("\n## {section}\n")).expect("the section is there");
        let section = after.split("\n## ").next().unwrap();
        // Odd parts stand between backticks; a test's name has several words, and none in capitals.
        let names = section.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 1);
        let names: Vec<&str> = names.filter(|name| **name == name.to_lowercase()).collect();
        assert!(names.len() > 5, "the rule must have something to look at: {names:?}");
        for name in names {
            assert!(code.contains(&format!("fn {name}(")), "{file} names the test {name}, which is gone");
        }
    }
}

/// The modules of the harness that a line of code names after `crate::`, as paths.
fn crate_paths(line: &str) -> impl Iterator<Item = &str> {
    let code = line.split("//").next().unwrap_or("");
    code.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
        rest[..end].trim_end_matches(':')
    })
}

#[test]
fn modules_use_only_what_they_may() {
    let mut broken = Vec::new();
    let mut seen = 0;
    for (name, text) in files("harness/src", &[".rs"]) {
        let inside = name.strip_prefix("harness/src/").unwrap();
        let module = inside.split(['/', '.']).next().unwrap();
        // Unit tests may set up what they look at with whatever reads it.
        if ["lib", "main"].contains(&module) || name.ends_with("/tests.rs") {
            continue;
        }
        let row = EDGES.iter().find(|(row, _)| *row == module);
        let (_, allowed) = row.unwrap_or_else(|| panic!("{module} has no row in EDGES: what may it use?"));
        for (index, line) in text.lines().enumerate() {
            for path in crate_paths(line) {
                seen += 1;
                let is_in = |whole: &str| path == whole || path.starts_with(&format!("{whole}::"));
                if !is_in(module) && !allowed.iter().any(|allowed| is_in(allowed)) {
                    broken.push(format!("{name}:{}: {module} must not use `{path}`", index + 1));
                }
            }
        }
    }
    assert!(seen > 50, "the rule must have something to look at: {seen} paths");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Files that may name a page of the gateway, and which: those that cost nothing and change nothing that is measured.
/// `/health` itself sends real chats to every deployment.
#[test]
fn no_page_of_the_gateway_is_asked_that_changes_what_is_measured() {
    let harmless = [
        "/health/liveliness",
        "/health/readiness",
        "/v1/models",
        "/v1/model/info",
        "/metrics/",
        "/router/settings",
    ];
    let (mut seen, mut wrong) = (0, Vec::new());
    for (name, text) in files("harness/src", &[".rs"]) {
        let code = text.split("\n#[cfg(test)]\n").next().unwrap();
        if name.ends_with("/tests.rs") || name.ends_with("/refusals.rs") {
            // The latter reads what others ask: a kubelet's probe at `/health` is a reason to refuse.
            continue;
        }
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        for text in lines.flat_map(|line| line.split('"').skip(1).step_by(2)) {
            let rest = harmless.iter().fold(text.to_owned(), |rest, page| rest.replace(page, ""));
            seen += usize::from(rest != text);
            if ["/health", "/metrics", "/router/"].iter().any(|page| rest.contains(page)) {
                wrong.push(format!("{name}: {text}"));
            }
        }
    }
    assert!(seen > 4, "the rule must have something to look at: {seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn paths_are_found_in_code_and_not_in_comments() {
    let found = |line| crate_paths(line).collect::<Vec<_>>();
    assert_eq!(found("use crate::verdict::result::{Ended, Verdict};"), ["verdict::result"]);
    assert_eq!(found("let a = crate::plan::resolve(crate::units::X);"), ["plan::resolve", "units::X"]);
    assert_eq!(found("use crate::{plan, run};"), [""], "a grouped path is in no module and so not allowed");
    assert!(found("/// See [`crate::run`].").is_empty());
}

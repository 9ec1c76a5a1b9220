//! What a run left behind, and what must be true of it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::place::read;

/// A run directory.
pub(crate) struct RunDir {
    pub(crate) path: PathBuf,
}

impl RunDir {
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn result(&self) -> Value {
        serde_json::from_str(&read(&self.file("result.json"))).expect("result.json")
    }

    pub(crate) fn report(&self) -> String {
        read(&self.file("report.md"))
    }

    /// The journal's entries; each line must be JSON.
    #[track_caller]
    pub(crate) fn journal(&self) -> Vec<Value> {
        let text = read(&self.file("journal.jsonl"));
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    /// The journal's events of one kind.
    #[track_caller]
    pub(crate) fn events(&self, kind: &str) -> Vec<Value> {
        let entries = self.journal();
        entries.iter().filter_map(|entry| entry["event"].get(kind).cloned()).collect()
    }

    /// Each fault was written down before it was called, healed and read back, and the journal has its end.
    #[track_caller]
    pub(crate) fn assert_healed(&self) {
        let entries = self.journal();
        for injected in self.events("fault-injected") {
            let intended =
                entries.iter().find(|entry| entry["event"]["fault-intended"]["fault"] == injected["fault"]);
            let written = intended.and_then(|entry| entry["at_us"].as_u64()).expect("an intent");
            assert!(
                written <= injected["called_us"].as_u64().expect("called"),
                "{injected} before its intent"
            );
            // What is done to it comes between the two.
            let kind = &intended.expect("an intent")["event"]["fault-intended"]["kind"];
            let of_it = |entry: &&Value| entry["event"]["mutation-intended"]["fault"] == injected["fault"];
            let mutations: Vec<&Value> = entries.iter().filter(of_it).collect();
            assert_eq!(mutations.is_empty(), kind == "nothing", "{injected}: {mutations:?}");
            let accepted = injected["accepted_us"].as_u64();
            for mutation in mutations {
                let at = mutation["at_us"].as_u64();
                assert!(Some(written) <= at && at <= accepted, "{mutation} outside {injected}");
            }
        }
        let healed = self.events("fault-healed");
        for intended in self.events("fault-intended") {
            let of_it = healed.iter().find(|healed| healed["fault"] == intended["fault"]);
            assert!(of_it.is_some_and(|healed| healed["read_back"] == true), "{intended} in {healed:?}");
        }
        assert!(self.journal().last().expect("a line")["event"].get("run-ended").is_some());
    }

    /// Text of every file, by path.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        files_under(&self.path)
    }

    /// What must be true of every run directory, whatever the run was.
    #[track_caller]
    pub(crate) fn assert_sound(&self) -> Value {
        let result = self.result();
        assert_eq!(result["schema"], "harness/result/v1");
        let verdict = text(&result["verdict"]);
        assert!(["pass", "fail", "inconclusive"].contains(&verdict), "{verdict}");
        assert_eq!(verdict == "pass", list(&result["reasons"]).is_empty(), "{}", result["reasons"]);
        if verdict == "pass" {
            assert_eq!((&result["ended"], &result["restored"]), (&"completed".into(), &true.into()));
        }
        let report = self.report();
        let junit = read(&self.file("junit.xml"));
        assert_junit(&junit);
        for scenario in list(&result["scenarios"]) {
            let name = text(&scenario["name"]);
            assert!(report.contains(name), "report.md does not name {name}");
            assert!(junit.contains(&format!("name=\"{name}\"")), "junit.xml does not name {name}");
            for route in list(&scenario["routes"]) {
                assert_route(name, route);
            }
            for fault in list(&scenario["faults"]) {
                assert!(scenario["verdict"] != "pass" || fault["held"] == true, "{name}: {fault}");
                assert!(
                    scenario["verdict"] != "pass" || !list(&fault["evidence"]).is_empty(),
                    "{name}: {fault}"
                );
            }
        }
        result
    }
}

#[track_caller]
fn assert_route(scenario: &str, route: &Value) {
    let (requests, ok) = (number(&route["requests"]), number(&route["ok"]));
    assert_eq!(sum(&route["served_by"]), ok, "{scenario}: {route}");
    assert_eq!(ok + sum(&route["errors"]), requests, "{scenario}: {route}");
    assert_eq!(number(&route["planned"]), requests + number(&route["skipped"]), "{scenario}: {route}");
}

/// Every element that is opened is closed, in order; and the counts are those of the cases.
#[track_caller]
fn assert_junit(text: &str) {
    let mut open: Vec<&str> = Vec::new();
    let (mut cases, mut failures, mut total) = (0, 0, None);
    for part in text.split('<').skip(1) {
        let (tag, _) = part.split_once('>').expect("a tag ends");
        let name = tag.split_whitespace().next().expect("a tag has a name").trim_end_matches('/');
        match name {
            name if name.starts_with('?') => continue,
            name if name.starts_with('/') => {
                assert_eq!(open.pop(), Some(&name[1..]), "junit.xml: {name}");
                continue;
            }
            "testsuites" => total = Some(attribute(tag, "tests")),
            "testcase" => cases += 1,
            "failure" => failures += 1,
            _ => {}
        }
        if !tag.ends_with('/') {
            open.push(name);
        }
        if name == "testsuites" {
            failures -= attribute(tag, "failures");
        }
    }
    assert!(open.is_empty(), "junit.xml: not closed: {open:?}");
    assert_eq!((total, failures), (Some(cases), 0), "junit.xml: counts");
}

fn attribute(tag: &str, name: &str) -> i64 {
    let (_, after) = tag.split_once(&format!(" {name}=\"")).expect("attribute");
    after.split('"').next().and_then(|value| value.parse().ok()).expect("a number")
}

fn files_under(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("directory") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            files.extend(files_under(&path));
        } else {
            files.push((path.clone(), std::fs::read(&path).expect("file")));
        }
    }
    files.sort();
    files
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}"))
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

pub(crate) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("not a count: {value}"))
}

fn sum(counts: &Value) -> u64 {
    counts.as_object().expect("counts").values().map(number).sum()
}

/// The reasons of the run, in one text.
pub(crate) fn reasons(result: &Value) -> String {
    list(&result["reasons"]).iter().map(text).collect::<Vec<_>>().join("\n")
}

//! Laws of reading: what is right loads, and mistakes do not hide each other.

use std::fs;

use harness::input::{self, Style};
use harness::scenario::Answer;
use proptest::prelude::*;

/// A right scenario with one key on each line.
const RIGHT: &str = "\
scenario: cloud-down
title: Cloud unavailable
requirements:
  - FR217
  - NFR123
components:
  cloud: down
traffic:
  - route: agent
    rate: 8/s
    for: 12s
    stream: mixed
    max_tokens: 8
    timeout: 30s
  - route: coder
    rate: 2/s
    for: 12s
expect:
  agent:
    served_by: vllm-qwen
    within: 5s
    errors: 0
  coder:
    error: true
    within: 5s
recover:
  agent:
    served_by: cloud-kimi
    within: 60s
";

/// A mistake: the line that is replaced, by what, and the line on which it is told. None touches another.
const MISTAKES: [(usize, &str, usize); 19] = [
    (1, "scenario: Cloud Down", 1),
    (2, "titel: Cloud unavailable", 2),
    (4, "  - FR271", 4),
    (5, "  - [NFR123]", 5),
    (7, "  clowd: { gone: [] }", 7),
    (10, "    rate: 8", 10),
    (11, "    for: { s: 12 }", 11),
    (12, "    strem: mixed", 12),
    (13, "    max_tokens: '8'", 13),
    (14, "    timeout: 30", 14),
    (16, "    rate: 5000/s", 16),
    (17, "    # for: 12s", 15),
    (20, "    served_by: [vllm-qwen]", 20),
    (21, "    within: 1e3", 21),
    (22, "    retries: 0", 22),
    (24, "    error: false", 24),
    (25, "    within: -5s", 25),
    (28, "    served_by: claude", 28),
    (29, "    within:", 29),
];

fn problems(text: &str) -> Vec<(u32, String)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.yaml");
    fs::write(&path, text).unwrap();
    match input::load(&[path], None) {
        Ok(_) => Vec::new(),
        Err(problems) => {
            assert!(!problems.render(Style::Plain).is_empty());
            problems.0.into_iter().map(|problem| (problem.line.unwrap_or(0), problem.message)).collect()
        }
    }
}

#[test]
fn each_mistake_alone_is_one_problem() {
    assert_eq!(problems(RIGHT), []);
    for mistake in MISTAKES {
        let found = problems(&with(&[mistake]));
        // A component that is not there makes a mode in which nothing is down, and two names unknown at once.
        let most = if mistake.0 == 7 { 3 } else { 1 };
        assert!((1..=most).contains(&found.len()), "{mistake:?}: {found:?}");
        assert_eq!(usize::try_from(found[0].0).unwrap(), mistake.2, "{found:?}");
    }
}

fn with(mistakes: &[(usize, &str, usize)]) -> String {
    let mut lines: Vec<&str> = RIGHT.lines().collect();
    for (line, text, _) in mistakes {
        lines[line - 1] = text;
    }
    lines.join("\n") + "\n"
}

/// A scenario that is right in the local environment, in one of three ways of writing it.
fn right() -> impl Strategy<Value = (String, String, u64)> {
    let name = "[a-z][a-z0-9-]{0,20}";
    let title = "[A-Za-z][A-Za-z ,.é日]{0,40}[a-z]x";
    (name, title, 1_u64..1000, 5_u64..3600, 1_u64..4097, 0..3_usize, any::<bool>()).prop_map(
        |(name, title, rate, hold, tokens, style, coder)| {
            let mut file = serde_json::json!({
                "scenario": format!("x{name}"), "title": title, "components": { "vllm": "down" },
                "traffic": [{ "route": "agent", "rate": format!("{rate}/s"), "for": format!("{hold}s"), "max_tokens": tokens }],
                "expect": { "agent": { "served_by": "cloud-kimi" } },
                "recover": { "agent": { "served_by": "cloud-kimi", "within": "60s" } },
            });
            if coder {
                let traffic = serde_json::json!({ "route": "coder", "rate": "1/s", "for": "1m" });
                file["traffic"].as_array_mut().unwrap().push(traffic);
            }
            let text = match style {
                0 => file.to_string(),
                1 => format!("{file:#}").replace('\n', "\r\n"),
                _ => {
                    let pairs = file.as_object().unwrap().iter().map(|(key, value)| format!("{key}: {value}\n"));
                    format!("\u{feff}# A comment\n---\n{}...\n", pairs.collect::<String>())
                }
            };
            (format!("x{name}"), text, tokens)
        },
    )
}

proptest! {
    #[test]
    fn mistakes_do_not_hide_each_other(chosen in prop::sample::subsequence(MISTAKES.to_vec(), 0..=MISTAKES.len())) {
        let found = problems(&with(&chosen));
        prop_assert!(found.len() >= chosen.len(), "{:?}: {:?}", chosen, found);
        for mistake in &chosen {
            let told = found.iter().any(|(line, _)| usize::try_from(*line).unwrap() == mistake.2);
            prop_assert!(told, "{:?} is told nowhere: {:?}", mistake, found);
        }
    }

    #[test]
    fn whatever_is_right_loads((name, text, tokens) in right()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.yaml");
        fs::write(&path, &text).unwrap();
        let loaded = input::load(&[path], None);
        prop_assert!(loaded.is_ok(), "{}\n{}", text, loaded.unwrap_err());
        let scenario = loaded.unwrap().scenarios.remove(0);
        prop_assert_eq!(scenario.name, name);
        prop_assert_eq!(u64::from(scenario.traffic[0].max_tokens), tokens);
        prop_assert_eq!(&scenario.expect["agent"].answer, &Answer::ServedBy("cloud-kimi".into()));
    }
}

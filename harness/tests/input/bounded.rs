//! The program itself stays below 100 MB, whatever is in a file: the system refuses it more.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Of address space, which is more than what is in memory.
const LIMIT_KB: u32 = 100 * 1024;
/// Far above what it takes; a busy machine keeps it.
const BOUND: Duration = Duration::from_secs(20);

/// `harness check` with a limit on its memory.
fn check(limit_kb: u32, arguments: &[&str]) -> Output {
    let script = format!("ulimit -v {limit_kb} && exec \"$0\" check \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_harness")]).args(arguments);
    // Nobody asks for a backtrace of a program that ran out of memory.
    command.env_remove("RUST_BACKTRACE").output().unwrap()
}

fn repeated(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect()
}

/// Files that are meant to hurt, with what is said of them.
fn hostile() -> Vec<(&'static str, String, &'static str)> {
    let beyond = "more than this program reads";
    let bomb = repeated(20, |level| match level {
        0 => "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(),
        _ => format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(", ")),
    });
    let head = "scenario: x\ntitle: A title\n";
    let world = "environment: x\nembedded: { profile: fast }\ncomponents:\n  c: { down: refuse, aliases: [";
    vec![
        ("deep", format!("title: {}", "[".repeat(500_000)), beyond),
        (
            "deep-lines",
            format!("title:\n{}", repeated(1200, |depth| format!("{}- \n", " ".repeat(depth + 1)))),
            beyond,
        ),
        ("bomb", bomb.clone(), beyond),
        ("text-bomb", format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), "*a, ".repeat(20_000)), beyond),
        (
            "merge-bomb",
            format!(
                "x: &x {{ {} }}\ny: {{ <<: [{}] }}\n",
                repeated(200, |i| format!("k{i}: 1, ")),
                "*x, ".repeat(5_000)
            ),
            beyond,
        ),
        ("keys", repeated(90_000, |i| format!("k{i}: 1\n")), beyond),
        ("same-keys", "title: x\n".repeat(110_000), "written twice"),
        (
            "problems",
            format!("{head}requirements: [{}]\n", "FR,\n".repeat(24_000)),
            "more problems in this file",
        ),
        (
            "routes",
            format!(
                "{head}traffic: []\nexpect:\n{}",
                repeated(12_000, |i| format!("  r{i}: {{ served_by: a }}\n"))
            ),
            "unknown route `r0`",
        ),
        ("line", format!("scenario: {}\n", "X".repeat(1_000_000)), "cannot be the name"),
        ("lines", format!("{}scenario: x\n", "\r".repeat(1_000_000)), "is missing here"),
        (
            "env-aliases",
            format!(
                "{world}{}] }}\nroutes:\n  r: {{ model: b, fallbacks: [{}] }}\n",
                repeated(20_000, |i| format!("a{i},")),
                repeated(20_000, |i| format!("b{i},"))
            ),
            "unknown alias `b0`",
        ),
        (
            "litellm-models",
            format!(
                "model_list:\n{}",
                repeated(7_000, |i| format!(
                    "- {{ model_name: a{i}, litellm_params: {{ model: ollama_chat/x }} }}\n"
                ))
            ),
            "no component of the environment serves the alias `a0`",
        ),
        (
            "litellm-chain",
            format!(
                "model_list: []\nrouter_settings:\n  fallbacks:\n{}",
                repeated(7_000, |i| format!("  - g{i}: [g{}, g{}]\n", i + 1, i / 2))
            ),
            "fallbacks go round in a circle",
        ),
        (
            "aliases",
            format!("a: &a [&b x]\nb: [{}]\n", repeated(48_000, |i| format!("*x{i}, "))),
            "stands for nothing above it",
        ),
        ("litellm-bomb", format!("{bomb}model_list: *a9\n"), beyond),
    ]
}

#[test]
fn memory_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let huge = folder.path().join("huge.yaml");
    fs::File::create(&huge).unwrap().set_len(100 * 1024 * 1024).unwrap();
    assert_told("huge", &huge, "larger than 1 MiB");
    for (name, text, told) in hostile() {
        assert!(text.len() <= 1024 * 1024, "{name} is refused by its size: {} bytes", text.len());
        let path = folder.path().join(format!("{name}.yaml"));
        fs::write(&path, text).unwrap();
        assert_told(name, &path, told);
    }
}

fn assert_told(name: &str, path: &Path, told: &str) {
    let path = path.to_str().unwrap();
    let arguments = match name.split('-').next() {
        Some("env") => vec!["--env", path],
        Some("litellm") => vec!["--litellm-config", path],
        _ => vec![path],
    };
    let begun = Instant::now();
    let output = check(LIMIT_KB, &arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{name}: {stderr}");
    assert!(stderr.contains(told), "{name} is not told {told:?}: {}", &stderr[..stderr.len().min(2000)]);
    assert!(output.stdout.is_empty(), "{name}");
    assert!(begun.elapsed() < BOUND, "{name} took {:?}", begun.elapsed());
}

#[test]
fn the_limit_is_one() {
    assert_eq!(check(LIMIT_KB, &["--env", "local"]).status.code(), Some(0));
    // So little does not even hold the program.
    assert_ne!(check(4 * 1024, &["--env", "local"]).status.code(), Some(0));
}

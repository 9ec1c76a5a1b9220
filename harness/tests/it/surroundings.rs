//! What programs that are installed get of this program's environment; and what asking for openclaw alone means.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use harness::verdict::result::RunResult;

use crate::place::Place;

const CANARY: &str = "canary-of-the-environment";
const REGISTRY: &str = "http://127.0.0.1:1/registry";

/// Writes down what it is called with and what it knows; `-c` is answered with a version.
const INSTALLER: &str =
    "#!/bin/sh\n{ echo \"$@\"; env; } >> \"$HOME/said\"\n[ \"$1\" = -c ] && echo 3.11 && exit 0\nexit 1\n";

fn executable(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
    fs::write(path, text).expect("write");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions");
}

fn run(place: &Path, arguments: &[&str]) -> Output {
    let mut path = place.join("bin").into_os_string();
    path.push(":/usr/bin:/bin");
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command.current_dir(place).args(["run", "--quiet"]).args(arguments);
    command.env("HOME", place).env("XDG_CACHE_HOME", place.join("cache")).env("PATH", path);
    for name in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "NPM_TOKEN", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH"] {
        command.env(name, CANARY);
    }
    command.env("npm_config_registry", REGISTRY).env("PIP_INDEX_URL", REGISTRY);
    command.output().expect("run")
}

#[test]
fn an_installer_gets_no_key_of_the_environment_and_knows_its_registry() {
    let asked: [(&str, &[&str]); 2] = [
        ("npm", &["--client", "openclaw", "--install-openclaw"]),
        ("python3", &["--gateway", "litellm", "--install-litellm"]),
    ];
    for (installer, arguments) in asked {
        let place = Place::new();
        executable(&place.path().join("bin").join(installer), INSTALLER);
        let output = run(place.path(), arguments);
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let said = fs::read_to_string(place.path().join("said")).expect("it was called");
        assert!(said.contains(REGISTRY), "{said}");
        assert!(!said.contains(CANARY), "{said}");
    }
}

#[test]
fn openclaw_alone_means_the_environment_and_the_scenarios_that_go_through_it() {
    let place = Place::new();
    let output = run(place.path(), &["--client", "openclaw", "--openclaw-bin", "/no/such/openclaw"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let result = fs::read_to_string(place.path().join("reports/latest/result.json")).expect("a result");
    let result: RunResult = serde_json::from_str(&result).expect("a result");
    assert_eq!(result.environment, "openclaw");
    assert!(result.reasons.iter().any(|reason| reason.contains("/no/such/openclaw")), "{:?}", result.reasons);
    let mut names: Vec<&str> = result.scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
    names.sort_unstable();
    let five = ["cloud-down", "cloud-gpu-down", "full-outage", "gaming", "normal"];
    assert_eq!(names, five.map(|mode| format!("openclaw-{mode}")));

    let output = run(place.path(), &["--env", "local", "--client", "openclaw"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("leave --env out") && said.contains("via: openclaw"), "{said}");
}

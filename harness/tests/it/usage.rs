//! Bad usage and bad files, and the commands that only print.

use std::process::Stdio;

use crate::child::{Running, harness};
use crate::place::{Place, fixture};

#[test]
fn bad_usage_is_exit_2_with_words_on_stderr_only() {
    let place = Place::new();
    let (normal, broken) = (fixture("normal.yaml"), fixture("broken.yaml"));
    let (normal, broken) = (normal.to_str().expect("UTF-8"), broken.to_str().expect("UTF-8"));
    std::fs::create_dir(place.path().join("empty")).expect("directory");
    let cases: &[(&[&str], &str)] = &[
        (&[], "Usage"),
        (&["--unknown"], "--unknown"),
        (&["run", "--unknown"], "--unknown"),
        (&["run", "--events", "file"], "--events"),
        (&["doctor", "--env", "no-such-environment"], "no-such-environment"),
        (&["doctor", "file.yaml"], "file.yaml"),
        (&["doctor", "--openclaw-config", "no-such-file.json"], "no-such-file.json"),
        (&["doctor", "--openclaw-config", broken], "no JSON5"),
        (&["doctor", "--litellm-config", broken], "`model_list`"),
        (&["restore", "--env", "no-such-environment"], "no-such-environment"),
        (&["restore", "--abandoned", "--take-over"], "--take-over"),
        (&["restore", "--wait", "soon"], "soon"),
        (&["init"], "--context"),
        (&["init", "--context", "x", "--kubeconfig", "no-such-file"], "no-such-file"),
        (&["report", "--since", "14d"], "--since"),
        (&["report", "no-such-run"], "no-such-run"),
        (&["report", "empty"], "journal.jsonl"),
        (&["report"], "reports/latest"),
        (&["list", "no-such-dir"], "no-such-dir"),
        (&["compare", "no-such-dir", "another"], "no-such-dir"),
        (&["run", broken], "broken.yaml:3:1"),
        (&["check", broken], "did you mean"),
        (&["plan", broken], "traffic"),
        (&["run", "no-such-file.yaml"], "no-such-file.yaml"),
        (&["check", "empty"], "empty"),
        (&["run", normal, "--env", "no-such-environment"], "no-such-environment"),
        (&["run", normal, "--env", "./no-such-environment.yaml"], "no-such-environment.yaml"),
        (&["mock", "--env", "no-such-environment"], "no-such-environment"),
        (&["gate", "--listen", "127.0.0.1:0"], "--to"),
        (&["gate", "--listen", "127.0.0.1:0", "--to", "https://ollama.com"], "ollama.com:443"),
        (&["gate", "--listen", "192.0.2.1:1", "--to", "ollama.com:443"], "cannot start"),
        (&["run", normal, "--deadline", "soon"], "soon"),
        (&["run", normal, "--gateway", "other"], "other"),
        (&["run", normal, "--litellm-bin", "/bin/false"], "--gateway litellm"),
        (&["run", normal, "--litellm-config", "no-such-config.yaml"], "no-such-config.yaml"),
        (&["run", normal, "--litellm-config", normal], "normal.yaml"),
        (&["schema", "other"], "other"),
        (&["completions", "other"], "other"),
    ];
    for (arguments, wanted) in cases {
        let ended = place.harness(arguments).expect(2);
        assert!(ended.stderr.contains(wanted), "{arguments:?} does not say {wanted:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{arguments:?}");
    }
    let made: Vec<_> =
        std::fs::read_dir(place.path()).expect("directory").map(|e| e.expect("entry").file_name()).collect();
    assert_eq!(made, ["empty"], "nothing is made on bad usage");
}

#[test]
fn commands_that_print_print_data_on_stdout_only() {
    let place = Place::new();
    let (normal, environment) = (fixture("normal.yaml"), fixture("environment.yaml"));
    let (normal, environment) = (normal.to_str().expect("UTF-8"), environment.to_str().expect("UTF-8"));
    std::fs::create_dir(place.path().join("reports")).expect("directory");
    let cases: &[(&[&str], &str)] = &[
        (&["check", normal, "--env", environment], "1 scenario fits the environment test: normal"),
        (&["plan", normal, "--env", environment], "1. normal"),
        (&["list"], "verdict"),
        (&["schema", "scenario"], "\"$schema\""),
        (&["schema", "environment"], "\"$schema\""),
        (&["schema", "result"], "\"$schema\""),
        (&["completions", "bash"], "_harness"),
        (&["--version"], "harness "),
        (&["--help"], "could not be restored"),
        (&["run", "--help"], "--deadline"),
    ];
    for (arguments, wanted) in cases {
        let ended = place.harness(arguments).expect(0);
        assert!(ended.stdout.contains(wanted), "{arguments:?} does not say {wanted:?}: {}", ended.stdout);
        assert_eq!(ended.stderr, "", "{arguments:?}");
        if arguments[0] == "schema" {
            serde_json::from_str::<serde_json::Value>(&ended.stdout).expect("JSON");
        }
    }
}

#[test]
fn help_names_the_exit_codes_and_every_flag_of_a_run() {
    let place = Place::new();
    let help = place.harness(&["--help"]).expect(0).stdout;
    for code in ["0  ", "1  ", "2  ", "3  ", "4  "] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(code)), "{code}: {help}");
    }
    let flags = [
        "--env",
        "--gateway",
        "--litellm-config",
        "--litellm-bin",
        "--install-litellm",
        "--client",
        "--openclaw-bin",
        "--install-openclaw",
        "--openclaw-retries",
        "--out",
        "--deadline",
    ];
    let run_help = place.harness(&["run", "--help"]).expect(0).stdout;
    for flag in flags {
        assert!(run_help.contains(flag), "{flag}: {run_help}");
    }
    assert!(!help.contains("supervise"), "an inner command is no one's business: {help}");
}

#[test]
fn outside_of_the_repository_the_five_modes_built_in_are_planned() {
    let place = Place::new();
    let ended = place.harness(&["plan"]).expect(0);
    let mut last = 0;
    for mode in ["normal", "cloud-down", "gaming", "cloud-gpu-down", "full-outage"] {
        let at =
            ended.stdout.find(&format!(". {mode} - ")).unwrap_or_else(|| panic!("{mode}: {}", ended.stdout));
        assert!(at > last, "{mode} is out of order: {}", ended.stdout);
        last = at;
    }
    assert!(place.harness(&["check"]).expect(0).stdout.starts_with("5 scenarios fit"));
}

#[test]
fn the_doctor_finds_this_machine_fit_and_asks_a_gateway_that_runs_already() {
    let place = Place::new();
    let ended = place.harness(&["doctor"]).expect(0);
    assert!(ended.stdout.ends_with("the environment local is fit for a run\n"), "{}", ended.stdout);
    let cases = [
        ("gateway: { url: \"http://127.0.0.1:1\" }", "unknown  models: the gateway's page /v1/models"),
        (
            "gateway: { url: \"http://127.0.0.1:1\", key: { env: NOT_SET_BY_ANYBODY } }",
            "problem  key: $NOT_SET_BY_ANYBODY",
        ),
    ];
    for (gateway, wanted) in cases {
        let environment = place.environment(&[("components:", &format!("{gateway}\ncomponents:"))]);
        let ended = place.harness(&["doctor", "--env", environment.to_str().expect("UTF-8")]).expect(3);
        assert!(ended.stdout.contains(wanted), "{wanted}: {}", ended.stdout);
    }
}

#[test]
fn the_doctor_tells_the_state_of_the_migration_from_files() {
    let place = Place::new();
    let models: Vec<String> =
        ["cloud-kimi", "cloud-minimax", "vllm-qwen", "ollama-qwen", "cloud-qwen3-coder"]
            .map(|alias| format!("{{ id: '{alias}', name: '{alias}' }}"))
            .to_vec();
    let openclaw = format!(
        "// of the household
        {{
          models: {{ providers: {{ litellm: {{
            baseUrl: 'http://litellm.ml.svc:4000/v1', apiKey: '${{LITELLM_MASTER_KEY}}', models: [{}],
          }} }} }},
          agents: {{ defaults: {{
            model: {{
              primary: 'litellm/cloud-kimi',
              fallbacks: ['litellm/cloud-minimax', 'litellm/vllm-qwen', 'litellm/ollama-qwen'],
            }},
            subagents: {{ model: 'litellm/cloud-qwen3-coder' }},
          }} }},
          gateway: {{ auth: {{ token: 'canary-token' }} }},
        }}",
        models.join(", ")
    );
    let litellm =
        "model_list:\n  - { model_name: cloud-kimi, litellm_params: { model: ollama_chat/kimi } }\n";
    let write = |name: &str, text: &str| std::fs::write(place.path().join(name), text).expect("file");
    write("openclaw.json", &openclaw);
    write("litellm.yaml", litellm);
    let files = ["doctor", "--openclaw-config", "openclaw.json", "--litellm-config", "litellm.yaml"];
    let done = place.harness(&files).expect(0);
    assert!(done.stdout.contains("FR222: every fact that was looked at holds"), "{}", done.stdout);
    assert!(done.stdout.contains("FR223: every fact that was looked at holds"), "{}", done.stdout);
    assert!(done.stdout.contains("not looked at: the Secret"), "{}", done.stdout);

    write("openclaw.json", &openclaw.replace("'litellm/ollama-qwen'", "'anthropic/claude-opus-4-5'"));
    let fails = place.harness(&files[..3]).expect(1);
    for words in [
        "fails     FR222 agents.defaults.model.fallbacks: litellm/cloud-minimax, litellm/vllm-qwen, anthropic/claude",
        "          expected: litellm/cloud-minimax, litellm/vllm-qwen, litellm/ollama-qwen",
        "          mend: set `agents.defaults.model.fallbacks` to",
        "fails     FR222 models of Anthropic below agents: agents.defaults.model.fallbacks.2",
        "FR222: fails: 2 of",
    ] {
        assert!(fails.stdout.contains(words), "{words}: {}", fails.stdout);
    }
    write("openclaw.json", &openclaw.replace("http://litellm.ml.svc:4000/v1", "${LITELLM_BASE_URL}"));
    let open = place.harness(&files).expect(3);
    assert!(open.stdout.contains("not known FR222 models.providers.litellm.baseUrl"), "{}", open.stdout);
    for ended in [&done, &fails, &open] {
        assert!(!ended.stdout.contains("canary"), "{}", ended.stdout);
    }
}

#[test]
fn a_reader_that_left_is_no_panic() {
    let place = Place::new();
    for arguments in [&["plan"][..], &["check"], &["schema", "result"], &["completions", "zsh"], &["--help"]]
    {
        let (reader, writer) = std::io::pipe().expect("pipe");
        drop(reader);
        let mut command = harness(place.path(), arguments);
        let output = command.stdout(writer).stderr(Stdio::piped()).output().expect("output");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
        assert_eq!(stderr, "", "{arguments:?}");
    }
    let (reader, writer) = std::io::pipe().expect("pipe");
    drop(reader);
    let mut command = harness(place.path(), ["plan", "no-such-file.yaml"]);
    let output = command.stdout(Stdio::piped()).stderr(writer).output().expect("output");
    assert_eq!(output.status.code(), Some(2), "stderr closed");
}

#[test]
fn quiet_says_nothing_on_stderr() {
    let place = Place::new();
    let environment =
        place.environment(&[("components:", "gateway: { url: \"http://127.0.0.1:1\" }\ncomponents:")]);
    let command = place.run_command(&[fixture("normal.yaml")], &environment, &["--quiet"]);
    let ended = Running::start(command).end().expect(3);
    assert_eq!(ended.stderr, "");
    assert!(ended.stdout.contains("refused"), "{}", ended.stdout);
}

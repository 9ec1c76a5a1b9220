//! What is shipped loads; which files are meant.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::environment::{FaultKind, Kind, Profile};
use harness::input::{self, load_from};
use harness::scenario::{Answer, ComponentState, Forms, Requirement};
use harness::units::Period;

fn write(root: &Path, name: &str, text: &str) -> PathBuf {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_five_modes_are_built_in() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = load_from(folder.path(), &[], None).unwrap();
    assert_eq!(loaded.warnings, []);
    let names: Vec<&str> = loaded.scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
    assert_eq!(names, ["normal", "cloud-down", "gaming", "cloud-gpu-down", "full-outage"]);
    assert_eq!(names, input::builtin().collect::<Vec<_>>());
    let agent = |mode: usize| loaded.scenarios[mode].expect["agent"].answer.clone();
    assert_eq!(agent(0), Answer::ServedBy("cloud-kimi".into()));
    assert_eq!(agent(1), Answer::ServedBy("vllm-qwen".into()));
    assert_eq!(agent(2), Answer::ServedBy("cloud-kimi".into()));
    assert_eq!(agent(3), Answer::ServedBy("ollama-qwen".into()));
    assert_eq!(agent(4), Answer::Error);
    let cloud_down = &loaded.scenarios[1];
    assert_eq!(cloud_down.requirements, [Requirement::FR217, Requirement::NFR123, Requirement::NFR125]);
    assert_eq!(cloud_down.components["cloud"], ComponentState::Down);
    assert_eq!(cloud_down.expect["coder"].answer, Answer::Error);
    assert_eq!(cloud_down.source.name, "built-in:scenarios/cloud-down.yaml");
    let agent = &cloud_down.traffic[0];
    assert_eq!(
        (agent.rate.per_second(), agent.hold, agent.stream),
        (8.0, Period::from_secs(12), Forms::Mixed)
    );
    assert_eq!((agent.max_tokens, agent.timeout), (8, Period::from_secs(30)));
}

#[test]
fn the_local_environment_is_built_in() {
    let folder = tempfile::tempdir().unwrap();
    let local = load_from(folder.path(), &[], None).unwrap().environment;
    assert_eq!(local.kind, Kind::Embedded { profile: Profile::Realistic });
    assert_eq!(local.components["cloud"].down, FaultKind::Blackhole);
    assert_eq!(local.components["vllm"].down, FaultKind::Refuse);
    assert_eq!(local.components["cloud"].ready_within.0, Duration::from_secs(5));
    assert_eq!(local.routes["agent"].fallbacks, ["cloud-minimax", "vllm-qwen", "ollama-qwen"]);
    assert_eq!(local.source.sha256.len(), 64);
}

#[test]
fn the_environment_with_openclaw_is_built_in_with_scenarios_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let built_in = load_from(folder.path(), &[], Some("openclaw")).unwrap();
    assert_eq!(built_in.environment.name, "openclaw");
    assert_eq!(built_in.scenarios.len(), 5);
    assert!(built_in.scenarios.iter().all(|scenario| scenario.name.starts_with("openclaw-")));
    let own = include_str!("../../../scenarios/openclaw/openclaw-normal.yaml");
    write(folder.path(), "scenarios/openclaw/mine.yaml", &own.replace(": openclaw-normal", ": mine"));
    let loaded = load_from(folder.path(), &[], Some("openclaw")).unwrap();
    assert_eq!(loaded.scenarios.iter().map(|own| own.name.as_str()).collect::<Vec<_>>(), ["mine"]);
}

#[test]
fn what_is_loaded_round_trips_through_json() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = load_from(folder.path(), &[], None).unwrap();
    let text = serde_json::to_string(&(&loaded.environment, &loaded.scenarios)).unwrap();
    assert!(text.contains(r#""hold":"12s""#) && text.contains(r#""rate":"8/s""#), "{text}");
    assert_eq!(serde_json::from_str::<(_, _)>(&text).ok(), Some((loaded.environment, loaded.scenarios)));
}

#[test]
fn a_folder_means_its_own_files_by_name() {
    let root = tempfile::tempdir().unwrap();
    for (file, name) in [("b.yml", "b"), ("a.yaml", "a"), ("extra/c.yaml", "c"), ("notes.txt", "d")] {
        write(root.path(), &format!("scenarios/{file}"), &super::scenario(name, ""));
    }
    let names = |paths: &[PathBuf]| -> Vec<String> {
        let loaded = load_from(root.path(), paths, None).unwrap();
        loaded.scenarios.into_iter().map(|scenario| scenario.name).collect()
    };
    assert_eq!(names(&[]), ["a", "b"]);
    assert_eq!(names(&["scenarios/extra".into()]), ["c"]);
    // A file that is named again by its folder is read once.
    assert_eq!(names(&["scenarios/b.yml".into(), "scenarios".into()]), ["b", "a"]);
}

#[test]
fn environments_are_names_or_files() {
    let root = tempfile::tempdir().unwrap();
    let local = include_str!("../../../scenarios/environments/local.yaml");
    let named = |name: &str| local.replace("environment: local", &format!("environment: {name}"));
    write(root.path(), "scenarios/environments/lab.yaml", &named("lab"));
    write(root.path(), "other.yaml", &named("other"));
    let scenario = write(root.path(), "one.yaml", &super::scenario("one", ""));
    let environment = |wanted| {
        load_from(root.path(), std::slice::from_ref(&scenario), wanted).map(|loaded| loaded.environment.name)
    };
    assert_eq!(environment(None).unwrap(), "local");
    assert_eq!(environment(Some("lab")).unwrap(), "lab");
    assert_eq!(environment(Some("other.yaml")).unwrap(), "other");
    assert_eq!(environment(Some("./other.yaml")).unwrap(), "other");
    let problems = environment(Some("lap")).unwrap_err();
    assert_eq!(problems.0[0].message, "unknown environment `lap`: there is no such file");
    assert_eq!(
        problems.0[0].hint.as_deref(),
        Some("did you mean `lab`? possible: `lab`, `local`, `openclaw`")
    );
    write(root.path(), "scenarios/environments/local.yaml", &named("mine"));
    assert_eq!(environment(None).unwrap(), "mine");
}

#[test]
fn files_as_other_systems_write_them_are_read() {
    let root = tempfile::tempdir().unwrap();
    let text = format!("\u{feff}{}", super::scenario("one", "").replace('\n', "\r\n"));
    let path = write(root.path(), "one.yaml", &text);
    let loaded = input::load(&[path], None).unwrap();
    assert_eq!(loaded.scenarios[0].title, "A title");
}

#[test]
fn names_are_unique_over_files() {
    let root = tempfile::tempdir().unwrap();
    let paths = ["a.yaml", "b.yaml"].map(|file| write(root.path(), file, &super::scenario("same", "")));
    let problems = input::load(&paths, None).unwrap_err();
    let [problem] = problems.0.as_slice() else { panic!("one problem, got {problems}") };
    assert!(problem.file.ends_with("b.yaml") && problem.message.contains("a.yaml"), "{problem}");
    assert_eq!((problem.line, problem.column), (Some(1), Some(11)));
}

#[test]
fn an_empty_folder_and_a_missing_file_are_named() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("scenarios")).unwrap();
    let problems = load_from(root.path(), &[], None).unwrap_err();
    assert!(problems.to_string().ends_with("scenarios: no scenario in this directory"), "{problems}");
    let problems = input::load(&["no/such.yaml".into()], None).unwrap_err();
    assert_eq!(problems.to_string(), "no/such.yaml: no such file or directory");
    assert!(problems.render(input::Style::Plain).contains("no/such.yaml"));
}

#[test]
fn a_failover_that_cannot_be_judged_is_a_warning() {
    let root = tempfile::tempdir().unwrap();
    let short = "scenario: short\ntitle: A title\ncomponents: { cloud: down }\ntraffic:\n  \
                 - { route: agent, rate: 8/s, for: 4s }\n  - { route: coder, rate: 1/s, for: 8s }\nexpect:\n  \
                 agent: { served_by: vllm-qwen }\n  coder: { error: true }\n";
    let loaded = input::load(&[write(root.path(), "short.yaml", short)], None).unwrap();
    let lines: Vec<_> = loaded.warnings.iter().map(|warning| warning.line).collect();
    assert_eq!(lines, [Some(5), Some(6)]);
    assert!(loaded.warnings.iter().all(input::Problem::is_warning));
    assert!(
        loaded.warnings[0].message.starts_with("cannot establish steady failover"),
        "{}",
        loaded.warnings[0]
    );
    // The route's own model stays up: there is no failover to judge.
    let gaming =
        short.replace("cloud: down", "vllm: down").replace("served_by: vllm-qwen", "served_by: cloud-kimi");
    let gaming = gaming.replace("error: true", "served_by: cloud-qwen3-coder");
    let loaded = input::load(&[write(root.path(), "gaming.yaml", &gaming)], None).unwrap();
    assert_eq!(loaded.warnings, []);
}

#[test]
fn an_expectation_against_the_order_of_the_route_is_a_warning() {
    let root = tempfile::tempdir().unwrap();
    let warnings = |components: &str, agent: &str| {
        let text = format!(
            "scenario: odd\ntitle: A title\ncomponents: {{ {components} }}\ntraffic:\n  \
             - {{ route: agent, rate: 8/s, for: 12s }}\nexpect:\n  agent: {{ {agent}, within: 5s }}\n"
        );
        let loaded = input::load(&[write(root.path(), "odd.yaml", &text)], None).unwrap();
        loaded.warnings.iter().map(|warning| (warning.line, warning.message.clone())).collect::<Vec<_>>()
    };
    let one = |message: &str| vec![(Some(7), message.to_owned())];
    assert_eq!(warnings("cloud: down", "served_by: vllm-qwen"), []);
    assert_eq!(warnings("cloud: { gone: [cloud-kimi] }", "served_by: cloud-minimax"), []);
    assert_eq!(
        warnings("cloud: down", "served_by: ollama-qwen"),
        one("`ollama-qwen` is expected, but `vllm-qwen` is up and comes before it on `agent`")
    );
    assert_eq!(
        warnings("cloud: { gone: [cloud-kimi] }", "served_by: vllm-qwen"),
        one("`vllm-qwen` is expected, but `cloud-minimax` is up and comes before it on `agent`")
    );
    let an_error = one("an error is expected of `agent`, but `vllm-qwen` is up there");
    assert_eq!(warnings("cloud: down", "error: true"), an_error);
    assert_eq!(warnings("cloud: down, vllm: down, ollama: down", "error: true"), []);
}

#[test]
fn one_model_can_be_gone() {
    let root = tempfile::tempdir().unwrap();
    let rest = "components: { cloud: { gone: [cloud-kimi] } }\nexpect:\n  agent: { served_by: cloud-minimax, lost_in_flight: 2 }\n";
    let path = write(root.path(), "gone.yaml", &super::scenario("kimi-gone", rest));
    let scenario = input::load(&[path], None).unwrap().scenarios.remove(0);
    assert_eq!(scenario.components["cloud"], ComponentState::Gone(vec!["cloud-kimi".into()]));
    let expectation = &scenario.expect["agent"];
    assert_eq!((expectation.within, expectation.errors), (Period::from_secs(5), 0));
    assert_eq!(expectation.lost_in_flight, Some(2));
}

#[test]
fn a_gateway_may_be_served_under_a_prefix() {
    let root = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(super::fail_file("env-gateway-path.yaml")).unwrap();
    let one = write(root.path(), "one.yaml", &super::scenario("one", ""));
    for (path, fits) in
        [("/", true), ("/llm/chat", true), ("/llm/chat/completions", false), ("/llm/v1", false)]
    {
        let environment = write(root.path(), "env.yaml", &text.replace("/v1/", path));
        let loaded = input::load(std::slice::from_ref(&one), environment.to_str());
        assert_eq!(loaded.is_ok(), fits, "{path}: {loaded:?}");
    }
}

#[test]
fn the_examples_of_the_documentation_load() {
    let root = tempfile::tempdir().unwrap();
    let page = include_str!("../../../docs/scenario-format.md");
    let mut examples = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let scenario = write(root.path(), "scenario.yaml", examples.next().unwrap());
    let environment = write(root.path(), "environment.yaml", examples.next().unwrap());
    let cluster = write(root.path(), "cluster.yaml", examples.next().unwrap());
    assert_eq!(examples.next(), None);
    assert_eq!(input::load(&[], cluster.to_str()).unwrap().environment.name, "home-cluster");
    assert_eq!(input::load(&[scenario], None).unwrap().warnings, []);
    let one = write(root.path(), "one.yaml", &super::scenario("one", ""));
    assert_eq!(input::load(&[one], environment.to_str()).unwrap().environment.name, "local");
}

#[test]
fn requirements_show_their_ids() {
    let shown: Vec<String> =
        [Requirement::FR217, Requirement::NFR125].iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["FR217", "NFR125"]);
}

#[test]
fn names_are_looked_up_as_far_as_the_environment_could_be_read() {
    let root = tempfile::tempdir().unwrap();
    let local = include_str!("../../../scenarios/environments/local.yaml");
    let rest =
        "components: { tpu: down }\nexpect:\n  agent: { served_by: gpt }\n  boss: { served_by: vllm-qwen }\n";
    let scenario = write(root.path(), "one.yaml", &super::scenario("one", rest));
    let unknown = |from: &str, to: &str| -> Vec<String> {
        assert!(local.contains(from), "{from}");
        let environment = write(root.path(), "environment.yaml", &local.replace(from, to));
        let problems = input::load(std::slice::from_ref(&scenario), environment.to_str()).unwrap_err();
        let own = problems.0.iter().filter(|problem| problem.file.ends_with("one.yaml"));
        own.map(|problem| problem.message.clone()).collect()
    };
    let component = "unknown component `tpu`".to_owned();
    let (alias, route) = ("unknown alias `gpt`".to_owned(), "unknown route `boss`".to_owned());
    let all = [component.clone(), alias.clone(), route.clone()];
    assert_eq!(unknown("environment: local", "environment: Not A Name"), all);
    // Whether the route exists is not known, but that nothing probes it is.
    let unprobed = "an expectation of `boss`, but no traffic probes that route".to_owned();
    assert_eq!(
        unknown("routes:\n", "routes: 5\nrouts:\n"),
        [component.clone(), alias.clone(), unprobed.clone()]
    );
    // Whether the alias exists is not known, but that the route does not have it is.
    let off_route = "`gpt` is not on the route `agent` of this environment".to_owned();
    let aliases = unknown("aliases: [vllm-qwen]", "aliases: vllm-qwen");
    assert_eq!(aliases, [component, off_route.clone(), route.clone()]);
    assert_eq!(unknown("components:\n", "components: []\ncompnents:\n"), [off_route, route]);
    assert_eq!(unknown("environment: local", "environment: 'local"), [unprobed]);
}

#[test]
fn what_is_built_in_waits_for_an_environment_that_is_right() {
    let root = tempfile::tempdir().unwrap();
    let small = "environment: small\nembedded: { profile: fast }\ncomponents:\n  \
                 cloud: { aliases: [cloud-kimi], down: refuse }\nroutes:\n  agent: { model: cloud-kimi }\n";
    let problems_with = |text: &str| {
        let environment = write(root.path(), "environment.yaml", text);
        load_from(root.path(), &[], environment.to_str()).unwrap_err().0
    };
    let broken = problems_with(&small.replace("down: refuse", "down: never"));
    assert!(matches!(broken.as_slice(), [problem] if problem.line == Some(4)), "{broken:?}");
    let fits_nothing = problems_with(small);
    assert!(fits_nothing.iter().all(|problem| problem.file.starts_with("built-in:")), "{fits_nothing:?}");
}

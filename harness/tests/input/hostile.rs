//! Files that are meant to hurt are refused quickly.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use harness::gateway::local::ConfigSource;
use harness::input;
use proptest::prelude::*;

/// Far above what any of these takes on an idle machine (well under a second), and far below what reading in
/// quadratic time takes: a bound that a busy machine keeps.
const BOUND: Duration = Duration::from_secs(20);

/// The only problem of a file with this content, and that it came quickly.
fn refused(content: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.yaml");
    fs::write(&path, content).unwrap();
    quickly(path)
}

fn quickly(path: PathBuf) -> String {
    let begun = Instant::now();
    let problems = input::load(std::slice::from_ref(&path), None).unwrap_err();
    assert!(begun.elapsed() < BOUND, "took {:?}", begun.elapsed());
    let [problem] = problems.0.as_slice() else { panic!("one problem, got {problems}") };
    assert_eq!(problem.file, path.display().to_string());
    problem.message.clone()
}

#[test]
fn nesting_is_bounded() {
    for opening in ["[", "{a: ", "- ", "a: ", "? ", "\n- - ", "[a: ", "key: "] {
        let message = refused(format!("scenario: x\ntitle: {}", opening.repeat(100_000)).as_bytes());
        assert!(!message.is_empty());
    }
}

#[test]
fn aliases_are_bounded() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let list = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{list}]\n"));
    }
    refused(text.as_bytes());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    fs::write(&path, text).unwrap();
    let begun = Instant::now();
    let problem = ConfigSource::read(&path).unwrap_err();
    assert!(problem.0[0].message.starts_with("more than this program reads"), "{problem}");
    assert!(begun.elapsed() < BOUND);
}

#[test]
fn many_nodes_are_bounded() {
    let text = format!("scenario: x\ntitle: [{}]\n", "a,".repeat(500_000));
    refused(text.as_bytes());
}

#[test]
fn many_problems_are_bounded() {
    for separator in [",", ",\n"] {
        let text =
            super::scenario("x", &format!("requirements: [{}]\n", format!("FR{separator}").repeat(20_000)));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("many.yaml");
        fs::write(&path, text).unwrap();
        let begun = Instant::now();
        let problems = input::load(&[path], None).unwrap_err();
        assert_eq!(problems.0.len(), 101);
        // 20,000 unknown ones, and all but the first are repetitions.
        assert_eq!(problems.0[100].message, "39899 more problems in this file");
        assert!(begun.elapsed() < BOUND, "took {:?}", begun.elapsed());
    }
}

#[test]
fn long_names_are_cut() {
    let message = refused(
        format!(
            "scenario: {}\ntitle: A title\ntraffic:\n  - {{ route: agent, rate: 8/s, for: 12s }}\n",
            "X".repeat(900_000)
        )
        .as_bytes(),
    );
    assert!(message.len() < 1000, "{} bytes", message.len());
}

#[test]
fn large_files_are_refused_by_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.yaml");
    File::create(&path).unwrap().set_len(100 * 1024 * 1024).unwrap();
    assert_eq!(quickly(path), "larger than 1 MiB");
}

#[test]
fn other_than_text_is_refused() {
    assert_eq!(refused(b"scenario: \xff\xfe\n"), "not UTF-8: the byte 0xff is no text here");
    assert!(!refused(b"scenario: \0\n").is_empty());
    assert_eq!(refused(b""), "the file is empty");
    assert_eq!(refused(b"\xef\xbb\xbf"), "the file is empty");
}

#[test]
fn devices_and_pipes_are_not_waited_for() {
    assert_eq!(quickly("/dev/zero".into()), "not a regular file");
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.yaml");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_eq!(quickly(pipe.clone()), "not a regular file");
    for wanted in [pipe.to_str(), Some("/dev/zero/")] {
        assert!(input::load(&[], wanted).is_err());
    }
    assert!(ConfigSource::read(&pipe).is_err());
}

#[test]
fn links_in_a_circle_and_into_nowhere_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.yaml"), folder.path().join("b.yaml"));
    std::os::unix::fs::symlink(&a, &b).unwrap();
    std::os::unix::fs::symlink(&b, &a).unwrap();
    assert_eq!(quickly(a.clone()), "cannot be read: too many levels of symbolic links");
    let nowhere = folder.path().join("nowhere.yaml");
    std::os::unix::fs::symlink(folder.path().join("gone"), &nowhere).unwrap();
    assert_eq!(quickly(nowhere), "no such file or directory");
    // As files of a directory they do not hide each other.
    let problems = input::load(&[folder.path().to_owned()], None).unwrap_err();
    assert_eq!(problems.0.len(), 3, "{problems}");
}

#[test]
fn a_directory_is_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("config.yaml");
    fs::create_dir(&directory).unwrap();
    let problems = input::load(&[], directory.to_str()).unwrap_err();
    assert_eq!(problems.0[0].message, "a directory, not a file");
    assert_eq!(ConfigSource::read(&directory).unwrap_err().0[0].message, "a directory, not a file");
}

#[test]
fn problems_of_many_files_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let text = super::scenario("Not A Name", &format!("requirements: [{}]\n", "FR,".repeat(200)));
    for index in 0..30 {
        fs::write(folder.path().join(format!("{index:02}.yaml")), &text).unwrap();
    }
    let begun = Instant::now();
    let problems = input::load(&[folder.path().to_owned()], None).unwrap_err();
    assert_eq!(problems.0.len(), 1001);
    assert_eq!(problems.0[1000].message, "2030 more problems in these files");
    assert!(begun.elapsed() < BOUND, "took {:?}", begun.elapsed());
}

#[test]
fn a_whole_file_is_read_after_its_faults() {
    let text = "requirements: [FR1]\r\rtitle: \"\u{1F469}\u{200D}\u{1F527}\"\r\n\nscenario: X\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("any.yaml");
    fs::write(&path, text).unwrap();
    let problems = input::load(&[path], None).unwrap_err();
    let places: Vec<_> = problems.0.iter().map(|problem| (problem.line, problem.column)).collect();
    let at = |line, column| (Some(line), Some(column));
    assert_eq!(places, [at(1, 1), at(1, 16), at(5, 11)], "{problems}");
    assert_eq!(problems.0[2].source_line.as_deref(), Some("scenario: X"));
}

proptest! {
    /// Whatever is in a file, it is loaded or refused with problems that can be drawn.
    #[test]
    fn no_content_panics(text in "(scenario|title|traffic|expect|[a-z]{1,3}|[:\\-\\[\\]{}&*!|>'\"#, \n\t\r\u{1b}\u{feff}é]|12s|8/s){0,60}") {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("any.yaml");
        fs::write(&path, &text).unwrap();
        if let Err(problems) = input::load(std::slice::from_ref(&path), None) {
            prop_assert!(!problems.0.is_empty());
            let shown = problems.render(input::Style::Plain);
            prop_assert!(!shown.contains('\u{1b}'), "drives the terminal");
        }
    }

    /// The same for right files with one piece replaced, which reach the checks behind the parser.
    #[test]
    fn no_change_of_a_right_file_panics(at in 0_usize..600, length in 0_usize..20, piece in "\\PC{0,12}") {
        let right = include_str!("../../../scenarios/cloud-down.yaml");
        let mut chars: Vec<char> = right.chars().collect();
        let from = (200 + at).min(chars.len());
        let to = (from + length).min(chars.len());
        chars.splice(from..to, piece.chars());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changed.yaml");
        fs::write(&path, chars.iter().collect::<String>()).unwrap();
        if let Err(problems) = input::load(std::slice::from_ref(&path), None) {
            prop_assert!(!problems.render(input::Style::Plain).is_empty());
        }
    }

    /// Whatever bytes a file has, and whatever kind of file it is taken for.
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b':'), Just(b' ')], 0..80)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("any.yaml");
        fs::write(&path, &bytes).unwrap();
        let shown = [
            input::load(std::slice::from_ref(&path), None).map(|_| ()),
            input::load(&[], path.to_str()).map(|_| ()),
            ConfigSource::read(&path).map(|_| ()),
        ];
        for result in shown {
            let drives = result.is_err_and(|problems| problems.render(input::Style::Plain).contains('\u{1b}'));
            prop_assert!(!drives, "drives the terminal");
        }
    }

    /// A right LiteLLM file with one piece replaced.
    #[test]
    fn no_change_of_a_right_configuration_panics(at in 0_usize..6000, length in 0_usize..20, piece in "\\PC{0,12}") {
        let right = include_str!("../../../mocks/litellm/tuned.yaml");
        let mut chars: Vec<char> = right.chars().collect();
        let from = at.min(chars.len());
        let to = (from + length).min(chars.len());
        chars.splice(from..to, piece.chars());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changed.yaml");
        fs::write(&path, chars.iter().collect::<String>()).unwrap();
        if let Err(problems) = ConfigSource::read(&path) {
            prop_assert!(!problems.render(input::Style::Plain).is_empty());
        }
    }
}

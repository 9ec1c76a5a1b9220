//! Places that cannot be written.

use std::process::Command;

use crate::child::{harness, run};
use crate::place::{Place, fixture};

#[test]
fn an_out_that_cannot_be_written_is_inconclusive() {
    let place = Place::new();
    place.write("out", "a file where a directory should be");
    let ended = place.run(&[fixture("normal.yaml")], &fixture("environment.yaml"), &[]).expect(3);
    assert!(ended.stderr.contains("cannot make the run directory out/"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
}

/// The file size limit stands for a full disk.
#[test]
fn a_journal_that_cannot_grow_ends_the_run_restored() {
    let place = Place::new();
    let run_command =
        place.run_command(&[fixture("cloud-down-short.yaml")], &fixture("environment.yaml"), &[]);
    // 48 blocks of 512 bytes: enough for the first mode's baseline and for the reports.
    let script = "trap '' XFSZ; ulimit -f 48; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(run_command.get_program()).args(run_command.get_args());
    command.current_dir(place.path()).stdin(std::process::Stdio::null());
    let ended = run(command).expect(3);
    assert!(ended.stderr.contains("cannot write the journal"), "{}", ended.stderr);
    // This process knows, though its journal does not.
    assert!(ended.stderr.contains("everything was undone"), "{}", ended.stderr);
    assert!(!place.run_dir().file("result.json").exists(), "half a journal is not judged");
}

#[test]
fn a_report_that_cannot_be_written_is_told() {
    let place = Place::new();
    let environment =
        place.environment(&[("components:", "gateway: { url: \"http://127.0.0.1:1\" }\ncomponents:")]);
    place.run(&[fixture("normal.yaml")], &environment, &[]).expect(3);
    let run_dir = place.run_dir();
    std::fs::remove_file(run_dir.file("report.md")).expect("remove");
    std::fs::create_dir(run_dir.file("report.md")).expect("a directory where the file should be");
    let ended = run(harness(place.path(), ["report".as_ref(), run_dir.path.as_os_str()])).expect(2);
    assert!(ended.stderr.contains("cannot write the reports"), "{}", ended.stderr);
}

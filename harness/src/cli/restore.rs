//! `harness restore`.

use std::fmt::Write as _;

use super::args::RestoreArguments;
use super::exit::ExitStatus;
use super::printer;
use crate::cluster::access::Access;
use crate::environment::{Cluster, Environment, Reach};
use crate::restore::{RestoreError, Restored, Wish, restore as undo_all};

pub(super) fn restore(arguments: &RestoreArguments, quiet: bool) -> ExitStatus {
    let environment = match crate::input::environment(&arguments.env) {
        Ok(environment) => environment,
        Err(problems) => return printer::problems(&problems),
    };
    if environment.is_local() && (arguments.abandoned || arguments.take_over || arguments.wait.is_some()) {
        printer::tell(&format!(
            "error: nothing outlives a run in the environment {}, so there is nobody's lock to take and nothing to wait for; \
             name the environment of a cluster: --env FILE",
            environment.name
        ));
        return ExitStatus::Usage;
    }
    let Some(cluster) = environment.cluster() else {
        return printer::data("nothing to restore: what a local run changes is inside its own process\n");
    };
    if let Reach::Embedded { .. } = cluster.reach {
        return printer::data("nothing to restore: the mock cluster of a run vanishes with the run\n");
    }
    let wish = Wish {
        abandoned: arguments.abandoned,
        take_over: arguments.take_over,
        wait: arguments.wait.map(|wait| wait.0),
    };
    let done = super::on_runtime(async { Ok(undo(&environment, cluster, wish, quiet).await) });
    match done {
        Ok(Ok(restored)) => {
            let printed = printer::data(&describe(&restored, &environment.name));
            if restored.is_complete() { printed } else { ExitStatus::NotRestored }
        }
        Ok(Err(error)) => {
            printer::tell(&format!("error: {error}"));
            ExitStatus::NotRestored
        }
        Err(error) => {
            printer::tell(&format!("error: cannot start: {error}"));
            ExitStatus::NotRestored
        }
    }
}

async fn undo(
    environment: &Environment,
    cluster: &Cluster,
    wish: Wish,
    quiet: bool,
) -> Result<Restored, String> {
    let unknown = |error: String| format!("whether something is left to restore cannot be told: {error}");
    let access = Access::open(cluster, None).await.map_err(|error| unknown(error.to_string()))?;
    let progress = |line: &str| {
        if !quiet {
            printer::tell(line);
        }
    };
    undo_all(&access, environment, cluster, wish, &progress).await.map_err(|error| match error {
        RestoreError::Call(error) => unknown(error.to_string()),
        error @ RestoreError::NoLock { .. } => error.to_string(),
    })
}

/// All of it in words.
fn describe(restored: &Restored, environment: &str) -> String {
    let mut text = String::new();
    for (title, lines) in [
        ("undone", &restored.undone),
        ("warning: left alone, since somebody has changed it", &restored.left_alone),
        ("note", &restored.notes),
        ("not restored", &restored.live),
        ("not restored", &restored.left),
        ("not known", &restored.unknown),
        ("unable to restore", &restored.unable),
    ] {
        for line in lines {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{title}: {line}");
        }
    }
    if restored.is_nothing() {
        let _ = writeln!(text, "the environment {environment}: no run has left anything");
    } else if restored.is_complete() {
        let _ = writeln!(text, "the environment {environment} is restored");
    } else if !restored.left.is_empty() || !restored.live.is_empty() {
        let _ = writeln!(text, "the environment {environment} is not restored");
    } else if !restored.unknown.is_empty() {
        let _ = writeln!(text, "the environment {environment}: whether all is restored is not known");
    } else {
        let _ = writeln!(
            text,
            "the environment {environment}: nothing is left, but what a run would leave could not be undone"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Restored, describe};

    #[test]
    fn the_last_line_says_whether_anything_is_left() {
        let mut restored = Restored::default();
        assert_eq!(describe(&restored, "home"), "the environment home: no run has left anything\n");
        restored.unable.push("this user may not patch deployments/scale in ml".into());
        let words = describe(&restored, "home");
        assert!(words.contains("unable to restore: this user may not patch"), "{words}");
        assert!(words.ends_with("what a run would leave could not be undone\n"), "{words}");
        restored.unknown.push("whether a job of an earlier run is left: 503".into());
        let words = describe(&restored, "home");
        assert!(words.contains("not known: whether a job of an earlier run is left: 503"), "{words}");
        assert!(words.ends_with("whether all is restored is not known\n"), "{words}");
        restored.unable.clear();
        assert!(!restored.is_complete() && !restored.is_nothing());
        restored.unknown.clear();
        restored.left_alone.push("vllm: 3 pods".into());
        assert!(describe(&restored, "home").ends_with("the environment home is restored\n"));
        restored.left.push("ollama: kubectl scale".into());
        let words = describe(&restored, "home");
        assert!(
            words.contains("warning: left alone") && words.contains("not restored: ollama: kubectl scale")
        );
        assert!(words.ends_with("the environment home is not restored\n"), "{words}");
    }
}

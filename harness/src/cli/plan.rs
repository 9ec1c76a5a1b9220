//! `harness plan`: what a run would do, in order.

use std::fmt::Write;
use std::time::Duration;

use super::args::PlanArguments;
use super::exit::ExitStatus;
use super::{check, printer};
use crate::cluster::access::Access;
use crate::cluster::preview;
use crate::environment::{Cluster, Environment, Reach};
use crate::plan::{Plan, Step, demanded, resolve, undo_words};
use crate::run;
use crate::units::Period;

pub(super) fn plan(arguments: &PlanArguments) -> ExitStatus {
    let loaded = match check::loaded(&arguments.files) {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let plan = resolve(&loaded.scenarios, &loaded.environment, run::lead(&loaded.environment), 0);
    let text = describe(&plan, &loaded.environment);
    let Some(cluster) = loaded.environment.cluster() else { return printer::data(&text) };
    if let Reach::Embedded { .. } = cluster.reach {
        let deadline = preview::deadline(demanded(&plan), &loaded.environment);
        let changes = preview::of_mock(&loaded.environment, &taken_down(&plan), deadline);
        return printer::data(&format!("{text}\n{changes}"));
    }
    let looked = super::on_runtime(async {
        Ok(look(&plan, &loaded.environment, cluster, arguments.no_dead_man).await)
    });
    let failed = match looked {
        Ok(Ok((words, refused))) => {
            printer::data(&format!("{text}\n{words}"));
            return if refused { ExitStatus::Inconclusive } else { ExitStatus::Pass };
        }
        Ok(Err(words)) => words,
        Err(error) => format!("cannot start: {error}"),
    };
    printer::data(&text);
    printer::tell(&format!("error: {failed}"));
    ExitStatus::Inconclusive
}

/// What the cluster makes of a plan, and whether a run would be refused; or why that cannot be told.
async fn look(
    plan: &Plan,
    environment: &Environment,
    cluster: &Cluster,
    no_dead_man: bool,
) -> Result<(String, bool), String> {
    let access = Access::open(cluster, None).await.map_err(|error| error.to_string())?;
    let components = taken_down(plan);
    let deadline = preview::deadline(demanded(plan), environment);
    let found = preview::look(&access, environment, &components, deadline, no_dead_man).await;
    let found = found.map_err(|error| error.to_string())?;
    Ok((found.describe(cluster, access.name()), found.is_refused()))
}

/// The components of all faults, in their order.
fn taken_down(plan: &Plan) -> Vec<String> {
    plan.steps.iter().flat_map(|step| &step.inject).map(|fault| fault.component.clone()).collect()
}

fn describe(plan: &Plan, environment: &Environment) -> String {
    // Of injections that are all alike one is told.
    let steps: Vec<&Step> =
        plan.steps.iter().filter(|step| step.injection.is_none_or(|number| number == 1)).collect();
    let modes = check::counted(steps.len(), "mode");
    let mut text = format!("{modes} in the environment {}, in this order\n", environment.name);
    for (place, step) in steps.into_iter().enumerate() {
        let _ = write!(text, "\n{}. {} - {}\n", place + 1, step.scenario.name, step.scenario.title);
        describe_step(&mut text, step);
    }
    let demanded = Period(Duration::from_secs(demanded(plan).as_secs()));
    let _ = writeln!(
        text,
        "\nleads and judged times: {demanded}; waiting for the last replies and for recovery comes on top"
    );
    let run::Schedule { longest, deadline, active_deadline, grace } = run::schedule(plan, environment);
    if !environment.is_local() {
        let minutes = Duration::from_secs(longest.as_secs().div_ceil(60) * 60);
        let _ =
            writeln!(text, "at the longest, where every wait takes as long as it may: {}", Period(minutes));
    }
    if environment.cluster().is_some_and(|cluster| matches!(cluster.reach, Reach::InCluster)) {
        let _ = writeln!(
            text,
            "as a Job: at least `--deadline {deadline}`, activeDeadlineSeconds: {}, terminationGracePeriodSeconds: {}",
            active_deadline.as_secs(),
            grace.as_secs()
        );
    }
    if environment.cluster().is_none() {
        text.push_str(
            "mutations happen inside this process only; no permissions are needed and nobody else owns what is changed\n",
        );
    }
    for note in &plan.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

fn describe_step(text: &mut String, step: &Step) {
    for component in &step.inherited {
        let _ = writeln!(text, "   keep    {component} down, as in the mode before");
    }
    for fault in &step.inject {
        let undo = undo_words(&fault.kind, &fault.component);
        let _ = writeln!(text, "   inject  {} of {} (undo: {undo})", fault.kind.word(), fault.component);
    }
    for route in &step.routes {
        let answers = route.after.as_deref().unwrap_or("an error");
        let _ = writeln!(
            text,
            "   probe   {} at {} for {}, a probe every {:.0} ms; {answers} should answer",
            route.route,
            route.rate,
            route.hold,
            route.rate.interval().as_secs_f64() * 1000.0
        );
    }
    for component in &step.heal {
        let _ = writeln!(text, "   heal    {component}, and wait until it serves and the routes are back");
    }
    if step.scenario.is_repeated() {
        let _ = writeln!(
            text,
            "   repeat  {} times in all, each from a steady primary",
            step.scenario.injections
        );
    }
}

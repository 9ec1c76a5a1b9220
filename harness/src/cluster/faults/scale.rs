//! `scale-to-zero`: the Deployment keeps no pod.
//!
//! Only the scale subresource is used, which cannot change anything else of the Deployment, and always with the
//! version that was read. Once the count is 0 nothing in the object says whose 0 it is: that it still is 0 is all that
//! an undo can go by.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v1::Scale as ScaleObject;
use serde::{Deserialize, Serialize};

use crate::cluster::access::{Access, CallError, Failure, Target, Verb, found};
use crate::cluster::mutation::{ATTEMPTS, Applied, Kubectl, MutationError, ReadBack, Undone};
use crate::cluster::opponents::owners;
use crate::cluster::refusals::{self, Refusal};
use crate::environment::ObjectName;

/// A Deployment that is scaled to 0, and the count that it goes back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale {
    /// Which.
    pub deployment: ObjectName,
    /// Its uid: another one of the same name is not ours.
    pub uid: String,
    /// The count before.
    pub replicas: i32,
}

/// The Deployment of a fault as it was found, and what keeps it from being scaled.
///
/// # Errors
/// Where it cannot be read.
pub async fn prepare(
    access: &Access,
    deployment: &ObjectName,
) -> Result<(Option<Scale>, Vec<Refusal>), CallError> {
    let object = found(access.get::<Deployment>(deployment).await)?;
    let refused = refusals::target(deployment, object.as_ref(), &access.kubectl());
    let Some(object) = object else { return Ok((None, refused)) };
    // The count comes from where it is written later: the two can differ only where somebody writes meanwhile, and
    // then the first write says so.
    let scale = access.scale(deployment).await?;
    let scale = of(deployment, &scale);
    let mut refused = refused;
    if scale.replicas == 0 && object.spec.as_ref().and_then(|spec| spec.replicas) != Some(0) {
        refused.push(refusals::nothing_to_take_down(deployment));
    }
    Ok((Some(scale), refused))
}

/// What a scale says; the count is left out of it where it is 0.
fn of(deployment: &ObjectName, scale: &ScaleObject) -> Scale {
    Scale {
        deployment: deployment.clone(),
        uid: scale.metadata.uid.clone().unwrap_or_default(),
        replicas: count(scale),
    }
}

/// The count that is asked for; it is left out where it is 0, never where it is 1.
fn count(scale: &ScaleObject) -> i32 {
    scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0)
}

/// What to do about a scale as it is now.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Write,
    Nothing,
    Leave(String),
}

impl Scale {
    pub(in crate::cluster) fn object(&self) -> String {
        format!("deployments/scale {}", self.deployment)
    }

    pub(in crate::cluster) fn words(&self) -> String {
        format!("scale Deployment {} from {} to 0", self.deployment, pods(self.replicas))
    }

    pub(in crate::cluster) fn undo_words(&self) -> String {
        format!("scale Deployment {} back to {}", self.deployment, pods(self.replicas))
    }

    pub(in crate::cluster) fn undo_command(&self, kubectl: &Kubectl) -> String {
        let (name, replicas) = (&self.deployment.name, self.replicas);
        let line = format!("scale deployment/{name} --current-replicas=0 --replicas={replicas}");
        kubectl.line(&self.deployment.namespace, line)
    }

    /// Before the fault: only the count that was recorded is taken to 0.
    fn before(&self, scale: &ScaleObject) -> Step {
        match (self.is_same(scale), count(scale)) {
            (false, _) => Step::Leave("another Deployment of this name".to_owned()),
            (true, count) if count == self.replicas => Step::Write,
            (true, count) => Step::Leave(pods(count)),
        }
    }

    /// After it: only a count that is still 0 is ours to undo.
    fn after(&self, scale: &ScaleObject) -> Step {
        match (self.is_same(scale), count(scale)) {
            (false, _) => Step::Leave("another Deployment of this name".to_owned()),
            (true, 0) => Step::Write,
            (true, count) if count == self.replicas => Step::Nothing,
            (true, count) => Step::Leave(pods(count)),
        }
    }

    fn is_same(&self, scale: &ScaleObject) -> bool {
        scale.metadata.uid.as_deref() == Some(&self.uid)
    }

    pub(in crate::cluster) async fn rehearse(&self, access: &Access) -> Result<(), CallError> {
        let scale = access.scale(&self.deployment).await?;
        let version = scale.metadata.resource_version.as_deref().unwrap_or_default();
        access.rehearse_scale(&self.deployment, 0, version).await.map(|_| ())
    }

    pub(in crate::cluster) async fn apply(&self, access: &Access) -> Result<Applied, MutationError> {
        let mut unsure = false;
        let applied = self.try_apply(access, &mut unsure).await;
        applied.map_err(|error| if unsure { error.after_a_write_to(self.object()) } else { error })
    }

    /// `unsure` once a write was not answered.
    async fn try_apply(&self, access: &Access, unsure: &mut bool) -> Result<Applied, MutationError> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let scale = access.scale(&self.deployment).await?;
            if let Step::Leave(saw) = self.before(&scale) {
                // A write that was not answered came through, however late: nobody else would set 0.
                if *unsure && self.after(&scale) == Step::Write {
                    return Ok(applied(&scale));
                }
                return Err(MutationError::Changed {
                    object: self.object(),
                    expected: pods(self.replicas),
                    saw,
                });
            }
            match self.write(access, 0, &scale).await {
                Ok(scale) => return Ok(applied(&scale)),
                // Any change of the Deployment, its status included, has this answer. What follows looks again.
                Err(error) if error.is_conflict() || error.is_outcome_unknown() => {
                    *unsure |= error.is_outcome_unknown();
                    last = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(last.expect("each of several attempts has failed").into())
    }

    pub(in crate::cluster) async fn undo(&self, access: &Access) -> Result<Undone, CallError> {
        let mut last = None;
        let mut sent = false;
        for _ in 0..ATTEMPTS {
            let Some(scale) = found(access.scale(&self.deployment).await)? else {
                return Ok(Undone::LeftAlone { saw: "the Deployment is gone".to_owned() });
            };
            match self.after(&scale) {
                Step::Nothing if sent => return Ok(Undone::Now),
                Step::Nothing => return Ok(Undone::Before),
                Step::Leave(saw) => return Ok(Undone::LeftAlone { saw }),
                Step::Write => match self.write(access, self.replicas, &scale).await {
                    Ok(kept) if self.after(&kept) != Step::Write => return Ok(Undone::Now),
                    // Whoever is asked about writes may have made something else of it.
                    Ok(kept) => last = Some(self.not_kept(&kept)),
                    Err(error) if error.is_conflict() || error.is_outcome_unknown() => {
                        sent |= error.is_outcome_unknown();
                        last = Some(error);
                    }
                    Err(error) => return Err(error),
                },
            }
        }
        Err(last.expect("each of several attempts has failed"))
    }

    fn not_kept(&self, kept: &ScaleObject) -> CallError {
        CallError {
            verb: Verb::Patch,
            target: Target::scale(&self.deployment),
            failure: Failure::NotKept(pods(count(kept))),
        }
    }

    async fn write(
        &self,
        access: &Access,
        replicas: i32,
        read: &ScaleObject,
    ) -> Result<ScaleObject, CallError> {
        let version = read.metadata.resource_version.as_deref().unwrap_or_default();
        access.set_scale(&self.deployment, replicas, version).await
    }

    pub(in crate::cluster) async fn read_back(&self, access: &Access) -> Result<ReadBack, CallError> {
        let Some(scale) = found(access.scale(&self.deployment).await)? else {
            return Ok(ReadBack::Other { saw: "the Deployment is gone".to_owned() });
        };
        Ok(match self.after(&scale) {
            Step::Write => ReadBack::Done,
            Step::Nothing => ReadBack::Undone,
            Step::Leave(saw) => ReadBack::Other { saw },
        })
    }
}

impl Scale {
    /// That it is to have no pod, where that is so now, in words.
    pub(in crate::cluster) async fn is_down(&self, access: &Access) -> Result<Option<String>, CallError> {
        let Some(scale) = found(access.scale(&self.deployment).await)? else {
            return Ok(Some("the Deployment is gone".to_owned()));
        };
        Ok((count(&scale) == 0).then(|| pods(0)))
    }

    /// Who set the count that is there now, as far as the API knows; nobody did where the Deployment is another one.
    pub(in crate::cluster) async fn changed_by(&self, access: &Access) -> Option<String> {
        let object = access.get::<Deployment>(&self.deployment).await.ok()?;
        let is_same = object.metadata.uid.as_deref() == Some(&self.uid);
        let last = is_same.then(|| owners::last_of(&object.metadata, &["spec", "replicas"])).flatten();
        last.map(|owner| owner.manager).filter(|name| !name.is_empty())
    }
}

fn applied(scale: &ScaleObject) -> Applied {
    Applied {
        uid: scale.metadata.uid.clone().unwrap_or_default(),
        resource_version: scale.metadata.resource_version.clone().unwrap_or_default(),
    }
}

fn pods(count: i32) -> String {
    if count == 1 { "1 pod".to_owned() } else { format!("{count} pods") }
}

#[cfg(test)]
mod tests {
    use super::{Scale, ScaleObject, Step};
    use crate::cluster::mutation::Kubectl;
    use crate::environment::ObjectName;

    fn recorded() -> Scale {
        Scale { deployment: ObjectName::new("ml", "vllm"), uid: "u1".into(), replicas: 2 }
    }

    fn scale(uid: &str, spec: serde_json::Value) -> ScaleObject {
        serde_json::from_value(serde_json::json!({ "metadata": { "uid": uid }, "spec": spec })).unwrap()
    }

    #[test]
    fn only_the_recorded_count_is_taken_down() {
        let recorded = recorded();
        assert_eq!(recorded.before(&scale("u1", serde_json::json!({ "replicas": 2 }))), Step::Write);
        for (uid, spec) in [
            ("u1", serde_json::json!({ "replicas": 3 })),
            ("u1", serde_json::json!({})),
            ("u2", serde_json::json!({ "replicas": 2 })),
        ] {
            assert!(matches!(recorded.before(&scale(uid, spec)), Step::Leave(_)));
        }
    }

    #[test]
    fn only_what_is_still_0_is_scaled_back() {
        let recorded = recorded();
        // A count of 0 is left out of the object.
        assert_eq!(recorded.after(&scale("u1", serde_json::json!({}))), Step::Write);
        assert_eq!(recorded.after(&scale("u1", serde_json::json!({ "replicas": 2 }))), Step::Nothing);
        let left = recorded.after(&scale("u1", serde_json::json!({ "replicas": 1 })));
        assert_eq!(left, Step::Leave("1 pod".into()));
        let other = recorded.after(&scale("u2", serde_json::json!({})));
        assert_eq!(other, Step::Leave("another Deployment of this name".into()));
    }

    #[test]
    fn a_person_can_undo_it_without_harm() {
        assert_eq!(
            recorded().undo_command(&Kubectl::new(Some("home"))),
            "kubectl --context home -n ml scale deployment/vllm --current-replicas=0 --replicas=2"
        );
    }

    proptest::proptest! {
        #[test]
        fn a_write_is_made_only_where_nobody_else_has_been(uid in "u[12]", count in 0..4_i32, was in 1..4_i32) {
            let recorded = Scale { replicas: was, ..recorded() };
            let spec = if count == 0 { serde_json::json!({}) } else { serde_json::json!({ "replicas": count }) };
            let now = scale(&uid, spec);
            let same = uid == "u1";
            proptest::prop_assert_eq!(recorded.before(&now) == Step::Write, same && count == was);
            proptest::prop_assert_eq!(recorded.after(&now) == Step::Write, same && count == 0);
            proptest::prop_assert_eq!(recorded.after(&now) == Step::Nothing, same && count == was);
        }
    }
}

//! What must hold of the part of an environment file that is about openclaw.

use super::cluster::World;
use crate::environment::Openclaw;
use crate::environment::cluster::{CONFIG_PATH, is_dns_label};
use crate::environment::written::OpenclawWritten;
use crate::input::at::{At, Key};
use crate::input::checker::Checker;

/// Linux takes no longer path.
const PATH_BYTES: usize = 4095;

/// Where openclaw is; `None` where the file does not say, or something is wrong with it.
pub(super) fn openclaw(
    check: &mut Checker<'_>,
    written: &Key<At<OpenclawWritten>>,
    world: &World<'_>,
) -> Option<Openclaw> {
    world.no_cluster(check, "openclaw", written.place());
    let World::Cluster { .. } = world else { return None };
    let written = &written.there()?.value;
    let deployment = world.object(check, "deployment", &written.deployment);
    let secret = world.object(check, "secret", &written.secret);
    let container = written.container.there();
    if let Some(container) = container.filter(|container| !is_dns_label(&container.value)) {
        check.problem(
            container.place,
            "this is not the name of a container",
            "use lower-case letters, digits and hyphens, at most 63 of them, or leave it out",
        );
    }
    let config = match &written.config {
        Key::Absent => Some(CONFIG_PATH.to_owned()),
        Key::Broken => None,
        Key::There(config) => {
            let path = &config.value;
            let strange = path.chars().any(char::is_control) || path.len() > PATH_BYTES;
            if !path.starts_with('/') || path.ends_with('/') || strange {
                check.problem(
                    config.place,
                    "this is not the path of a file in the container",
                    format!("write the whole path, like `{CONFIG_PATH}`"),
                );
            }
            Some(path.clone())
        }
    };
    Some(Openclaw {
        deployment: deployment?,
        container: container.map(|container| container.value.clone()),
        config: config?,
        secret: secret?,
    })
}

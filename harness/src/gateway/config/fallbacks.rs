//! Lists of fallbacks in a LiteLLM file: their shape, the groups that they name, and circles.

use std::collections::{BTreeMap, BTreeSet};

use super::values::Reader;
use crate::input::at::At;
use crate::input::problem::Place;
use crate::input::tree::{Content, Node};

/// Stands for every group.
const ANY: &str = "*";
/// A longer circle is not told whole.
const CIRCLE_SHOWN: usize = 10;

/// What fallbacks can name.
pub(super) struct Known {
    /// Groups, and ids of deployments.
    pub(super) names: BTreeSet<String>,
    /// What `litellm_params.model` says of each deployment, which LiteLLM takes too.
    pub(super) models: BTreeSet<String>,
}

/// `None` where the list of models could not be read whole.
pub(super) type Groups = Option<Known>;

const SHAPE: &str = "write `- cloud-kimi: [vllm-qwen]`, one group on each line";

/// Checks a value like `[{ "cloud-kimi": ["vllm-qwen"] }]`.
pub(super) fn lists(reader: &mut Reader<'_, '_>, key: &str, node: &Node, groups: &Groups) {
    if node.is_null() {
        return;
    }
    let Some(items) = reader.list(key, node, SHAPE) else { return };
    let mut chains = Chains::default();
    for item in items {
        let entries = match &item.content {
            Content::Mapping(entries) => entries,
            Content::Broken => continue,
            Content::Scalar(_) | Content::List(_) => {
                let message = format!("an entry of `{key}` is one group with its list, not {}", item.kind());
                reader.check.problem(item.place, &message, SHAPE);
                continue;
            }
        };
        if entries.len() != 1 {
            let count =
                if entries.is_empty() { "no group".to_owned() } else { format!("{} groups", entries.len()) };
            let message = format!("an entry of `{key}` has {count}; LiteLLM takes one");
            reader.check.problem(item.place, &message, SHAPE);
        }
        for entry in entries {
            // As a target it would be the name of a group.
            if entry.key.value != ANY {
                known_group(reader, &entry.key, groups);
            }
            let targets = targets(reader, &entry.key.value, &entry.key.value, &entry.value, groups);
            if let Some(first) = chains.add(&entry.key, targets) {
                let group = &entry.key.value;
                reader.check.problem(
                    entry.key.place,
                    &format!("the fallbacks of `{group}` are already on line {}", first.line),
                    "LiteLLM takes the first list only: keep one of the two",
                );
            }
        }
    }
    chains.circles(reader);
}

/// Checks a value like `["vllm-qwen"]`, for whatever group fails.
pub(super) fn default_list(reader: &mut Reader<'_, '_>, node: &Node, groups: &Groups) {
    if !node.is_null() {
        targets(reader, "default_fallbacks", ANY, node, groups);
    }
}

/// The groups that take over from `group`, written at `key`.
fn targets(
    reader: &mut Reader<'_, '_>,
    key: &str,
    group: &str,
    node: &Node,
    groups: &Groups,
) -> Vec<At<String>> {
    let Some(items) = reader.list(key, node, "write `[vllm-qwen, ollama-qwen]`") else {
        return Vec::new();
    };
    if items.is_empty() && group != ANY {
        reader.check.warning(
            node.place,
            &format!(
                "nothing takes over from `{group}`: its list is empty, and default fallbacks do not count"
            ),
            "name the groups that take over from it, or leave it out",
        );
    }
    let targets: Vec<At<String>> = items.iter().filter_map(|item| target(reader, item, groups)).collect();
    for target in &targets {
        if target.value == group {
            reader.check.problem(
                target.place,
                &format!("`{group}` cannot be its own fallback"),
                "name only the groups that take over from it",
            );
        } else {
            known_target(reader, target, groups);
        }
    }
    let others = targets.iter().filter(|target| target.value != group);
    reader.check.no_repeats("fallback", others.map(|target| (target.value.as_str(), target.place)));
    targets
}

/// The group that an entry of a list names. A mapping with more than its `model` asks for that in another way, so that
/// it may name any group again: only the name itself is checked.
fn target(reader: &mut Reader<'_, '_>, item: &Node, groups: &Groups) -> Option<At<String>> {
    let Content::Mapping(entries) = &item.content else { return reader.text("fallback", item) };
    if entries.is_empty() {
        reader.wrong(item, "`fallback` is a name", "write a name");
        return None;
    }
    let message = "the mock gateway takes names only as fallbacks";
    reader.not_of_the_mock(item.place, message, "use `--gateway litellm`, or write the name alone");
    let model = item.get("model")?;
    let name = reader.text("model", model)?;
    if entries.len() == 1 {
        return Some(name);
    }
    known_target(reader, &name, groups);
    None
}

/// Notes a group, id or model that is not there.
fn known_target(reader: &mut Reader<'_, '_>, name: &At<String>, groups: &Groups) {
    if !groups.as_ref().is_some_and(|known| known.models.contains(&name.value)) {
        known_group(reader, name, groups);
    }
}

/// Notes a group that is not there.
pub(super) fn known_group(reader: &mut Reader<'_, '_>, name: &At<String>, groups: &Groups) {
    let names = groups.as_ref().map(|known| &known.names);
    if let Some(known) = names.filter(|known| !known.contains(&name.value)) {
        reader.check.unknown("group", name, known.iter().map(String::as_str));
    }
}

/// Who falls back to whom.
#[derive(Default)]
struct Chains {
    targets: BTreeMap<String, (Place, Vec<At<String>>)>,
}

impl Chains {
    /// The place of an earlier list of the same group, which counts.
    fn add(&mut self, group: &At<String>, targets: Vec<At<String>>) -> Option<Place> {
        if let Some((first, _)) = self.targets.get(&group.value) {
            return Some(*first);
        }
        self.targets.insert(group.value.clone(), (group.place, targets));
        None
    }

    /// Notes every way back to a group that a chain came through.
    fn circles(&self, reader: &mut Reader<'_, '_>) {
        let mut done: BTreeSet<&str> = BTreeSet::new();
        for start in self.targets.keys() {
            // The way from the start to here, with the next target of each to look at.
            let mut way: Vec<(&str, usize)> = vec![(start, 0)];
            let mut on_way: BTreeSet<&str> = BTreeSet::from([start.as_str()]);
            while let Some((group, next)) = way.last_mut() {
                let own = self.targets.get(*group).map_or(&[][..], |(_, targets)| targets);
                let target = own.get(*next).filter(|_| !done.contains(*group));
                let Some(target) = target else {
                    done.insert(*group);
                    on_way.remove(*group);
                    way.pop();
                    continue;
                };
                *next += 1;
                let itself = target.value == *group;
                if on_way.contains(target.value.as_str()) {
                    if !itself {
                        Self::circle(reader, &way, target);
                    }
                } else if !done.contains(target.value.as_str()) {
                    on_way.insert(&target.value);
                    way.push((&target.value, 0));
                }
            }
        }
    }

    fn circle(reader: &mut Reader<'_, '_>, way: &[(&str, usize)], back: &At<String>) {
        let names = way.iter().map(|(group, _)| *group).skip_while(|group| *group != back.value);
        let names: Vec<&str> = names.collect();
        let shown = names.iter().take(CIRCLE_SHOWN).copied().collect::<Vec<_>>().join(" -> ");
        let more = if names.len() > CIRCLE_SHOWN { " -> ..." } else { "" };
        reader.check.problem(
            back.place,
            &format!("fallbacks go round in a circle: {shown}{more} -> {}", back.value),
            format!(
                "LiteLLM tries no group twice, so the chain ends here: take `{}` out of this list",
                back.value
            ),
        );
    }
}

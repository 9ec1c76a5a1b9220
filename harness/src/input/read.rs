//! From the tree to what a file says. Whatever has the wrong shape is said and left out, and the rest is read on.

use super::at::{At, Entries, FromText, Items, Key, Text};
use super::checker::{Checker, MISSPELT, nearest, nearest_of};
use super::problem::Place;
use super::tree::{Content, Node, Scalar};

/// Something that can stand in a file.
pub(crate) trait Read: Sized {
    /// The value; `None` where it cannot be read, which has been said.
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self>;
}

impl<T: Read> Read for At<T> {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        T::read(node, check).map(|value| Self { value, place: node.place })
    }
}

impl Read for String {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let scalar = check.scalar(node, "text")?;
        if scalar.truth().is_some() || scalar.is_number() {
            let hint = format!("put it in quotes: `\"{}\"`", scalar.text);
            check.problem(node.place, &format!("expected text, found {}", node.kind()), hint);
            return None;
        }
        Some(scalar.text.clone())
    }
}

impl Read for bool {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let scalar = check.scalar(node, "`true` or `false`")?;
        if scalar.truth().is_none() {
            let hint = if scalar.plain { "write `true` or `false`" } else { "leave the quotes out" };
            check.problem(node.place, "this is not `true` or `false`", hint);
        }
        scalar.truth()
    }
}

impl<T: FromText> Read for Text<T> {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let scalar = check.scalar(node, "a single value")?;
        if T::NUMBER && !scalar.plain {
            check.problem(node.place, "expected a number, found text", "leave the quotes out");
            return None;
        }
        Some(Self::new(scalar.text.clone()))
    }
}

impl<T: Read> Read for Items<T> {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let Content::List(list) = &node.content else {
            let hint = match &node.content {
                Content::Mapping(_) => "begin each entry with `- `",
                Content::Scalar(_) | Content::List(_) | Content::Broken => {
                    "write `[a, b]`, or one `- a` on each line"
                }
            };
            check.wrong_kind(node, "a list", hint);
            return None;
        };
        let items: Vec<T> = list.iter().filter_map(|item| T::read(item, check)).collect();
        Some(Self { complete: items.len() == list.len(), empty: list.is_empty(), items })
    }
}

impl<V: Read> Read for Entries<V> {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let entries = check.mapping(node)?;
        Some(Self(entries.iter().map(|entry| (entry.key.clone(), V::read(&entry.value, check))).collect()))
    }
}

/// A mapping whose keys are known.
pub(crate) struct Keys<'n> {
    place: Place,
    found: Vec<(&'static str, &'n Node)>,
}

impl Keys<'_> {
    /// The value of a key that must be there, like in `example`.
    pub(crate) fn required<T: Read>(&self, check: &mut Checker<'_>, key: &str, example: &str) -> Key<T> {
        match self.optional(check, key) {
            Key::Absent => {
                check.problem(self.place, &format!("`{key}` is missing here"), format!("add `{example}`"));
                Key::Broken
            }
            value => value,
        }
    }

    /// The value of a key that may be there.
    pub(crate) fn optional<T: Read>(&self, check: &mut Checker<'_>, key: &str) -> Key<T> {
        match self.found.iter().find(|(name, _)| *name == key) {
            None => Key::Absent,
            Some((_, node)) => T::read(node, check).map_or(Key::Broken, Key::There),
        }
    }
}

impl Checker<'_> {
    /// A mapping that has only `known` keys. A misspelt key is said, and read as the one that is meant.
    pub(crate) fn keys<'n>(&mut self, node: &'n Node, known: &[&'static str]) -> Option<Keys<'n>> {
        let entries = self.mapping(node)?;
        let mut found: Vec<(&'static str, &'n Node)> = Vec::new();
        let mut strange = Vec::new();
        for entry in entries {
            match known.iter().find(|name| **name == entry.key.value) {
                Some(name) => found.push((name, &entry.value)),
                None => strange.push(entry),
            }
        }
        for entry in strange {
            let key = &entry.key;
            let (message, hint) = self.words_for_key(&key.value).unwrap_or_else(|| {
                let hint = nearest_of("key", &key.value, known.iter().copied());
                (format!("unknown key `{}`", key.value), hint)
            });
            self.problem(key.place, &message, hint);
            let absent = known.iter().filter(|name| found.iter().all(|(found, _)| found != *name));
            if let Some(meant) = nearest(&key.value, absent.copied(), MISSPELT) {
                found.push((meant, &entry.value));
            }
        }
        Some(Keys { place: node.place, found })
    }

    /// The entries of a mapping.
    pub(crate) fn mapping<'n>(&mut self, node: &'n Node) -> Option<&'n [super::tree::Entry]> {
        if let Content::Mapping(entries) = &node.content {
            return Some(entries);
        }
        self.wrong_kind(node, "a mapping (`key: value`)", "write `key: value` pairs");
        None
    }

    /// A scalar that says something.
    pub(crate) fn scalar<'n>(&mut self, node: &'n Node, expected: &str) -> Option<&'n Scalar> {
        if let Content::Scalar(scalar) = &node.content
            && !scalar.is_null()
        {
            return Some(scalar);
        }
        self.wrong_kind(node, expected, "write a single value");
        None
    }

    /// A value of the wrong kind, which is not shown since it may be anything.
    pub(crate) fn wrong_kind(&mut self, node: &Node, expected: &str, hint: &str) {
        if node.is_null() {
            self.problem(node.place, "the value is empty", "write a value, or leave the key out");
        } else if !matches!(node.content, Content::Broken) {
            self.problem(node.place, &format!("expected {expected}, found {}", node.kind()), hint);
        }
    }
}

//! From the tree to what a file says. Whatever has the wrong shape is said and left out, and the rest is read on.

use super::at::{At, Entries, FromText, Items, Key, Text};
use super::checker::{Checker, MISSPELT, nearest};
use super::problem::Place;
use super::tree::{Content, Entry, Node, Scalar};

/// Something that can stand in a file.
pub(crate) trait Read: Sized {
    /// The keys of a mapping that has no others.
    const KEYS: &'static [&'static str] = &[];
    /// The value; `None` where it cannot be read, which has been said.
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self>;
}

impl<T: Read> Read for At<T> {
    const KEYS: &'static [&'static str] = T::KEYS;
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        T::read(node, check).map(|value| Self { value, place: node.place })
    }
}

impl Read for String {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let scalar = check.scalar(node, "text")?;
        if scalar.truth().is_some() || scalar.is_number() {
            let message = format!("{} is text, not {}", check.subject(), node.kind());
            check.problem(node.place, &message, format!("put it in quotes: `\"{}\"`", scalar.text));
            return None;
        }
        Some(scalar.text.clone())
    }
}

impl Read for bool {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let scalar = check.scalar(node, "`true` or `false`")?;
        if scalar.truth().is_none() {
            let quoted = !scalar.plain && matches!(scalar.text.as_str(), "true" | "false");
            let hint = if quoted { "leave the quotes out" } else { "write `true` or `false`" };
            check.problem(node.place, &format!("{} is `true` or `false`, not text", check.subject()), hint);
        }
        scalar.truth()
    }
}

impl<T: FromText> Read for Text<T> {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let scalar = check.scalar(node, "a single value")?;
        if T::NUMBER && !scalar.plain {
            let message = format!("{} is a number, not text", check.subject());
            check.problem(node.place, &message, "leave the quotes out");
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
        let subject = format!("an entry of {}", check.subject());
        let items: Vec<T> =
            check.part(subject, |check| list.iter().filter_map(|item| T::read(item, check)).collect());
        Some(Self { complete: items.len() == list.len(), empty: list.is_empty(), items })
    }
}

impl<V: Read> Read for Entries<V> {
    fn read(node: &Node, check: &mut Checker<'_>) -> Option<Self> {
        let mut read = Vec::new();
        // The last entry, where it is empty, with whether what should stand in it is beside it.
        let mut empty: Option<(&Entry, bool)> = None;
        for entry in check.mapping(node)? {
            if let Some((above, said)) = &mut empty
                && V::KEYS.contains(&entry.key.value.as_str())
                && is_below(entry, above)
            {
                if !*said {
                    check.not_indented(entry, &above.key.value);
                }
                *said = true;
                continue;
            }
            check.read_entry(empty.take(), &mut read);
            if entry.value.is_null() {
                empty = Some((entry, false));
            } else {
                check.read_entry(Some((entry, false)), &mut read);
            }
        }
        check.read_entry(empty, &mut read);
        Some(Self(read))
    }
}

/// Keys that have mappings as their values, in files of any kind.
const MAPPINGS: [&str; 8] =
    ["ceilings", "components", "embedded", "expect", "gateway", "key", "recover", "routes"];

/// Whether an entry stands in a line below another with the same indentation.
fn is_below(entry: &Entry, above: &Entry) -> bool {
    let (own, other) = (entry.key.place, above.key.place);
    own.column == other.column && own.line > other.line
}

/// What the files of each kind begin with, and how a person gives one.
const KINDS: [(&str, &str, &str); 3] = [
    ("scenario", "a scenario", "name it among the scenario files"),
    ("environment", "an environment", "give it with `--env FILE`"),
    ("model_list", "a configuration of LiteLLM", "give it with `--litellm-config FILE`"),
];

/// A mapping whose keys are known.
pub(crate) struct Keys<'n> {
    place: Place,
    found: Vec<(&'static str, &'n Node)>,
    /// What should stand in these stands beside them; that has been said.
    broken: Vec<&'static str>,
    /// It has keys that mean nothing, also not when misspelt; that has been said.
    pub(crate) strange: bool,
}

impl Keys<'_> {
    /// The value of a key that must be there, like in `example`.
    pub(crate) fn required<T: Read>(&self, check: &mut Checker<'_>, key: &str, example: &str) -> Key<T> {
        if self.broken.contains(&key) {
            return Key::Broken;
        }
        let node = self.found.iter().find(|(name, _)| *name == key).map(|(_, node)| node);
        if node.is_some_and(|node| !node.is_null()) {
            return self.optional(check, key);
        }
        match node {
            Some(node) => {
                let hint = format!("write it like `{example}`");
                check.problem(node.place, &format!("`{key}` is empty"), hint);
            }
            None => {
                check.problem(self.place, &format!("`{key}` is missing here"), format!("add `{example}`"));
            }
        }
        Key::Broken
    }

    /// The value of a key that may be there.
    pub(crate) fn optional<T: Read>(&self, check: &mut Checker<'_>, key: &str) -> Key<T> {
        match self.found.iter().find(|(name, _)| *name == key) {
            _ if self.broken.contains(&key) => Key::Broken,
            None => Key::Absent,
            Some((_, node)) => {
                check.part(format!("`{key}`"), |check| T::read(node, check)).map_or(Key::Broken, Key::There)
            }
        }
    }
}

impl Checker<'_> {
    /// Whether the file is of another kind than the one that has a key of `own`; that is one mistake, and said here.
    pub(crate) fn is_another_kind(&mut self, root: &Node, own: &[&str]) -> bool {
        if own.iter().any(|key| root.get(key).is_some()) {
            return false;
        }
        let kind = KINDS.iter().find_map(|(key, kind, hint)| Some((root.entry(key)?.key.place, kind, *hint)));
        let Some((place, kind, hint)) = kind else { return false };
        self.problem(place, &format!("this file is {kind}"), hint);
        true
    }

    /// A mapping that has only `known` keys. A misspelt key is said, and read as the one that is meant.
    pub(crate) fn keys<'n>(&mut self, node: &'n Node, known: &[&'static str]) -> Option<Keys<'n>> {
        let entries = self.mapping(node)?;
        let mut found: Vec<(&'static str, &'n Node)> = Vec::new();
        let (mut strange, mut broken, mut unmeant) = (Vec::new(), Vec::new(), false);
        // The mapping just above, where it is empty.
        let mut empty: Option<(&'static str, &Entry)> = None;
        for entry in entries {
            if let Some(name) = known.iter().find(|name| **name == entry.key.value) {
                found.push((name, &entry.value));
                let is_empty = entry.value.is_null() && MAPPINGS.contains(name);
                empty = is_empty.then_some((*name, entry));
            } else if let Some((name, above)) = empty
                && is_below(entry, above)
                && nearest(&entry.key.value, known.iter().copied(), MISSPELT).is_none()
            {
                if !broken.contains(&name) {
                    self.not_indented(entry, name);
                    broken.push(name);
                }
            } else {
                strange.push(entry);
                empty = None;
            }
        }
        for entry in strange {
            let key = &entry.key;
            let (message, hint) = self.words_for_key(&key.value).unwrap_or_else(|| {
                let hint = self.hint("key", &key.value, known.iter().copied());
                (format!("unknown key `{}`", key.value), hint)
            });
            self.problem(key.place, &message, hint);
            let absent = known.iter().filter(|name| found.iter().all(|(found, _)| found != *name));
            match nearest(&key.value, absent.copied(), MISSPELT) {
                Some(meant) => found.push((meant, &entry.value)),
                None => unmeant = true,
            }
        }
        Some(Keys { place: node.place, found, broken, strange: unmeant })
    }

    /// Reads an entry of a mapping with free keys; nothing of one whose inside stands beside it.
    fn read_entry<V: Read>(
        &mut self,
        entry: Option<(&Entry, bool)>,
        read: &mut Vec<(At<String>, Option<V>)>,
    ) {
        let Some((entry, beside)) = entry else { return };
        let subject = format!("`{}`", entry.key.value);
        let value = if beside { None } else { self.part(subject, |check| V::read(&entry.value, check)) };
        read.push((entry.key.clone(), value));
    }

    /// Notes what evidently belongs into the empty mapping above it.
    fn not_indented(&mut self, entry: &Entry, above: &str) {
        let message = format!("`{}` is not indented, so it does not belong to `{above}`", entry.key.value);
        let hint = format!("put two more blanks in front of each line that belongs to `{above}`");
        self.problem(entry.key.place, &message, hint);
    }

    /// The entries of a mapping.
    pub(crate) fn mapping<'n>(&mut self, node: &'n Node) -> Option<&'n [Entry]> {
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
            let message = format!("{} is empty", self.subject());
            self.problem(node.place, &message, "write a value, or leave it out");
        } else if !matches!(node.content, Content::Broken) {
            let message = format!("{} is {expected}, not {}", self.subject(), node.kind());
            self.problem(node.place, &message, hint);
        }
    }
}

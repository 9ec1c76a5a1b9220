//! From YAML text to the tree. Anchors, aliases and merge keys are resolved here, within limits that no honest file
//! comes near.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use granit_parser::{Event, Options, Parser, ScalarStyle, Span, StrInput, StructureStyle, Tag};

use super::at::At;
use super::checker::Checker;
use super::files::MAX_BYTES;
use super::problem::Place;
use super::tree::{Content, Entry, Node, Scalar};
use super::yaml;

/// Limits far above any honest file and far below what hurts; they hold with every alias written out.
const DEPTH_MAX: usize = 64;
const NODES_MAX: usize = 50_000;

/// Reading stops here: what follows cannot be made sense of.
pub(super) struct Stop {
    pub(super) place: Place,
    pub(super) message: String,
    pub(super) hint: String,
}

impl Stop {
    fn beyond(place: Place) -> Self {
        Self {
            place,
            message: "more than this program reads: too deep, too many values, or too many aliases"
                .to_owned(),
            hint: "write it with less nesting, fewer anchors (`&name`) and aliases (`*name`)".to_owned(),
        }
    }
}

/// The tree of the checker's file; `None` where there is none, which has been said. `beginning` says what to write
/// in an empty one.
pub(crate) fn parse(check: &mut Checker<'_>, beginning: &str) -> Option<Node> {
    let text = check.text();
    let mut composer = Composer {
        events: Parser::new_from_str_with_options(text, options()),
        check,
        anchors: BTreeMap::new(),
        names: Vec::new(),
        nodes: 0,
        bytes: 0,
        strange_blanks: None,
    };
    let result = composer.document();
    let strange_blanks = composer.strange_blanks.is_some();
    match result {
        // Nothing stands where it seems to, so whatever else there is to say comes from this.
        _ if strange_blanks => {
            check.hide_unknown();
            None
        }
        Ok(Some(node)) if !node.is_null() => Some(node),
        Ok(_) => {
            check.whole("the file is empty", beginning);
            None
        }
        Err(stop) => {
            check.hide_unknown();
            check.problem(stop.place, &stop.message, stop.hint);
            None
        }
    }
}

fn options() -> Options {
    let mut options = Options::default();
    options.flow_nesting_limit = DEPTH_MAX + 1;
    options.block_nesting_limit = DEPTH_MAX + 1;
    options.emit_unresolved_aliases = true;
    options.emit_anchor_events = true;
    options.set_emit_comments(false);
    options
}

/// What an alias stands for, and what it costs to write it out.
struct Anchored {
    node: Node,
    size: Size,
}

#[derive(Clone, Copy, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

impl Size {
    fn of(node: &Node) -> Self {
        let inside = match &node.content {
            Content::Scalar(scalar) => Self { nodes: 0, bytes: scalar.text.len(), depth: 0 },
            Content::List(items) => items.iter().map(Self::of).fold(Self::default(), Self::with),
            Content::Mapping(entries) => entries.iter().fold(Self::default(), |size, entry| {
                let key = Self { nodes: 1, bytes: entry.key.value.len(), depth: 0 };
                size.with(key).with(Self::of(&entry.value))
            }),
            Content::Broken => Self::default(),
        };
        Self { nodes: inside.nodes + 1, bytes: inside.bytes, depth: inside.depth + 1 }
    }

    fn with(self, other: Self) -> Self {
        Self {
            nodes: self.nodes + other.nodes,
            bytes: self.bytes + other.bytes,
            depth: self.depth.max(other.depth),
        }
    }
}

struct Composer<'a, 'c> {
    events: Parser<'a, StrInput<'a>>,
    check: &'c mut Checker<'a>,
    anchors: BTreeMap<usize, Rc<Anchored>>,
    /// Of anchors, for whoever misspells one.
    names: Vec<String>,
    nodes: usize,
    bytes: usize,
    /// The last line with a blank that YAML takes for a letter where it should not; that has been said.
    strange_blanks: Option<usize>,
}

impl<'a> Composer<'a, '_> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Stop> {
        loop {
            match self.events.next_event() {
                Some(Ok((Event::Anchor(_, name), _))) => self.names.push(name.into_owned()),
                Some(Ok(event)) => return Ok(event),
                Some(Err(error)) => return Err(yaml::explain(&error, self.check.text())),
                None => return Ok((Event::StreamEnd, Span::default())),
            }
        }
    }

    /// The first document; says so if there are more.
    fn document(&mut self) -> Result<Option<Node>, Stop> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    self.check.problem(
                        place_of(span),
                        "more than one document in a file",
                        "give each its own file, without `---` between them",
                    );
                    return Ok(root);
                }
                Event::DocumentStart(..) => {
                    let (event, span) = self.next()?;
                    root = Some(self.node(event, span, 1)?);
                }
                _ => return Ok(root),
            }
        }
    }

    /// The value that begins with `event`.
    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Stop> {
        let place = place_of(span);
        self.spend(place, Size { nodes: 1, bytes: 0, depth: 0 }, depth)?;
        let (anchor, tag, node) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.spend(place, Size { nodes: 0, bytes: text.len(), depth: 0 }, depth)?;
                let plain = style == ScalarStyle::Plain && !is_tagged_text(tag.as_deref());
                let scalar = Scalar { text: text.into_owned(), plain };
                if plain {
                    let at_its_ends = |at| at == 0 || at + 1 == scalar.text.chars().count();
                    self.strange_blank(place, &scalar.text, at_its_ends);
                }
                (anchor, tag, Node { place, content: Content::Scalar(scalar) })
            }
            Event::SequenceStart(style, anchor, tag) => (anchor, tag, self.list(place, style, depth)?),
            Event::MappingStart(style, anchor, tag) => (anchor, tag, self.mapping(place, style, depth)?),
            Event::Alias(anchor) => return self.alias(anchor, place, depth),
            Event::UnresolvedAlias(name) => {
                let names = self.names.iter().map(String::as_str);
                let hint = format!(
                    "{}; put text that begins with `*` in quotes",
                    self.check.hint("anchor", &name, names)
                );
                self.check.problem(place, "this alias (`*name`) stands for nothing above it", hint);
                return Ok(Node::broken(place));
            }
            _ => return Ok(Node::broken(place)),
        };
        // From the tag on: it may be what is meant to be hidden.
        let node = self.strange_tag(tag.as_deref(), span).map_or(node, Node::broken);
        if anchor > 0 {
            let size = Size::of(&node);
            self.anchors.insert(anchor, Rc::new(Anchored { node: node.clone(), size }));
            self.spend(place, size, 0)?;
        }
        Ok(node)
    }

    fn list(&mut self, mut place: Place, style: StructureStyle, depth: usize) -> Result<Node, Stop> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, span) => {
                    place.chars = extent(place, style, span, 1);
                    return Ok(Node { place, content: Content::List(items) });
                }
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, mut place: Place, style: StructureStyle, depth: usize) -> Result<Node, Stop> {
        let (mut entries, mut merged) = (Vec::<Entry>::new(), Vec::new());
        let mut seen = BTreeMap::new();
        let mut first_key = None;
        let end = loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break span;
            }
            let key = self.node(event, span, depth + 1)?;
            first_key = first_key.or(Some(key.place));
            if let Content::Scalar(Scalar { text, plain: true }) = &key.content {
                let within = |at| at > 0 && at + 1 < text.chars().count();
                self.strange_blank(key.place, text, within);
            }
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            let Content::Scalar(Scalar { text, plain }) = key.content else {
                if !matches!(key.content, Content::Broken) {
                    self.check.problem(key.place, "a key is a single word", "write `key: value`");
                }
                continue;
            };
            if plain && text == "<<" {
                merged.push(value);
            } else if let Some(line) = seen.get(&text) {
                let message = format!("key `{text}` is written twice, first on line {line}");
                self.check.problem(key.place, &message, "keep one of the two");
                // Which of the two is meant is not known, so nothing must be concluded from the first alone.
                let value = Node::broken(value.place);
                entries.push(Entry { key: At { value: text, place: key.place }, value });
            } else {
                seen.insert(text.clone(), key.place.line);
                entries.push(Entry { key: At { value: text, place: key.place }, value });
            }
        };
        for value in merged {
            self.merge(&mut entries, value);
        }
        if style == StructureStyle::Block
            && let Some(first) = first_key
        {
            // Where a person sees the mapping begin.
            place = first;
        }
        place.chars = extent(place, style, end, first_key.map_or(1, |first| first.chars));
        Ok(Node { place, content: Content::Mapping(entries) })
    }

    /// Adds what `<<` names and is not written in the mapping itself.
    fn merge(&mut self, entries: &mut Vec<Entry>, value: Node) {
        let place = value.place;
        let sources = match value.content {
            Content::Mapping(_) => vec![value],
            Content::List(items) => items,
            Content::Broken => return,
            Content::Scalar(_) => vec![Node { place, content: value.content }],
        };
        let mut known: BTreeSet<String> = entries.iter().map(|entry| entry.key.value.clone()).collect();
        for source in sources {
            match source.content {
                Content::Mapping(inherited) => {
                    entries
                        .extend(inherited.into_iter().filter(|entry| known.insert(entry.key.value.clone())));
                }
                Content::Broken => {}
                Content::Scalar(_) | Content::List(_) => self.check.problem(
                    source.place,
                    "`<<` takes over the keys of a mapping, and this is none",
                    "write `<<: *name` with the anchor of a mapping",
                ),
            }
        }
    }

    fn alias(&mut self, anchor: usize, place: Place, depth: usize) -> Result<Node, Stop> {
        let Some(anchored) = self.anchors.get(&anchor).map(Rc::clone) else {
            self.check.problem(
                place,
                "this alias stands for the very value it is part of",
                "write the value",
            );
            return Ok(Node::broken(place));
        };
        self.spend(place, anchored.size, depth)?;
        Ok(anchored.node.clone())
    }

    /// Counts what is kept in memory.
    fn spend(&mut self, place: Place, size: Size, depth: usize) -> Result<(), Stop> {
        self.nodes += size.nodes;
        self.bytes += size.bytes;
        let beyond = depth + size.depth > DEPTH_MAX || self.nodes > NODES_MAX || self.bytes > 2 * MAX_BYTES;
        if beyond { Err(Stop::beyond(place)) } else { Ok(()) }
    }

    /// Notes the first blank that YAML takes for a letter, among the places `wanted` in a word without quotes.
    fn strange_blank(&mut self, place: Place, text: &str, wanted: impl Fn(usize) -> bool) {
        let strange = |c: char| {
            let blank = c.is_whitespace() || matches!(c, '\u{200b}' | '\u{2060}' | '\u{feff}');
            blank && !matches!(c, ' ' | '\t' | '\r' | '\n')
        };
        let found = text.chars().enumerate().find(|(at, c)| strange(*c) && wanted(*at));
        let Some((at, c)) = found else { return };
        // Columns count from where the word begins, if it stands on one line.
        let on_one_line = place.chars == text.chars().count();
        let column = if on_one_line { place.column + at } else { place.column };
        let name = match c {
            '\u{a0}' => "a no-break space (U+00A0)".to_owned(),
            '\u{3000}' => "an ideographic space (U+3000)".to_owned(),
            _ => format!("an unusual blank (U+{:04X})", u32::from(c)),
        };
        if self.strange_blanks.replace(place.line) == Some(place.line) {
            return;
        }
        self.check.problem(
            Place { column, chars: 1, ..place },
            &format!("there is {name} here, which YAML takes for a letter"),
            "replace it by an ordinary blank",
        );
    }

    /// Where there is a tag that means nothing here: tags choose types of a program, and a value's type is given by its
    /// key.
    fn strange_tag(&mut self, tag: Option<&Tag>, span: Span) -> Option<Place> {
        tag.filter(|tag| tag.core_suffix().is_none() && !is_bare(tag))?;
        let place = place_of(span.tag_span().unwrap_or(span));
        // Not named: it may be a password that begins with `!`.
        self.check.problem(
            place,
            "this tag (`!name`) means nothing here",
            "write the value without a tag; put text that begins with `!` in quotes",
        );
        Some(place)
    }
}

/// Whether a tag says that a value is text, whatever it looks like.
fn is_tagged_text(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| tag.core_suffix() == Some("str") || is_bare(tag))
}

/// `!` alone, which only says that a value is no number.
fn is_bare(tag: &Tag) -> bool {
    tag.handle() == "!" && tag.suffix().is_empty()
}

/// The place that the parser reports; what goes over the end of a line is marked up to there.
fn place_of(span: Span) -> Place {
    let chars = if span.end.line() == span.start.line() {
        span.end.index().saturating_sub(span.start.index())
    } else {
        usize::MAX
    };
    Place { line: span.start.line(), column: span.start.col() + 1, chars }
}

/// How much of a list or mapping is marked: all of it where it is written in brackets on one line.
fn extent(place: Place, style: StructureStyle, end: Span, otherwise: usize) -> usize {
    if style == StructureStyle::Flow && end.end.line() == place.line {
        (end.end.col() + 1).saturating_sub(place.column)
    } else {
        otherwise
    }
}

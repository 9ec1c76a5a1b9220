//! `openclaw.json`: read as JSON5, and what it says of the migration.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::agents::{self, Model};
use super::words::{is_anthropic, is_key, is_model, is_variable, shown, told, variables};
use super::{ContainerSeen, Expected, Fact, Finding, KEY_VARIABLE, Leads, NO_ROUTE, PROVIDER};
use crate::verdict::result::MigrationLine;

/// No configuration is longer.
const BYTES_MAX: usize = 2 * 1024 * 1024;
/// No configuration is nested deeper.
const DEPTH_MAX: usize = 100;
/// Parts in which the word stands for a plugin, which is loaded anyhow, or for what the file itself is.
const NOT_OF_THE_CHAIN: [&str; 3] = ["plugins", "$schema", "meta"];
/// Keys that openclaw 2026.9.6 refuses, and earlier versions had.
const REMOVED: [(&str, &str); 2] =
    [("/auth/cooldowns", "auth.cooldowns"), ("/agents/defaults/llm", "agents.defaults.llm")];

/// A configuration of openclaw. It may hold keys, so it is never shown.
pub struct OpenclawConfig {
    value: Value,
    /// What names Anthropic, and where.
    anthropic: Vec<Place>,
    /// Variables that it takes from its environment.
    variables: BTreeSet<String>,
    /// It says that more of it is in other files.
    includes: bool,
}

/// Where something stands.
struct Place {
    path: Vec<String>,
    /// What is to be told of it.
    told: String,
}

/// Why a configuration was not read. Nothing of it is in the words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Nobody writes so much.
    #[error("openclaw.json is longer than {} MiB", BYTES_MAX / 1024 / 1024)]
    TooLong,
    /// Nobody writes so deeply.
    #[error("openclaw.json is nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// It cannot be parsed.
    #[error("openclaw.json is no JSON5{0}")]
    NotJson5(String),
    /// It is a list or a single value.
    #[error("openclaw.json is not a mapping")]
    NotAMapping,
}

impl OpenclawConfig {
    /// Reads it.
    ///
    /// # Errors
    /// Where it is no configuration.
    pub fn read(text: &str) -> Result<Self, Unreadable> {
        if text.len() > BYTES_MAX {
            return Err(Unreadable::TooLong);
        }
        // The parser goes down by calling itself.
        if depth(text) > DEPTH_MAX {
            return Err(Unreadable::TooDeep);
        }
        let value: Value = json5::from_str(text).map_err(|error| {
            let place =
                error.position().map(|at| format!(" (line {}, column {})", at.line + 1, at.column + 1));
            Unreadable::NotJson5(place.unwrap_or_default())
        })?;
        if !value.is_object() {
            return Err(Unreadable::NotAMapping);
        }
        let mut config =
            Self { value: Value::Null, anthropic: Vec::new(), variables: BTreeSet::new(), includes: false };
        config.walk(&value, &mut Vec::new());
        config.value = value;
        Ok(config)
    }

    /// The variables that it takes from its environment, without those that it sets itself.
    #[must_use]
    pub fn variables(&self) -> BTreeSet<String> {
        let own = |name: &String| {
            let set = |at: &Value| at[name.as_str()].as_str().is_some_and(|text| !text.is_empty());
            set(&self.value["env"]) || set(&self.value["env"]["vars"])
        };
        self.variables.iter().filter(|name| !own(name)).cloned().collect()
    }

    /// The variables that LiteLLM's URL is taken from.
    #[must_use]
    pub fn url_variables(&self) -> BTreeSet<String> {
        let url = self.provider()["baseUrl"].as_str().unwrap_or_default();
        variables(url).into_iter().map(str::to_owned).collect()
    }

    pub(super) fn defaults(&self) -> &Value {
        &self.value["agents"]["defaults"]
    }

    pub(super) fn agents(&self) -> &Value {
        &self.value["agents"]
    }

    fn provider(&self) -> &Value {
        &self.value["models"]["providers"][PROVIDER]
    }

    /// The aliases that the provider declares, with what each must have.
    pub(super) fn declared(&self) -> BTreeSet<&str> {
        let models = self.provider()["models"].as_array().into_iter().flatten();
        let whole = models.filter(|model| model["name"].as_str().is_some_and(|name| !name.is_empty()));
        whole.filter_map(|model| model["id"].as_str()).collect()
    }

    fn walk(&mut self, value: &Value, path: &mut Vec<String>) {
        match value {
            Value::String(text) => {
                self.variables.extend(variables(text).into_iter().map(str::to_owned));
                // The dialect that a provider is spoken to in, not who it is.
                let is_dialect = path.last().is_some_and(|key| key == "api") && text == "anthropic-messages";
                if is_anthropic(text) && !is_dialect {
                    let value = match () {
                        () if is_key(text) => "a key".to_owned(),
                        // Variables hold keys, whatever they look like.
                        () if is_model(text) && path.first().is_none_or(|part| part != "env") => {
                            format!("`{}`", shown(text))
                        }
                        () => "a text that names it".to_owned(),
                    };
                    self.note(path, &format!(" is {value}"));
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    self.walk(item, path);
                    path.pop();
                }
            }
            Value::Object(entries) => {
                for (key, entry) in entries {
                    if path.is_empty() && NOT_OF_THE_CHAIN.contains(&key.as_str()) {
                        continue;
                    }
                    self.includes |= key == "$include";
                    path.push(key.clone());
                    if is_anthropic(key) {
                        // What is inside it is told with it.
                        self.note(path, "");
                    } else {
                        self.walk(entry, path);
                    }
                    path.pop();
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn note(&mut self, path: &[String], value: &str) {
        let written: Vec<String> = path.iter().map(|key| shown(key)).collect();
        self.anthropic.push(Place { path: path.to_vec(), told: format!("{}{value}", written.join(".")) });
    }

    /// Where Anthropic is named below one of these parts; `true`: in none of them.
    fn anthropic_in(&self, parts: &[&[&str]], none_of: bool) -> Finding {
        let inside = |place: &&Place| {
            let starts =
                |part: &&[&str]| part.iter().zip(&place.path).filter(|(a, b)| *a == b).count() == part.len();
            parts.iter().any(starts) != none_of
        };
        let places: Vec<String> =
            self.anthropic.iter().filter(inside).map(|place| place.told.clone()).collect();
        if !places.is_empty() {
            return Finding::Fails(told(&places));
        }
        self.unless_elsewhere("none".to_owned())
    }

    /// What is not in this file may be in one that it includes.
    pub(super) fn unless_elsewhere(&self, found: String) -> Finding {
        if self.includes {
            return Finding::NotKnown(
                "a part of the configuration is in other files (`$include`)".to_owned(),
            );
        }
        Finding::Holds(found)
    }
}

/// How deeply brackets are nested, without those in texts and comments.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' | '\'' => {
                while let Some(inner) = letters.next() {
                    if inner == '\\' {
                        letters.next();
                    } else if inner == letter {
                        break;
                    }
                }
            }
            '/' if letters.peek() == Some(&'/') => {
                let _line = letters.by_ref().find(|c| matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}'));
            }
            '/' if letters.peek() == Some(&'*') => {
                letters.next();
                let mut before = ' ';
                for inner in letters.by_ref() {
                    if before == '*' && inner == '/' {
                        break;
                    }
                    before = inner;
                }
            }
            '[' | '{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// What `openclaw.json` says, or why it is not known. `container`: where its variables are looked up, if they are known.
#[must_use]
pub fn config(
    read: Result<&OpenclawConfig, &str>,
    expected: &Expected,
    container: Option<&ContainerSeen>,
) -> Vec<MigrationLine> {
    let mut lines = provider(read, expected, container);
    lines.extend(models(read, expected));
    lines.extend(clean(read));
    lines
}

/// The provider that leads to LiteLLM.
fn provider(
    read: Result<&OpenclawConfig, &str>,
    expected: &Expected,
    container: Option<&ContainerSeen>,
) -> Vec<MigrationLine> {
    let at = format!("models.providers.{PROVIDER}");
    let url = match expected.api() {
        Some(url) => format!("`{url}`, or another name of the same Service"),
        None => "an http:// or https:// URL that ends in /v1".to_owned(),
    };
    let set = expected.api().unwrap_or_else(|| "the URL of LiteLLM with /v1".to_owned());
    let wanted: Vec<String> = expected.aliases().cloned().collect();
    vec![
        Fact::fr222(format!("{at}.baseUrl"), url, format!("set `{at}.baseUrl` to {set} in openclaw.json"))
            .of(read, |config| base_url(config.provider(), expected, container)),
        Fact::fr222(
            format!("{at}.apiKey"),
            format!("`${{{KEY_VARIABLE}}}`"),
            format!("set `{at}.apiKey` to `${{{KEY_VARIABLE}}}` in openclaw.json"),
        )
        .of(read, |config| api_key(config.provider())),
        Fact::fr222(
            format!("{at}.models"),
            format!("each with `id` and `name`: {}", told(&wanted)),
            format!("add the missing ones to `{at}.models` in openclaw.json; `openclaw config validate` does not miss them"),
        )
        .of(read, |config| {
            let declared = config.declared();
            let missing: Vec<String> =
                wanted.iter().filter(|alias| !declared.contains(alias.as_str())).cloned().collect();
            match (missing.is_empty(), wanted.is_empty()) {
                (_, true) => Finding::NotKnown(NO_ROUTE.to_owned()),
                (true, false) => Finding::Holds("all of them".to_owned()),
                (false, false) => Finding::Fails(format!("not there, or without a name: {}", told(&missing))),
            }
        }),
    ]
}

fn base_url(provider: &Value, expected: &Expected, container: Option<&ContainerSeen>) -> Finding {
    if !provider.is_object() {
        return Finding::Fails(format!("there is no provider `{PROVIDER}`"));
    }
    let Some(written) = provider["baseUrl"].as_str() else {
        return Finding::Fails("it is not set".to_owned());
    };
    if written.contains("${") {
        return by_variable(written, container);
    }
    let Ok(url) = reqwest::Url::parse(written) else {
        return Finding::Fails("it is no URL".to_owned());
    };
    let port = url.port().map_or(String::new(), |port| format!(":{port}"));
    let origin = format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default());
    let place = format!("{origin}{}", url.path());
    let place = place.trim_end_matches('/');
    // A path may hold a key.
    let told =
        if matches!(url.path(), "/" | "/v1" | "/v1/") { place.to_owned() } else { format!("{origin}/...") };
    let is_web = matches!(url.scheme(), "http" | "https");
    let leads = if expected.urls.is_empty() { Leads::Api } else { expected.leads(place) };
    if !is_web || !place.ends_with("/v1") {
        Finding::Fails(format!("`{}`, which is no web address that ends in /v1", shown(&told)))
    } else if leads == Leads::Api {
        Finding::Holds(format!("`{}`", shown(&told)))
    } else if url.host_str().is_some_and(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()) {
        Finding::NotKnown(format!("`{}`: whose address that is was not looked up", shown(&told)))
    } else {
        Finding::Fails(format!("`{}`, which is not LiteLLM", shown(&told)))
    }
}

/// A URL that the container's environment says.
fn by_variable(written: &str, container: Option<&ContainerSeen>) -> Finding {
    let rest = written.trim_end_matches('/').strip_prefix("${").unwrap_or_default();
    let (name, needed) = match rest.strip_suffix("/v1") {
        Some(rest) => (rest, Leads::Root),
        None => (rest, Leads::Api),
    };
    // Only what is a name is shown: what else stands there may be a password.
    let is_word = |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let Some(name) = name.strip_suffix('}').filter(is_word) else {
        return Finding::NotKnown("it is put together from several parts".to_owned());
    };
    let text = format!("`${{{}}}{}`", shown(name), if needed == Leads::Root { "/v1" } else { "" });
    if !is_variable(name) {
        return Finding::Fails(format!("{text}: openclaw replaces names in capital letters only"));
    }
    match container.map(|seen| (seen.has(name), seen.leads.get(name))) {
        None => Finding::NotKnown(format!("{text}, which is in the environment of openclaw's container")),
        Some((false, _)) => Finding::Fails(format!("{text}, which is not set in openclaw's container")),
        Some((true, Some(leads))) if *leads == needed => Finding::Holds(format!("{text}, which leads there")),
        Some((true, Some(Leads::Root))) => {
            Finding::Fails(format!("{text}, which leads to LiteLLM without /v1"))
        }
        Some((true, Some(_))) => Finding::Fails(format!("{text}, which does not lead there")),
        Some((true, None)) => Finding::NotKnown(format!("{text}, and where that leads was not asked")),
    }
}

fn api_key(provider: &Value) -> Finding {
    match &provider["apiKey"] {
        Value::Null => Finding::Fails("it is not set".to_owned()),
        Value::String(text) if *text == format!("${{{KEY_VARIABLE}}}") => {
            Finding::Holds(format!("`${{{KEY_VARIABLE}}}`"))
        }
        Value::String(text) => match variables(text).as_slice() {
            [name] if text.len() == name.len() + 3 => {
                Finding::Fails(format!("another variable, `${{{}}}`", shown(name)))
            }
            _ => Finding::Fails("a text that stands in the file itself, and is not shown here".to_owned()),
        },
        _ => Finding::NotKnown("it is written in a form that is not read here".to_owned()),
    }
}

/// Who is asked.
fn models(read: Result<&OpenclawConfig, &str>, expected: &Expected) -> Vec<MigrationLine> {
    let own = |alias: &String| format!("{PROVIDER}/{alias}");
    let primary = expected.primary.as_ref().map(own);
    let fallbacks: Vec<String> = expected.fallbacks.iter().map(own).collect();
    let coder = expected.coder.as_ref().map(own);
    let named = |name: &Option<String>| {
        name.as_ref().map_or_else(|| "what the route asks for".to_owned(), |name| format!("`{name}`"))
    };
    let listed = if fallbacks.is_empty() { "none".to_owned() } else { fallbacks.join(", ") };
    let at = "agents.defaults.model";
    vec![
        Fact::fr222(
            format!("{at}.primary"),
            named(&primary),
            format!("set `{at}.primary` to {} in openclaw.json", named(&primary)),
        )
        .of(read, |config| match &primary {
            None => Finding::NotKnown(NO_ROUTE.to_owned()),
            Some(wanted) => Model::of(&config.defaults()["model"]).is_primary(wanted),
        }),
        Fact::fr222(
            format!("{at}.fallbacks"),
            listed.clone(),
            format!("set `{at}.fallbacks` to [{listed}] in openclaw.json, in this order"),
        )
        .of(read, |config| match &primary {
            None => Finding::NotKnown(NO_ROUTE.to_owned()),
            Some(_) => Model::of(&config.defaults()["model"]).has_fallbacks(&fallbacks),
        }),
        Fact::fr223(
            "agents.defaults.subagents.model",
            named(&coder),
            format!(
                "set `agents.defaults.subagents.model` to {} in openclaw.json, and take other models of sub-agents out",
                named(&coder)
            ),
        )
        .of(read, |config| match &coder {
            None => Finding::NotKnown(NO_ROUTE.to_owned()),
            Some(wanted) => agents::coders(config, wanted),
        }),
        Fact::fr222(
            "agents with a model of their own",
            format!("only declared models through `{PROVIDER}/`; the main agent none but {}", named(&primary)),
            "take `model` out of the agent in openclaw.json: it then has that of `agents.defaults`",
        )
        .of(read, |config| agents::own_models(config, primary.as_deref())),
    ]
}

/// Nothing of Anthropic, and nothing that makes openclaw refuse the file.
fn clean(read: Result<&OpenclawConfig, &str>) -> Vec<MigrationLine> {
    let take_out = |what: &str| {
        format!(
            "take {what} out of openclaw.json; `openclaw config validate` does not miss it, and lets it pass"
        )
    };
    let parts: [(&str, &[&str], &str); 4] = [
        ("models of Anthropic below agents", &["agents"], "those models"),
        ("Anthropic in models.providers", &["models", "providers"], "that provider"),
        ("Anthropic in auth.profiles", &["auth", "profiles"], "that profile"),
        ("Anthropic in auth.order", &["auth", "order"], "that entry"),
    ];
    let mut lines: Vec<MigrationLine> = parts
        .iter()
        .map(|(fact, part, what)| {
            Fact::fr222(*fact, "none", take_out(what)).of(read, |config| {
                let found = config.anthropic_in(&[part], false);
                match (&found, part) {
                    (Finding::Holds(_), ["agents"]) => agents::unless_hidden(config, found),
                    _ => found,
                }
            })
        })
        .collect();
    let all: Vec<&[&str]> = parts.iter().map(|(_, part, _)| *part).collect();
    lines.push(
        Fact::fr222("Anthropic elsewhere in openclaw.json", "none", take_out("it"))
            .of(read, |config| config.anthropic_in(&all, true)),
    );
    let removed = "take it out of openclaw.json; `openclaw config validate` names it";
    lines.push(Fact::fr222("keys that openclaw 2026.9.6 refuses", "none", removed).of(read, |config| {
        let there: Vec<String> = REMOVED
            .iter()
            .filter(|(pointer, _)| config.value.pointer(pointer).is_some())
            .map(|(_, name)| (*name).to_owned())
            .collect();
        if there.is_empty() {
            return config.unless_elsewhere("none".to_owned());
        }
        let why =
            "2026.9.6 does not start with it; whether the openclaw that runs is older is not known here";
        Finding::NotKnown(format!("{}: {why}", told(&there)))
    }));
    lines
}

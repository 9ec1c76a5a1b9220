//! What may be a secret and is not shown: by the name of its key, and by the look of a line.

/// Parts of key names that mean a secret.
const NAME_PARTS: [&str; 8] =
    ["password", "passwd", "secret", "credential", "auth", "headers", "cookie", "environment_variables"];
/// Ends of key names that do.
const NAME_ENDS: [&str; 5] = ["key", "token", "pass", "pwd", "dsn"];

/// Whether the value of a key so called may be a secret.
pub(crate) fn names_a_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    NAME_PARTS.iter().any(|part| key.contains(part))
        || NAME_ENDS.iter().any(|end| key.ends_with(end)) && !key.contains("cost_per")
}

/// Where a line seems to hold a secret: the value of a key whose name says so, also in the query of a URL, a word like
/// `sk-...`, or a URL with a password.
pub(super) fn in_line(line: &str) -> Option<usize> {
    let named = line.match_indices(':').find_map(|(colon, _)| {
        let (name, value) = (name_before(&line[..colon]), line[colon + 1..].trim_start());
        let word = value.split([' ', ',', '}']).next().unwrap_or_default();
        let harmless = if name.to_ascii_lowercase().ends_with("env") {
            is_variable(word, value)
        } else {
            // `- { name: NAME, value: SECRET }` is how some write variables.
            let secret = names_a_secret(name) || name.eq_ignore_ascii_case("value");
            !secret || is_no_secret(word, value)
        };
        (!harmless).then_some(line.len() - value.len())
    });
    let in_query =
        line.match_indices('=').map(|(at, _)| at).find(|at| names_a_secret(name_before(&line[..*at])));
    let known = line.match_indices("sk-").map(|(at, _)| at).find(|at| {
        line[..*at].chars().next_back().is_none_or(|before| !before.is_alphanumeric() && before != '-')
    });
    let in_url = line.match_indices("://").map(|(at, _)| at + 3).find(|at| {
        line[*at..].split([' ', '"', '\'', ',', '/']).next().is_some_and(|authority| authority.contains('@'))
    });
    [named, in_query.map(|at| at + 1), known, in_url].into_iter().flatten().min()
}

/// The key that ends where a colon follows.
fn name_before(line: &str) -> &str {
    let quoted = line.trim_end();
    let name = quoted.strip_suffix(['"', '\'']).unwrap_or(quoted);
    let start = name.rfind(|c: char| !is_of_a_key(c)).map_or(0, |at| at + 1);
    name.get(start..).unwrap_or_default()
}

fn is_of_a_key(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// `env` names the variable of a key; whoever takes it for the key's own place writes something else there.
fn is_variable(word: &str, value: &str) -> bool {
    let word = word.trim_matches(['"', '\'']);
    let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    value.is_empty() || (!word.is_empty() && word.bytes().all(allowed))
}

/// What may stand at a secret's key and is none: `key: { env: NAME }` says where a key is. A password may begin with
/// what begins or ends other words.
fn is_no_secret(word: &str, value: &str) -> bool {
    let inner = value.strip_prefix('{').map(str::trim_start);
    value.is_empty()
        || inner.is_some_and(|inner| {
            ["env:", "secret:", "field:", "value:", "}"].iter().any(|start| inner.starts_with(start))
        })
        || word.starts_with('#')
        || word.starts_with("os.environ/")
        || (!word.is_empty() && word.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
}

/// Keys whose values are shown even in a file in which nothing is known by its place.
const PLAIN_KEYS: [&str; 42] = [
    "aliases",
    "allowed_fails",
    "ceilings",
    "components",
    "context_window_fallbacks",
    "cooldown_time",
    "cost_usd",
    "default_fallbacks",
    "embedded",
    "environment",
    "error",
    "errors",
    "expect",
    "fallbacks",
    "for",
    "gone",
    "litellm_params",
    "litellm_settings",
    "lost_in_flight",
    "max_fallbacks",
    "max_tokens",
    "model",
    "model_list",
    "model_name",
    "num_retries",
    "profile",
    "rate",
    "ready_within",
    "recover",
    "request_timeout",
    "requests",
    "requirements",
    "route",
    "router_settings",
    "routes",
    "scenario",
    "served_by",
    "stream",
    "timeout",
    "title",
    "traffic",
    "within",
];

/// Values that are shown whatever their key.
const PLAIN_WORDS: [&str; 7] = ["-", "---", ":", "down", "false", "null", "true"];

/// Where in a line of a file that cannot be parsed something begins that is not known to be harmless. A secret may
/// stand there at a key that is misspelt, or at none.
pub(super) fn in_broken_line(line: &str) -> Option<usize> {
    // Whether a word here may be a key, whether it is the value of a plain one, and how many lists it stands in.
    let (mut key_here, mut plain, mut lists) = (true, false, 0_usize);
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let at = line.len() - rest.len();
        if is_structure(first) {
            match first {
                '[' => lists += 1,
                ']' => lists = lists.saturating_sub(1),
                '{' => (key_here, plain) = (true, false),
                ',' | '}' => (key_here, plain) = (true, plain && lists > 0),
                _ => {}
            }
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let word = &rest[..rest.find(is_structure).unwrap_or(rest.len())];
        let behind = &rest[word.len()..];
        let (name, value) = word.split_once(':').unwrap_or((word, ""));
        let has_colon = word.contains(':') || behind.trim_start_matches(['"', '\'', ' ']).starts_with(':');
        let known = PLAIN_KEYS.contains(&name);
        if has_colon && (known || (key_here && !plain && value.is_empty() && is_key(name))) {
            (key_here, plain) = (false, known);
        } else if (!plain || word.contains('='))
            && !known
            && !PLAIN_WORDS.contains(&word)
            && !is_quantity(word)
        {
            return Some(at);
        } else if word != "-" {
            key_here = false;
        }
        rest = behind;
    }
    None
}

fn is_structure(c: char) -> bool {
    c.is_whitespace() || matches!(c, '{' | '}' | '[' | ']' | ',' | '"' | '\'')
}

/// Whether a word looks like a name that a person gave, rather than like a long key.
fn is_key(name: &str) -> bool {
    !name.is_empty() && name.len() <= 40 && name.chars().all(is_of_a_key)
}

/// A number that is short, with or without a unit.
fn is_quantity(word: &str) -> bool {
    let unit = word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let digits = word.len() - unit.len();
    (1..=6).contains(&digits) && ["", "h", "m", "s", "ms", "us", "ns", "/s", "/m", "/h"].contains(&unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> &str {
        &line[..in_broken_line(line).unwrap_or(line.len())]
    }

    #[test]
    fn of_a_broken_line_only_what_is_known_is_shown() {
        for (line, expected) in [
            ("api_kye: CANARY", "api_kye: "),
            ("pasword: swordfish", "pasword: "),
            ("  - pasword: abc: def", "  - pasword: "),
            ("{ pasword: \"swordfish, too\" ]", "{ pasword: \""),
            ("\"pasword\" : swordfish", "\"pasword\" : "),
            ("pasword:swordfish", ""),
            ("  swordfish", "  "),
            ("  - swordfish", "  - "),
            ("{ model: a, pin: 1234567 }", "{ model: a, pin: "),
            ("{ aliases: [a, b], swordfish", "{ aliases: [a, b], "),
            ("environment: [API=swordfish", "environment: ["),
            ("model: a # swordfish", "model: a # swordfish"),
            ("postgres://me:swordfish@host", ""),
            ("environment_variables: { A: swordfish", "environment_variables: { A: "),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
        for whole in [
            "  agent: { served_by: vllm-qwen, within: 5s",
            "  - { route: agent, rate: 8/s, for: 12s }",
            "title: Cloud down: what now",
            "title: \"never closed",
            "components: { cloud: down ]",
            "served_by:vllm-qwen",
            "\tcloud: down",
            "---",
            "",
        ] {
            assert_eq!(shown(whole), whole);
        }
    }

    #[test]
    fn a_key_in_a_query_is_not_shown() {
        let line = "  api_base: http://127.0.0.1/?v=1&api_key=swordfish";
        assert_eq!(in_line(line).map(|at| &line[at..]), Some("swordfish"));
        assert_eq!(in_line("title: what if a = b"), None);
    }

    #[test]
    fn names_tell_secrets() {
        for name in
            ["api_key", "SMTP_PASSWORD", "X-Auth", "extra_headers", "hf_token", "FOO_PASS", "sentry_dsn"]
        {
            assert!(names_a_secret(name), "{name}");
        }
        for name in ["max_tokens", "input_cost_per_token", "model", "aliases", "keys_seen"] {
            assert!(!names_a_secret(name), "{name}");
        }
    }
}

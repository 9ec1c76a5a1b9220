//! What must hold of the Loki of an environment.

use crate::environment::loki::{Loki, LokiUser, WITHIN};
use crate::environment::written::{EnvironmentFile, LokiWritten};
use crate::input::at::{At, Key};
use crate::input::checker::Checker;
use crate::units::Period;

/// Longer than this nobody waits at the end of each mode.
const WITHIN_MAX: Period = Period::from_secs(120);

/// The Loki of a file that names one; `Err` where something is wrong with it.
pub(super) fn loki(check: &mut Checker<'_>, file: &EnvironmentFile) -> Result<Option<Loki>, ()> {
    let written = match &file.loki {
        Key::Absent => return Ok(None),
        Key::Broken => return Err(()),
        Key::There(written) => &written.value,
    };
    read(check, written).map(Some).ok_or(())
}

fn read(check: &mut Checker<'_>, written: &LokiWritten) -> Option<Loki> {
    if let Some(url) = written.url.there() {
        is_url(check, url);
    }
    if let Some(query) = written.query.there() {
        let text = query.value.trim();
        if !text.starts_with('{') || !text.contains('}') || text.contains(char::is_control) {
            check.problem(
                query.place,
                "this is not a query for lines",
                "write the labels of the gateway's pods, like `{namespace=\"ml\", app=\"litellm\"}`",
            );
        }
    }
    if let Some(tenant) = written.tenant.there() {
        let known = |b: u8| b.is_ascii_alphanumeric() || b"!-_.*'()|".contains(&b);
        if tenant.value.is_empty() || tenant.value.len() > 150 || !tenant.value.bytes().all(known) {
            check.problem(
                tenant.place,
                "this is not the name of a tenant",
                "use letters, digits, hyphens, at most 150 of them, or leave it out",
            );
        }
    }
    let user = user(check, written);
    let within = match &written.within {
        Key::There(period) => check.period("within", period),
        Key::Absent | Key::Broken => Some(WITHIN),
    };
    if let (Some(period), Some(place)) =
        (within.filter(|period| *period > WITHIN_MAX), written.within.place())
    {
        check.problem(
            place,
            &format!("{period} is long to wait for a log at the end of each mode"),
            "write at most `2m`",
        );
    }
    Some(Loki {
        url: written.url.there()?.value.clone(),
        query: written.query.there()?.value.trim().to_owned(),
        tenant: written.tenant.there().map(|tenant| tenant.value.clone()),
        user: user?,
        within: within?,
    })
}

fn user(check: &mut Checker<'_>, written: &LokiWritten) -> Option<LokiUser> {
    if let Some(user) = written.user.there()
        && (user.value.is_empty() || user.value.contains(|c: char| c == ':' || c.is_control()))
    {
        check.problem(user.place, "this is not a user name", "write it without colons");
    }
    let token = variable(check, &written.token_env);
    let password_env = variable(check, &written.password_env);
    match (&written.token_env, &written.user, &written.password_env) {
        (Key::There(token), Key::There(_), _) | (Key::There(token), _, Key::There(_)) => {
            check.problem(
                token.place,
                "it is asked with a token or as a user, not both",
                "keep `token_env`, or `user` and `password_env`",
            );
            None
        }
        (Key::There(_), ..) => token.map(LokiUser::Bearer),
        (_, Key::There(user), Key::There(_)) => {
            Some(LokiUser::Basic { user: user.value.clone(), password_env: password_env? })
        }
        (_, Key::There(user), Key::Absent) => {
            let hint = "add `password_env: LOKI_PASSWORD`, the variable that holds it";
            check.problem(user.place, "a user without a password lets nobody in", hint);
            None
        }
        (_, Key::Absent, Key::There(password)) => {
            check.problem(password.place, "a password without a user lets nobody in", "add `user: NAME`");
            None
        }
        (Key::Absent, Key::Absent, Key::Absent) => Some(LokiUser::Nobody),
        (Key::Broken, ..) | (_, Key::Broken, _) | (.., Key::Broken) => None,
    }
}

/// The name of a variable that holds a key.
fn variable(check: &mut Checker<'_>, written: &Key<At<String>>) -> Option<String> {
    let written = written.there()?;
    let capitals = written.value.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    if written.value.is_empty() || written.value.starts_with(|c: char| c.is_ascii_digit()) || !capitals {
        check.secret_problem(
            written.place,
            "this is not the name of an environment variable (capital letters, digits, underscores)",
            "write the name of the variable that holds the key, like `LOKI_TOKEN`, never the key itself",
        );
        return None;
    }
    Some(written.value.clone())
}

fn is_url(check: &mut Checker<'_>, url: &At<String>) {
    let parsed = reqwest::Url::parse(&url.value).ok();
    let parsed = parsed.filter(|parsed| matches!(parsed.scheme(), "http" | "https") && parsed.has_host());
    let Some(parsed) = parsed else {
        check.hide(url.place);
        let hint = "write it like `http://loki.monitoring.svc:3100`";
        return check.problem(url.place, "this is not the URL of a Loki", hint);
    };
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return check.secret_problem(
            url.place,
            "the URL holds a user name or password",
            "leave them out; write `user: NAME` and `password_env: LOKI_PASSWORD`",
        );
    }
    if parsed.query().is_some() || parsed.fragment().is_some() || parsed.path().contains("/loki/api") {
        check.secret_problem(
            url.place,
            "the URL of a Loki has no path of its API and nothing behind `?` or `#`",
            "write it like `http://loki.monitoring.svc:3100`: the path is added to it",
        );
    }
}

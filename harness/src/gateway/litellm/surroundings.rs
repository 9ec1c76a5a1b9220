//! What programs of others get of this program's own environment: variables that are named here, and never all of it, which
//! holds keys.

use tokio::process::Command;

/// What any program may need. None of them names a service.
pub(crate) const INHERITED: [&str; 7] = ["HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "TZ", "USER"];

/// What pip and npm need besides, to reach their registry the way that the person has set up. Each as written and in
/// lower case.
const OF_INSTALLERS: [&str; 27] = [
    "ALL_PROXY",
    "CURL_CA_BUNDLE",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NODE_EXTRA_CA_CERTS",
    "NO_PROXY",
    "NPM_CONFIG_CACHE",
    "NPM_CONFIG_CAFILE",
    "NPM_CONFIG_GLOBALCONFIG",
    "NPM_CONFIG_HTTPS_PROXY",
    "NPM_CONFIG_NOPROXY",
    "NPM_CONFIG_PROXY",
    "NPM_CONFIG_REGISTRY",
    "NPM_CONFIG_STRICT_SSL",
    "NPM_CONFIG_USERCONFIG",
    "PIP_CACHE_DIR",
    "PIP_CERT",
    "PIP_CONFIG_FILE",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_INDEX_URL",
    "PIP_NO_INDEX",
    "PIP_PROXY",
    "PIP_TRUSTED_HOST",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
];

/// Leaves the command only what any program may need. What was set on it before is gone.
pub(crate) fn of_a_program(command: &mut Command) -> &mut Command {
    command.env_clear();
    keep(command, INHERITED.map(str::to_owned))
}

/// The same, and what an installer needs.
pub(crate) fn of_an_installer(command: &mut Command) -> &mut Command {
    let names = OF_INSTALLERS.iter().flat_map(|name| [(*name).to_owned(), name.to_ascii_lowercase()]);
    keep(of_a_program(command), names.chain(["XDG_CONFIG_HOME".to_owned(), "XDG_CACHE_HOME".to_owned()]))
}

fn keep(command: &mut Command, names: impl IntoIterator<Item = String>) -> &mut Command {
    for name in names {
        if let Some(value) = std::env::var_os(&name) {
            command.env(name, value);
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn what_was_set_before_is_gone_and_what_is_set_after_is_there() {
        let mut command = Command::new("true");
        command.env("KEY", "before");
        of_an_installer(&mut command).env("OTHER", "after");
        let set: Vec<_> = command.as_std().get_envs().map(|(name, _)| name.to_owned()).collect();
        assert!(!set.iter().any(|name| name == "KEY"), "{set:?}");
        assert!(set.iter().any(|name| name == "OTHER"), "{set:?}");
        let path = std::env::var_os("PATH");
        assert_eq!(set.iter().any(|name| name.as_os_str() == OsStr::new("PATH")), path.is_some());
    }
}

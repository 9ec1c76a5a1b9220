//! A command of an exec: a process group of its own, which ends with its session.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use std::os::unix::process::ExitStatusExt;
use tokio::process::{Child, Command};

use super::Kubelet;
use super::program::{claims, moved};
use crate::kubernetes::controllers::objects::meta;
use crate::kubernetes::resources::{CONFIG_MAPS, SECRETS};
use crate::kubernetes::store::ObjectKey;

/// The path of a container without one of its own is that of the mock's own process, so that the same programs are
/// there.
fn default_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into())
}

/// A running command. Dropping it kills its group.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) child: Child,
    group: Option<Pid>,
}

impl Process {
    /// Starts a command in a container.
    pub(super) fn start(
        kubelet: &Kubelet,
        pod: &Value,
        container: &Value,
        words: &[String],
        stdin: bool,
    ) -> io::Result<Self> {
        let mounts = claims(kubelet, pod, container);
        let words: Vec<String> = words.iter().map(|word| moved(word, &mounts)).collect();
        let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        // A container keeps what it was started with, whatever becomes of the objects that it came from.
        let started = kubelet.running_pod(pod).and_then(|running| running.started_with(container));
        let mut environment = started.unwrap_or_else(|| self::environment(kubelet, pod, container));
        for value in environment.values_mut() {
            *value = OsString::from(moved(&value.to_string_lossy(), &mounts));
        }
        environment.entry("PATH".to_owned()).or_insert_with(default_path);
        environment.entry("HOSTNAME".to_owned()).or_insert_with(|| meta(pod, "name").into());
        let ip = pod["status"]["podIP"].as_str().and_then(|ip| ip.parse().ok());
        let names = kubelet.inner.names.python_path(meta(pod, "namespace"), ip)?;
        let python_path = match environment.remove("PYTHONPATH") {
            Some(own) => std::env::join_paths([names.into_os_string(), own]).map_err(io::Error::other)?,
            None => names.into_os_string(),
        };
        environment.insert("PYTHONPATH".to_owned(), python_path);
        let mut command = Command::new(program);
        command.args(arguments).stdin(if stdin { Stdio::piped() } else { Stdio::null() });
        Self::spawn(command, environment)
    }

    /// Starts a command in a group of its own, with this environment and no more.
    pub(super) fn spawn(mut command: Command, environment: BTreeMap<String, OsString>) -> io::Result<Self> {
        command
            .env_clear()
            .envs(environment)
            .current_dir("/")
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let child = command.spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { child, group })
    }

    /// Kills whatever is left of the group.
    pub(super) fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            // The group may have ended by itself.
            let _killed = kill_process_group(group, Signal::KILL);
        }
    }

    /// Asks the group to end.
    pub(super) fn ask_to_end(&self) {
        if let Some(group) = self.group {
            // The group may have ended by itself.
            let _asked = kill_process_group(group, Signal::TERM);
        }
    }

    /// The group has ended by itself, and its number may belong to another soon.
    pub(super) fn forget(&mut self) {
        self.group = None;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What the pod's specification says of a container's environment.
pub(super) fn environment(kubelet: &Kubelet, pod: &Value, container: &Value) -> BTreeMap<String, OsString> {
    let mut all = BTreeMap::new();
    let namespace = meta(pod, "namespace");
    for source in container["envFrom"].as_array().into_iter().flatten() {
        all.extend(of_object(kubelet, namespace, source));
    }
    let entries = container["env"].as_array().into_iter().flatten();
    for entry in entries {
        let Some(name) =
            entry["name"].as_str().filter(|name| !name.is_empty() && !name.contains(['=', '\0']))
        else {
            continue;
        };
        let source = &entry["valueFrom"];
        let secret = &source["secretKeyRef"];
        let map = &source["configMapKeyRef"];
        let value = if let Some(object) = secret["name"].as_str() {
            let key = ObjectKey::new(&SECRETS, namespace, object);
            let secret_object = kubelet.store().get(&key);
            secret_object
                .and_then(|object| object["data"][secret["key"].as_str()?].as_str().and_then(from_base64))
        } else if let Some(object) = map["name"].as_str() {
            let object = kubelet.store().get(&ObjectKey::new(&CONFIG_MAPS, namespace, object));
            object.and_then(|object| object["data"][map["key"].as_str()?].as_str().map(str::to_owned))
        } else if let Some(path) = source["fieldRef"]["fieldPath"].as_str() {
            of_field(pod, path)
        } else {
            Some(entry["value"].as_str().unwrap_or_default().to_owned())
        };
        if let Some(value) = value.filter(|value| !value.contains('\0')) {
            all.insert(name.to_owned(), value.into());
        }
    }
    all
}

/// All that a Secret or a ConfigMap holds, as variables.
fn of_object(kubelet: &Kubelet, namespace: &str, source: &Value) -> Vec<(String, OsString)> {
    let (secret, map) = (&source["secretRef"]["name"], &source["configMapRef"]["name"]);
    let (resource, name) = match (secret.as_str(), map.as_str()) {
        (Some(name), _) => (&SECRETS, name),
        (None, Some(name)) => (&CONFIG_MAPS, name),
        (None, None) => return Vec::new(),
    };
    let prefix = source["prefix"].as_str().unwrap_or_default();
    let Some(object) = kubelet.store().get(&ObjectKey::new(resource, namespace, name)) else {
        return Vec::new();
    };
    let entries = object["data"].as_object().into_iter().flatten();
    let texts = entries.filter_map(|(key, text)| {
        let text = text.as_str()?;
        let text = if secret.is_string() { from_base64(text)? } else { text.to_owned() };
        (!key.is_empty() && !text.contains('\0')).then(|| (format!("{prefix}{key}"), text.into()))
    });
    texts.collect()
}

/// A field of a pod: `metadata.name`, or `metadata.labels['key']`. A label that is not there is an empty text.
fn of_field(pod: &Value, path: &str) -> Option<String> {
    if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        let is_map = ["metadata.labels", "metadata.annotations"].contains(&map);
        let map = map.split('.').fold(pod, |value, step| &value[step]);
        return is_map.then(|| map[key].as_str().unwrap_or_default().to_owned());
    }
    path.split('.').fold(pod, |value, step| &value[step]).as_str().map(str::to_owned)
}

/// Reads what a Secret holds; none where it is no base64 of a text.
pub(super) fn from_base64(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let (mut bits, mut filled) = (0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        filled += 6;
        if filled >= 8 {
            filled -= 8;
            bytes.push(u8::try_from(bits >> filled & 0xff).ok()?);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The code that a runtime tells of a process.
pub(super) fn exit_code(ended: io::Result<ExitStatus>) -> i32 {
    match ended {
        Ok(ended) => ended.code().or_else(|| ended.signal().map(|signal| 128 + signal)).unwrap_or(255),
        Err(_) => 255,
    }
}

/// How a command ended, as the error channel has it.
pub(super) fn status(words: &[String], ended: io::Result<ExitStatus>) -> Value {
    let code = exit_code(ended);
    if code == 0 {
        return json!({ "metadata": {}, "status": "Success" });
    }
    let told = words.join(" ");
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: error executing command [{told}], exit code {code}"),
        "reason": "NonZeroExitCode",
        "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
    })
}

/// What the runtime says of a command that it cannot start.
pub(super) fn not_started(words: &[String], error: &io::Error) -> Value {
    let program = words.first().map(String::as_str).unwrap_or_default();
    let why = match error.kind() {
        io::ErrorKind::NotFound if program.contains('/') => "no such file or directory",
        io::ErrorKind::NotFound => "executable file not found in $PATH",
        io::ErrorKind::PermissionDenied => "permission denied",
        _ => "cannot be started",
    };
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!(
            "Internal error occurred: error executing command in container: failed to exec in container: \
             OCI runtime exec failed: exec failed: unable to start container process: exec: {program:?}: {why}: unknown"
        ),
        "reason": "InternalError",
        "details": { "causes": [{ "message": "error executing command in container" }] },
        "code": 500,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_field_as_well() {
        let pod = json!({ "metadata": { "name": "a", "labels": { "batch.kubernetes.io/job-name": "b" } } });
        assert_eq!(of_field(&pod, "metadata.name").as_deref(), Some("a"));
        assert_eq!(of_field(&pod, "metadata.labels['batch.kubernetes.io/job-name']").as_deref(), Some("b"));
        assert_eq!(of_field(&pod, "metadata.labels['c']").as_deref(), Some(""));
        assert_eq!(of_field(&pod, "spec['c']"), None);
    }

    #[test]
    fn base64_reads_back_what_is_written() {
        for text in ["", "a", "ab", "abc", "sk-1234 \u{e4}\u{20ac}"] {
            assert_eq!(
                from_base64(&crate::kubernetes::rules::base64(text.as_bytes())).as_deref(),
                Some(text)
            );
        }
        assert_eq!(from_base64("a b"), None);
    }
}

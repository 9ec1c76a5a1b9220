//! Pods of Jobs whose image stands for a program of this machine: a real process, with files for its volumes.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::PoisonError;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::task::JoinHandle;

use super::Kubelet;
use super::logs::LINE_BYTES_MAX;
use super::process::{Process, environment, exit_code, from_base64};
use crate::kubernetes::api::account_token;
use crate::kubernetes::cluster::kubeconfig;
use crate::kubernetes::controllers::objects::meta;
use crate::kubernetes::resources::{CONFIG_MAPS, PERSISTENT_VOLUME_CLAIMS, Resource, SECRETS};
use crate::kubernetes::store::ObjectKey;

/// What of a failed container's log is kept as its termination message, as the real kubelet has it.
const MESSAGE_BYTES_MAX: usize = 2048;
const MESSAGE_LINES_MAX: usize = 80;
/// How long the output of a process that has ended is waited for: something that it started may hold it open.
const OUTPUT_WITHIN: Duration = Duration::from_secs(2);

/// What an image is.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// Without its tag.
    pub(super) image: String,
    pub(super) executable: PathBuf,
    /// The URL of the API server.
    pub(super) api: String,
}

/// A running process of a pod.
#[derive(Debug)]
pub(super) struct Started {
    process: Process,
    outputs: Vec<JoinHandle<()>>,
}

impl Started {
    /// Its exit code; all that it has written is in the log by then.
    pub(super) async fn ended(&mut self) -> i32 {
        let code = exit_code(self.process.child.wait().await);
        self.process.forget();
        let read = futures::future::join_all(self.outputs.iter_mut());
        if tokio::time::timeout(OUTPUT_WITHIN, read).await.is_err() {
            self.outputs.iter().for_each(JoinHandle::abort);
        }
        self.outputs.clear();
        code
    }

    pub(super) fn ask_to_end(&self) {
        self.process.ask_to_end();
    }

    pub(super) fn kill(&mut self) {
        self.process.kill();
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.outputs.iter().for_each(JoinHandle::abort);
    }
}

impl Kubelet {
    /// The program that the first container of a pod is.
    pub(super) fn program_of(&self, pod: &Value) -> Option<Program> {
        let image = pod["spec"]["containers"][0]["image"].as_str()?;
        // A colon before the last slash belongs to the registry's port.
        let tag = image.rfind(':').filter(|colon| !image[*colon..].contains('/'));
        let name = &image[..tag.unwrap_or(image.len())];
        let programs = self.inner.programs.lock().unwrap_or_else(PoisonError::into_inner);
        programs.iter().rev().find(|program| program.image == name).cloned()
    }

    /// What the status of a container tells of its end.
    pub(super) fn termination_message(&self, pod: &Value, code: i32) -> Option<String> {
        let container = &pod["spec"]["containers"][0];
        if code == 0 || container["terminationMessagePolicy"] != "FallbackToLogsOnError" {
            return None;
        }
        let lines = self.inner.logs.lines(meta(pod, "uid"), container["name"].as_str()?);
        let mut kept = Vec::new();
        let mut bytes = 0;
        for line in lines.iter().rev().take(MESSAGE_LINES_MAX) {
            bytes += line.len() + 1;
            if bytes > MESSAGE_BYTES_MAX {
                break;
            }
            kept.push(line.as_str());
        }
        kept.reverse();
        Some(kept.join("\n"))
    }
}

impl Program {
    /// Starts the process of a pod's first container.
    ///
    /// # Errors
    /// What it needs is not there yet, or the program cannot be started.
    pub(super) fn start(&self, kubelet: &Kubelet, pod: &Value) -> io::Result<Started> {
        let container = &pod["spec"]["containers"][0];
        let folder = kubelet.inner.names.folder().join("pods").join(meta(pod, "uid"));
        fs::create_dir_all(&folder)?;
        let mounts = mounts(kubelet, pod, container, &folder)?;
        let mut all = environment(kubelet, pod, container);
        for value in all.values_mut() {
            *value = OsString::from(moved(&value.to_string_lossy(), &mounts));
        }
        let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        let token = account_token(kubelet.store(), meta(pod, "namespace"), account);
        if let Some(token) = token.filter(|_| pod["spec"]["automountServiceAccountToken"] != false) {
            let file = folder.join("kubeconfig");
            fs::write(&file, kubeconfig(&self.api, &token).to_string())?;
            all.insert("KUBECONFIG".to_owned(), file.into_os_string());
        }
        all.entry("HOSTNAME".to_owned()).or_insert_with(|| meta(pod, "name").into());
        let texts = |field: &str| {
            let texts = container[field].as_array().into_iter().flatten().filter_map(Value::as_str);
            texts.map(|text| moved(text, &mounts)).collect::<Vec<_>>()
        };
        let mut command = Command::new(&self.executable);
        // The first word of a command is the program's path in its image.
        command.args(texts("command").iter().skip(1)).args(texts("args")).stdin(Stdio::null());
        let mut process = Process::spawn(command, all)?;
        let name = container["name"].as_str().unwrap_or_default().to_owned();
        let (out, error) = (process.child.stdout.take(), process.child.stderr.take());
        let outputs = [
            out.map(|out| tokio::spawn(keep_lines(kubelet.clone(), pod.clone(), name.clone(), out))),
            error.map(|error| tokio::spawn(keep_lines(kubelet.clone(), pod.clone(), name, error))),
        ];
        Ok(Started { process, outputs: outputs.into_iter().flatten().collect() })
    }
}

async fn keep_lines(kubelet: Kubelet, pod: Value, container: String, mut from: impl AsyncRead + Unpin) {
    let mut pending = Vec::new();
    let mut chunk = vec![0; 8 * 1024];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        for byte in &chunk[..count] {
            if *byte == b'\n' {
                kubelet.log_line(&pod, &container, &String::from_utf8_lossy(&pending));
                pending.clear();
            } else if pending.len() < LINE_BYTES_MAX {
                pending.push(*byte);
            }
        }
    }
    if !pending.is_empty() {
        kubelet.log_line(&pod, &container, &String::from_utf8_lossy(&pending));
    }
}

pub(super) fn claim_folder(kubelet: &Kubelet, namespace: &str, claim: &str) -> PathBuf {
    kubelet.inner.names.folder().join("claims").join(namespace).join(claim)
}

/// Where the files of the claims are that a container mounts, by the path in it, the longest first. Other volumes are
/// files of programs only.
pub(super) fn claims(kubelet: &Kubelet, pod: &Value, container: &Value) -> Vec<(String, PathBuf)> {
    let claim = |mount: &Value| {
        let mut volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        let volume = volumes.find(|volume| volume["name"] == mount["name"])?;
        let claim = volume["persistentVolumeClaim"]["claimName"].as_str()?;
        let path = mount["mountPath"].as_str()?.trim_end_matches('/').to_owned();
        Some((path, claim_folder(kubelet, meta(pod, "namespace"), claim)))
    };
    let mounts = container["volumeMounts"].as_array().into_iter().flatten();
    let mut found: Vec<_> = mounts.filter_map(claim).collect();
    found.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
    found
}

/// Where the files of each mount are, by the path in the container, the longest first.
fn mounts(
    kubelet: &Kubelet,
    pod: &Value,
    container: &Value,
    folder: &Path,
) -> io::Result<Vec<(String, PathBuf)>> {
    let mut mounts = Vec::new();
    for mount in container["volumeMounts"].as_array().into_iter().flatten() {
        let (Some(name), Some(path)) = (mount["name"].as_str(), mount["mountPath"].as_str()) else {
            continue;
        };
        let mut volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        let volume = volumes.find(|volume| volume["name"] == name).unwrap_or(&Value::Null);
        let place = volume_folder(kubelet, pod, volume, &folder.join("volumes").join(name))?;
        mounts.push((path.trim_end_matches('/').to_owned(), place));
    }
    mounts.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
    Ok(mounts)
}

fn volume_folder(kubelet: &Kubelet, pod: &Value, volume: &Value, own: &Path) -> io::Result<PathBuf> {
    let namespace = meta(pod, "namespace");
    let object = |resource: &'static Resource, name: &str| {
        let found = kubelet.store().get(&ObjectKey::new(resource, namespace, name));
        found.ok_or_else(|| io::Error::other(format!("{} \"{name}\" not found", resource.singular)))
    };
    if let Some(claim) = volume["persistentVolumeClaim"]["claimName"].as_str() {
        object(&PERSISTENT_VOLUME_CLAIMS, claim)?;
        let folder = claim_folder(kubelet, namespace, claim);
        fs::create_dir_all(&folder)?;
        return Ok(folder);
    }
    fs::create_dir_all(own)?;
    if volume["emptyDir"].is_object() {
        return Ok(own.to_owned());
    }
    let texts: Vec<(String, String)> = if let Some(name) = volume["configMap"]["name"].as_str() {
        let map = object(&CONFIG_MAPS, name)?;
        let data = map["data"].as_object().into_iter().flatten();
        data.filter_map(|(key, text)| Some((key.clone(), text.as_str()?.to_owned()))).collect()
    } else if let Some(name) = volume["secret"]["secretName"].as_str() {
        let secret = object(&SECRETS, name)?;
        let data = secret["data"].as_object().into_iter().flatten();
        data.filter_map(|(key, text)| Some((key.clone(), from_base64(text.as_str()?)?))).collect()
    } else {
        return Err(io::Error::other("a volume of a kind that is not imitated"));
    };
    write_files(own, &texts)?;
    Ok(own.to_owned())
}

/// As the kubelet does it: the files are links through a folder that can be exchanged whole.
fn write_files(folder: &Path, texts: &[(String, String)]) -> io::Result<()> {
    let data = folder.join("..data");
    if data.exists() {
        return Ok(());
    }
    fs::create_dir_all(folder.join("..first"))?;
    for (key, text) in texts {
        // A key is a file name: it holds no slash.
        fs::write(folder.join("..first").join(key), text)?;
        symlink(Path::new("..data").join(key), folder.join(key))?;
    }
    symlink("..first", data)
}

/// A text in which paths below mounts are replaced by where their files are.
pub(super) fn moved(text: &str, mounts: &[(String, PathBuf)]) -> String {
    for (path, place) in mounts {
        let begins = text.find(path.as_str()).filter(|_| !path.is_empty());
        let is_path = |at: usize| {
            let (before, after) = (text[..at].chars().next_back(), text[at + path.len()..].chars().next());
            before.is_none_or(|before| before == '=') && after.is_none_or(|after| after == '/')
        };
        if let Some(at) = begins.filter(|at| is_path(*at)) {
            return format!("{}{}{}", &text[..at], place.display(), &text[at + path.len()..]);
        }
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_paths_are_moved() {
        let mounts = [("/etc/a".to_owned(), PathBuf::from("/x")), ("/r".to_owned(), PathBuf::from("/y"))];
        for (text, wanted) in [
            ("/etc/a", "/x"),
            ("--env=/etc/a/e.yaml", "--env=/x/e.yaml"),
            ("/etc/ab", "/etc/ab"),
            ("run", "run"),
            ("--out=/r", "--out=/y"),
            ("a/r", "a/r"),
        ] {
            assert_eq!(moved(text, &mounts), wanted);
        }
    }

    #[test]
    fn files_of_a_volume_are_links() {
        let folder = std::env::temp_dir().join(format!("mock-volume-{:016x}", rand::random::<u64>()));
        for _ in 0..2 {
            write_files(&folder, &[("a.yaml".to_owned(), "text".to_owned())]).unwrap();
        }
        assert_eq!(fs::read_to_string(folder.join("a.yaml")).unwrap(), "text");
        assert!(fs::symlink_metadata(folder.join("a.yaml")).unwrap().is_symlink());
        fs::remove_dir_all(folder).unwrap();
    }
}

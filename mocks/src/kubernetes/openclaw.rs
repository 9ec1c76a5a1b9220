//! openclaw in the mock cluster, as far as the state of its migration goes: its Secret, its Deployment, and the files of
//! its claim. Nothing of it runs; a script stands for its command.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::household::Household;
use super::resources::{DEPLOYMENTS, PERSISTENT_VOLUME_CLAIMS, Resource, SECRETS};
use super::rules::base64;
use super::stack::APPS;
use super::store::{ObjectKey, Writer};

/// The Deployment, its container and its claim.
pub const OPENCLAW: &str = "openclaw";
/// The Secret that its environment comes from.
pub const SECRET: &str = "openclaw-secrets";
/// Where its files are in the container.
const HOME: &str = "/home/node/.openclaw";
/// As exactly as the API tells times, and a little more.
const A_SECOND: Duration = Duration::from_millis(1050);
/// Who writes: a person.
const MANAGER: &str = "kubectl";

/// Answers as openclaw does to the two questions about its credentials. Profiles are in a file beside it.
const COMMAND: &str = r#"#!/bin/sh
here=$(dirname "$0")/..
case "$*" in
"models auth list --json") cat "$here/profiles.json" ;;
"models status --json")
  names='{"provider":"litellm"}'
  if [ -n "$ANTHROPIC_API_KEY$ANTHROPIC_OAUTH_TOKEN" ]; then
    names="$names,{\"provider\":\"anthropic\"},{\"provider\":\"claude-cli\"}"
  fi
  printf '{"auth":{"providers":[%s]}}\n' "$names" ;;
*) exit 2 ;;
esac
"#;

/// openclaw in a household that may be anywhere on its way from Anthropic to LiteLLM.
pub struct Openclaw<'h> {
    household: &'h Household,
}

impl<'h> Openclaw<'h> {
    /// Adds it as it is before the migration.
    ///
    /// # Errors
    /// Its objects are there already, or its files cannot be written.
    pub fn before(household: &'h Household, anthropic_token: &str) -> io::Result<Self> {
        let openclaw = Self { household };
        openclaw.set_secret(&[
            ("ANTHROPIC_OAUTH_TOKEN", Some(anthropic_token)),
            ("OPENAI_API_KEY", Some("sk-embed")),
        ])?;
        openclaw.write_config(&before().to_string())?;
        openclaw
            .write("profiles.json", r#"{"profiles":[{"id":"anthropic:default","provider":"anthropic"}]}"#)?;
        openclaw.make()?;
        Ok(openclaw)
    }

    /// Adds it as it is after the migration to the LiteLLM at this URL. It takes a second: a pod that is started in the
    /// second in which the Secret was changed is not known to be younger.
    ///
    /// # Errors
    /// Its objects are there already, or its files cannot be written.
    pub async fn after(household: &'h Household, litellm: &str) -> io::Result<Self> {
        let openclaw = Self { household };
        openclaw.migrate_secret(litellm)?;
        openclaw.migrate_files(litellm)?;
        tokio::time::sleep(A_SECOND).await;
        openclaw.make()?;
        Ok(openclaw)
    }

    /// Patches the Secret as the migration does; a pod that runs does not notice.
    ///
    /// # Errors
    /// It is not there.
    pub fn migrate_secret(&self, litellm: &str) -> io::Result<()> {
        self.set_secret(&[
            ("ANTHROPIC_OAUTH_TOKEN", None),
            ("LITELLM_FALLBACK_URL", Some(litellm)),
            ("OPENAI_API_KEY", Some("sk-embed")),
        ])
    }

    /// Changes configuration and profiles as the migration does.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn migrate_files(&self, litellm: &str) -> io::Result<()> {
        self.write_config(&after(litellm))?;
        self.write("profiles.json", r#"{"profiles":[]}"#)
    }

    /// Writes `openclaw.json`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_config(&self, text: &str) -> io::Result<()> {
        self.write("openclaw.json", text)
    }

    /// Sets keys of the Secret, or takes them out.
    ///
    /// # Errors
    /// It is not there.
    pub fn set_secret(&self, entries: &[(&str, Option<&str>)]) -> io::Result<()> {
        let key = ObjectKey::new(&SECRETS, APPS, SECRET);
        let store = self.household.cluster().store();
        let set = store.update(&key, Writer::of_object(MANAGER), |secret| {
            for (name, value) in entries {
                match value {
                    Some(value) => secret["data"][*name] = base64(value.as_bytes()).into(),
                    None => {
                        if let Some(data) = secret["data"].as_object_mut() {
                            data.remove(*name);
                        }
                    }
                }
            }
            Ok(())
        });
        set.map(drop).map_err(io::Error::other)
    }

    fn folder(&self) -> PathBuf {
        self.household.plane().kubelet().claim_folder(APPS, OPENCLAW)
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        fs::create_dir_all(self.folder())?;
        fs::write(self.folder().join(name), text)
    }

    fn make(&self) -> io::Result<()> {
        let bin = self.folder().join("bin");
        fs::create_dir_all(&bin)?;
        let command = bin.join("openclaw");
        fs::write(&command, COMMAND)?;
        fs::set_permissions(&command, fs::Permissions::from_mode(0o755))?;
        let claim = json!({
            "metadata": { "name": OPENCLAW },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
        });
        self.create(&PERSISTENT_VOLUME_CLAIMS, claim)?;
        let labels = json!({ "app": OPENCLAW });
        let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
        let container = json!({
            "name": OPENCLAW,
            "image": "ghcr.io/openclaw/openclaw:2026.9.6",
            "env": [{ "name": "PATH", "value": format!("{HOME}/bin:{path}") }],
            "envFrom": [{ "secretRef": { "name": SECRET } }],
            "volumeMounts": [{ "name": "state", "mountPath": HOME }],
        });
        let volumes = json!([{ "name": "state", "persistentVolumeClaim": { "claimName": OPENCLAW } }]);
        let deployment = json!({
            "metadata": { "name": OPENCLAW, "labels": labels },
            "spec": {
                "replicas": 1,
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": { "containers": [container], "volumes": volumes },
                },
            },
        });
        self.create(&DEPLOYMENTS, deployment)
    }

    fn create(&self, resource: &'static Resource, object: Value) -> io::Result<()> {
        let store = self.household.cluster().store();
        let made = store.create(resource, APPS, object, Writer::of_object(MANAGER));
        made.map(drop).map_err(io::Error::other)
    }
}

fn models() -> Value {
    let aliases = ["cloud-kimi", "cloud-minimax", "cloud-qwen3-coder", "vllm-qwen", "ollama-qwen"];
    aliases.iter().map(|alias| json!({ "id": alias, "name": alias })).collect()
}

fn before() -> Value {
    json!({
        "agents": { "defaults": {
            "model": { "primary": "anthropic/claude-opus-4-5", "fallbacks": ["anthropic/claude-sonnet-4-5"] },
            "subagents": { "model": "anthropic/claude-sonnet-4-5" },
        } },
        "auth": {
            "profiles": { "anthropic:default": { "provider": "anthropic", "mode": "token" } },
            "order": { "anthropic": ["anthropic:default"] },
        },
    })
}

/// With a comment and a comma at an end, as people write it.
fn after(litellm: &str) -> String {
    let config = json!({
        "models": { "providers": { "litellm": {
            "baseUrl": format!("{litellm}/v1"), "apiKey": "${LITELLM_MASTER_KEY}",
            "api": "openai-completions", "models": models(),
        } } },
        "agents": { "defaults": {
            "model": {
                "primary": "litellm/cloud-kimi",
                "fallbacks": ["litellm/cloud-minimax", "litellm/vllm-qwen", "litellm/ollama-qwen"],
            },
            "subagents": { "model": "litellm/cloud-qwen3-coder" },
        } },
    });
    let text = config.to_string();
    format!("// moved to LiteLLM\n{},\n}}\n", text.strip_suffix('}').unwrap_or(&text))
}

//! The state of openclaw's migration in a cluster: read from the Secret, the pod and the files in it, and from LiteLLM.
//!
//! Nothing is changed. Of the Secret only names of keys are kept, of environments only names: values are looked at where
//! they are, and never leave the container.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::Value;

use super::access::{Access, CallError};
use super::command::output;
use super::gateway::Gateway;
use crate::environment::{Cluster, Environment, ObjectName, Openclaw};
use crate::gateway::pages::Pages;
use crate::migration::{
    self, ContainerSeen, Expected, GatewayModels, Leads, OpenclawConfig, PodSeen, Profiles, SecretSeen,
    URL_VARIABLE,
};
use crate::verdict::result::MigrationLine;

/// Prints names of variables, each with whether there is anything in it (`V`); of the URLs among those that are asked about,
/// what they lead to (`L`); and the names in a `.env` that are asked about or speak of Anthropic (`F`). Arguments: the file,
/// the count of names, the names, and the URLs of LiteLLM.
const NAMES: &str = r#"BEGIN {
  count = ARGV[2] + 0
  for (i = 3; i < 3 + count; i++) asked[ARGV[i]] = 1
  for (i = 3 + count; i < ARGC; i++) url[ARGV[i]] = 1
  for (name in ENVIRON) {
    if (name !~ /^[A-Za-z_][A-Za-z0-9_.-]*$/) continue
    print "V", (ENVIRON[name] != "" ? 1 : 0), name
    if (!(name in asked)) continue
    value = ENVIRON[name]; sub(/\/+$/, "", value)
    api = value; known = sub(/\/v1$/, "", api)
    print "L", (value in url ? "root" : known && api in url ? "api" : "elsewhere"), name
  }
  while ((getline line < ARGV[1]) > 0) {
    if (!match(line, /^[ \t]*(export[ \t]+)?[A-Z_][A-Z0-9_]*[ \t]*=/)) continue
    name = substr(line, RSTART, RLENGTH)
    sub(/^[ \t]*(export[ \t]+)?/, "", name); sub(/[ \t]*=$/, "", name)
    if (name in asked || name ~ /ANTHROPIC|CLAUDE/) print "F", 1, name
  }
  exit
}"#;
/// The same of variables alone, where there is no awk.
const NAMES_IN_PYTHON: &str =
    "import os\nfor name, value in os.environ.items():\n    print('V', int(bool(value)), name)";
/// Names the files with profiles of earlier versions that speak of Anthropic.
const OLD_PROFILES: &str =
    r#"cd "$1" && grep -lE '"anthropic["/:]' agents/*/agent/auth-profiles.json 2>/dev/null; exit 0"#;

/// All facts of the migration. `gateway`: where LiteLLM is asked, or why it is not. `None` where the environment names
/// no openclaw.
pub async fn migration(
    access: &Access,
    environment: &Environment,
    gateway: Result<&Gateway, &str>,
) -> Option<Vec<MigrationLine>> {
    let cluster = environment.cluster()?;
    let openclaw = cluster.openclaw.as_ref()?;
    let expected = Expected::of(environment, Some(&openclaw.deployment.namespace));
    let (seen, behind) =
        tokio::join!(look(access, openclaw, &expected), look_behind(access, cluster, gateway));
    let (models, environment_of_gateway) = behind;
    let needed = seen.config.as_ref().map(OpenclawConfig::variables).map_err(Clone::clone);
    let mut lines = migration::secret(&openclaw.secret.to_string(), as_ref(&seen.secret), &expected);
    lines.extend(migration::container(
        as_ref(&seen.container),
        as_ref(&seen.pod),
        as_ref(&seen.profiles),
        as_ref(&needed),
        &expected,
    ));
    lines.extend(migration::config(as_ref(&seen.config), &expected, seen.container.as_ref().ok()));
    lines.extend(migration::gateway_models(as_ref(&models)));
    lines.push(migration::gateway_environment(as_ref(&environment_of_gateway)));
    Some(lines)
}

fn as_ref<T>(read: &Result<T, String>) -> Result<&T, &str> {
    read.as_ref().map_err(String::as_str)
}

/// What was read of openclaw, each or why not.
struct Seen {
    secret: Result<SecretSeen, String>,
    pod: Result<PodSeen, String>,
    container: Result<ContainerSeen, String>,
    config: Result<OpenclawConfig, String>,
    profiles: Result<Profiles, String>,
}

async fn look(access: &Access, openclaw: &Openclaw, expected: &Expected) -> Seen {
    let (secret, pod) = tokio::join!(secret(access, openclaw, expected), pod(access, openclaw));
    let (name, container, started) = match pod {
        Ok(pod) => pod,
        Err(why) => {
            return Seen {
                secret,
                pod: Err(why.clone()),
                container: Err(why.clone()),
                config: Err(why.clone()),
                profiles: Err(why),
            };
        }
    };
    let config = output(access, &name, &container, &["cat", &openclaw.config]).await;
    let config = config.and_then(|text| OpenclawConfig::read(&text).map_err(|error| error.to_string()));
    let urls = config.as_ref().map(OpenclawConfig::url_variables).unwrap_or_default();
    let needed = config.as_ref().map(OpenclawConfig::variables).unwrap_or_default();
    let folder = openclaw.config.rsplit_once('/').map_or("/", |(folder, _)| folder);
    let seen = environment_of(access, &name, &container, folder, urls.union(&needed), expected).await;
    let profiles = profiles(access, &name, &container).await;
    let (container, profiles) = match old_profiles(access, &name, &container, folder).await {
        Ok(files) => (seen.map(|seen| ContainerSeen { profile_files: files, ..seen }), profiles),
        Err(why) => (seen, profiles.and(Err(why))),
    };
    let changed = secret.as_ref().ok().and_then(|secret| secret.changed);
    Seen { secret, pod: Ok(PodSeen { pod: name.to_string(), started, changed }), container, config, profiles }
}

async fn secret(access: &Access, openclaw: &Openclaw, expected: &Expected) -> Result<SecretSeen, String> {
    let outline = access.secret_outline(&openclaw.secret, URL_VARIABLE).await;
    let outline = outline.map_err(|error| error.to_string())?;
    let leads = outline.kept.map(|url| expected.leads(url.expose()));
    Ok(SecretSeen { keys: outline.keys, leads, changed: outline.changed })
}

/// The pod that has run for longest, its container, and when that was started.
async fn pod(
    access: &Access,
    openclaw: &Openclaw,
) -> Result<(ObjectName, String, Option<Timestamp>), String> {
    let name = &openclaw.deployment;
    let words = |error: CallError| error.to_string();
    let deployment: Deployment = access.get(name).await.map_err(words)?;
    let labels = deployment.spec.and_then(|spec| spec.selector.match_labels).unwrap_or_default();
    if labels.is_empty() {
        return Err(format!("Deployment {name} does not say by labels which pods are its own"));
    }
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let pods: Vec<Pod> = access.list(Some(&name.namespace), &labels.join(",")).await.map_err(words)?;
    let running = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).filter_map(|pod| {
        let spec = pod.spec.as_ref()?;
        let container = match &openclaw.container {
            Some(container) => container.clone(),
            None => spec.containers.first()?.name.clone(),
        };
        let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
        let status = statuses.iter().find(|status| status.name == container)?;
        let running = status.state.as_ref()?.running.as_ref()?;
        let started = running.started_at.as_ref().map(|time| time.0);
        Some((ObjectName::new(&name.namespace, pod.name_any()), container, started))
    });
    let oldest = running.min_by_key(|(_, _, started)| started.unwrap_or(Timestamp::MIN));
    oldest.ok_or_else(|| match &openclaw.container {
        Some(container) => format!("no pod of Deployment {name} runs a container {container}"),
        None => format!("no pod of Deployment {name} runs"),
    })
}

/// The names in a container's environment.
async fn environment_of<'n>(
    access: &Access,
    pod: &ObjectName,
    container: &str,
    folder: &str,
    asked: impl Iterator<Item = &'n String>,
    expected: &Expected,
) -> Result<ContainerSeen, String> {
    let mut names: BTreeSet<&str> = asked.map(String::as_str).collect();
    names.insert(URL_VARIABLE);
    let (file, count) = (format!("{folder}/.env"), names.len().to_string());
    let mut command = vec!["awk", NAMES, file.as_str(), count.as_str()];
    command.extend(names);
    command.extend(expected.urls.iter().map(String::as_str));
    output(access, pod, container, &command).await.map(|text| listed(&text))
}

/// What [`NAMES`] prints.
fn listed(text: &str) -> ContainerSeen {
    let mut seen = ContainerSeen::default();
    for line in text.lines() {
        let mut words = line.splitn(3, ' ');
        let (Some(kind), Some(value), Some(name)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let name = name.to_owned();
        match (kind, value) {
            ("V", "0" | "1") => {
                seen.variables.insert(name, value == "1");
            }
            ("L", "root") => {
                seen.leads.insert(name, Leads::Root);
            }
            ("L", "api") => {
                seen.leads.insert(name, Leads::Api);
            }
            ("L", "elsewhere") => {
                seen.leads.insert(name, Leads::Elsewhere);
            }
            ("F", _) => {
                seen.in_env_file.insert(name);
            }
            _ => {}
        }
    }
    seen
}

async fn old_profiles(
    access: &Access,
    pod: &ObjectName,
    container: &str,
    folder: &str,
) -> Result<Vec<String>, String> {
    let printed = output(access, pod, container, &["sh", "-c", OLD_PROFILES, "sh", folder]).await?;
    Ok(printed.lines().map(|file| format!("a profile in {file}")).collect())
}

async fn profiles(access: &Access, pod: &ObjectName, container: &str) -> Result<Profiles, String> {
    let list = answer(access, pod, container, &["openclaw", "models", "auth", "list", "--json"]).await?;
    let status = answer(access, pod, container, &["openclaw", "models", "status", "--json"]).await?;
    Profiles::of(&list, &status)
        .ok_or_else(|| "`openclaw models status --json` does not name providers as it is known to".to_owned())
}

/// What openclaw answers in JSON; what it answers otherwise is not shown.
async fn answer(
    access: &Access,
    pod: &ObjectName,
    container: &str,
    command: &[&str],
) -> Result<Value, String> {
    let text = output(access, pod, container, command).await?;
    serde_json::from_str(&text)
        .map_err(|_| format!("`{}` in {pod} does not answer in JSON", command.join(" ")))
}

/// LiteLLM's models, and the names in its environment.
async fn look_behind(
    access: &Access,
    cluster: &Cluster,
    gateway: Result<&Gateway, &str>,
) -> (Result<GatewayModels, String>, Result<ContainerSeen, String>) {
    let gateway = match gateway {
        Ok(gateway) => gateway,
        Err(why) => return (Err(why.to_owned()), Err(why.to_owned())),
    };
    let models = async {
        let pages = Pages { url: &gateway.url, key: &gateway.key };
        let [settings, info, _] = pages.routing().await.map_err(|error| error.to_string())?;
        let models = GatewayModels::of_pages(&info, &settings);
        models.ok_or_else(|| "the gateway does not list its models as LiteLLM does".to_owned())
    };
    let names = async {
        let container = gateway.container.as_deref().unwrap_or(&cluster.gateway.deployment.name);
        let mut all = BTreeMap::new();
        for pod in &gateway.pods {
            let awk = output(access, pod, container, &["awk", NAMES, "/dev/null", "0"]).await;
            let text = match awk {
                Ok(text) => text,
                Err(_) => output(access, pod, container, &["python3", "-c", NAMES_IN_PYTHON]).await?,
            };
            all.extend(listed(&text).variables);
        }
        Ok(ContainerSeen { variables: all, ..ContainerSeen::default() })
    };
    tokio::join!(models, names)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{Leads, NAMES, NAMES_IN_PYTHON, listed};

    /// What the script prints with this environment, as it is read.
    fn printed(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> String {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", path).envs(variables.iter().copied());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }

    #[test]
    fn no_value_is_printed_and_urls_are_told_apart_where_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(".env");
        std::fs::write(
            &file,
            "export ANTHROPIC_API_KEY = canary-1\nX=canary-2\nASKED='canary-3\nCANARY4='\n",
        )
        .unwrap();
        let arguments = [
            "awk",
            NAMES,
            file.to_str().unwrap(),
            "3",
            "LITELLM_FALLBACK_URL",
            "BASE",
            "ASKED",
            "http://a:4000",
        ];
        let variables = [
            ("LITELLM_FALLBACK_URL", "http://a:4000/"),
            ("BASE", "http://a:4000/v1"),
            ("OTHER", "canary-5\nV 1 CANARY_6"),
            ("EMPTY", ""),
        ];
        let text = printed(arguments[0], &arguments[1..], &variables);
        assert!(!text.to_lowercase().contains("canary"), "{text}");
        let seen = listed(&text);
        assert!(seen.has("OTHER") && !seen.has("EMPTY") && seen.variables.contains_key("EMPTY"));
        assert_eq!(seen.leads["LITELLM_FALLBACK_URL"], Leads::Root);
        assert_eq!(seen.leads["BASE"], Leads::Api);
        assert_eq!(seen.in_env_file, ["ANTHROPIC_API_KEY".to_owned(), "ASKED".to_owned()].into());
        let elsewhere = [("BASE", "http://b:4000/v1")];
        let seen = listed(&printed(arguments[0], &arguments[1..], &elsewhere));
        assert_eq!(seen.leads["BASE"], Leads::Elsewhere);
        let seen = listed(&printed(
            "python3",
            &["-c", NAMES_IN_PYTHON],
            &[("OTHER", "canary\nV 1 X"), ("EMPTY", "")],
        ));
        assert!(seen.has("OTHER") && !seen.has("EMPTY") && !seen.variables.contains_key("X"));
    }
}

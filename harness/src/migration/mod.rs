//! Whether the move away from Anthropic is done (FR222, FR223), from what was read elsewhere.
//!
//! Pure: names and texts in, lines out. A line holds names only: no value of a Secret, of a variable or of a key.

mod agents;
mod container;
mod litellm;
mod openclaw;
mod secret;
#[cfg(test)]
mod tests;
mod words;

pub use self::container::{ContainerSeen, Leads, PodSeen, Profiles, container, gateway_environment};
pub use self::litellm::{GatewayModels, gateway_models};
pub use self::openclaw::{OpenclawConfig, Unreadable, config};
pub use self::secret::{SecretSeen, secret};
use crate::environment::Environment;
use crate::verdict::result::{MigrationLine, Standing};

/// The provider by which openclaw reaches LiteLLM.
pub const PROVIDER: &str = "litellm";
/// The variable that holds LiteLLM's key.
pub const KEY_VARIABLE: &str = "LITELLM_MASTER_KEY";
/// The variable that holds LiteLLM's URL.
pub const URL_VARIABLE: &str = "LITELLM_FALLBACK_URL";
/// The route of openclaw's main agent, and that of its coders.
const ROUTES: (&str, &str) = ("agent", "coder");
/// Why nothing is expected of a model that no route asks for.
const NO_ROUTE: &str = "the environment file has no such route, so what must be there is not known";

/// What must be true of openclaw, by what the environment says of the routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The alias that the main agent asks for; `None` without a route `agent`.
    pub primary: Option<String>,
    /// The aliases that take over, in their order.
    pub fallbacks: Vec<String>,
    /// The alias that coders ask for; `None` without a route `coder`.
    pub coder: Option<String>,
    /// Where LiteLLM is, without `/v1`, in all the ways in which openclaw may write it; empty where that is not known.
    pub urls: Vec<String>,
}

impl Expected {
    /// What an environment says. `client`: the namespace of openclaw.
    #[must_use]
    pub fn of(environment: &Environment, client: Option<&str>) -> Self {
        let agent = environment.routes.get(ROUTES.0);
        let mut urls: Vec<String> = environment.gateway.url.iter().map(|url| root(url).to_owned()).collect();
        if let Some(cluster) = environment.cluster() {
            let (service, port) = (&cluster.gateway.service, cluster.gateway.port);
            let full = format!("{}.{}", service.name, service.namespace);
            let near = (client == Some(service.namespace.as_str())).then(|| service.name.clone());
            let hosts = [format!("{full}.svc"), full.clone(), format!("{full}.svc.cluster.local")];
            urls.extend(hosts.into_iter().chain(near).map(|host| format!("http://{host}:{port}")));
        }
        Self {
            primary: agent.map(|route| route.model.clone()),
            fallbacks: agent.map(|route| route.fallbacks.clone()).unwrap_or_default(),
            coder: environment.routes.get(ROUTES.1).map(|route| route.model.clone()),
            urls,
        }
    }

    /// Every alias that openclaw must know.
    fn aliases(&self) -> impl Iterator<Item = &String> {
        self.primary.iter().chain(&self.fallbacks).chain(&self.coder)
    }

    /// The URL of the API, as it is best written.
    fn api(&self) -> Option<String> {
        self.urls.first().map(|url| format!("{url}/v1"))
    }

    /// What a URL is to LiteLLM: its root, its API, or neither.
    #[must_use]
    pub fn leads(&self, url: &str) -> Leads {
        let url = url.trim_end_matches('/');
        let known = |text: &str| self.urls.iter().any(|known| known == text);
        if known(url) {
            Leads::Root
        } else if url.strip_suffix("/v1").is_some_and(known) {
            Leads::Api
        } else {
            Leads::Elsewhere
        }
    }
}

/// A URL without its last slashes and `/v1`.
fn root(url: &str) -> &str {
    let url = url.trim_end_matches('/');
    url.strip_suffix("/v1").unwrap_or(url)
}

/// What looking at a fact came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Finding {
    Holds(String),
    Fails(String),
    NotKnown(String),
}

/// A fact before it is looked at.
struct Fact {
    requirement: &'static str,
    fact: String,
    expected: String,
    mend: String,
}

impl Fact {
    fn fr222(fact: impl Into<String>, expected: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { requirement: "FR222", fact: fact.into(), expected: expected.into(), mend: mend.into() }
    }

    fn fr223(fact: impl Into<String>, expected: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { requirement: "FR223", ..Self::fr222(fact, expected, mend) }
    }

    fn line(self, finding: Finding) -> MigrationLine {
        let (standing, found) = match finding {
            Finding::Holds(found) => (Standing::Holds, found),
            Finding::Fails(found) => (Standing::Fails, found),
            Finding::NotKnown(found) => (Standing::NotKnown, found),
        };
        let mend = (standing == Standing::Fails).then_some(self.mend);
        let Self { requirement, fact, expected, .. } = self;
        MigrationLine { requirement: requirement.to_owned(), fact, standing, expected, found, mend }
    }

    /// The line of what was read, or why it was not.
    fn of<T>(self, read: Result<&T, &str>, look: impl FnOnce(&T) -> Finding) -> MigrationLine {
        let finding = match read {
            Ok(read) => look(read),
            Err(why) => Finding::NotKnown(why.to_owned()),
        };
        self.line(finding)
    }
}

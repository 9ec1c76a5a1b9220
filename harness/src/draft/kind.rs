//! What a Deployment looks like.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Container;

/// What runs in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// LiteLLM.
    Gateway,
    /// vLLM.
    Vllm,
    /// Ollama.
    Ollama,
}

/// Images of these are beside a server, and not one.
const BESIDE: [&str; 6] = ["exporter", "operator", "ui", "webui", "init", "cli"];

impl Kind {
    /// With the word for it in names, and the port that it has unless told otherwise.
    const KNOWN: [(Self, &str, i32); 3] =
        [(Self::Gateway, "litellm", 4000), (Self::Vllm, "vllm", 8000), (Self::Ollama, "ollama", 11_434)];

    /// The word for it in names.
    pub(super) fn word(self) -> &'static str {
        Self::KNOWN.iter().find(|(kind, _, _)| *kind == self).map_or("", |(_, word, _)| word)
    }

    /// By the image, or else by a name or label together with the port.
    pub(super) fn of(deployment: &Deployment) -> Option<Self> {
        let containers = containers(deployment);
        let is_image = |word: &str| containers.iter().any(|container| is_image_of(container, word));
        if let Some((kind, _, _)) = Self::KNOWN.iter().find(|(_, word, _)| is_image(word)) {
            return Some(*kind);
        }
        let metadata = &deployment.metadata;
        let labels = metadata.labels.iter().flatten();
        let labels = labels.filter(|(key, _)| matches!(key.as_str(), "app" | "app.kubernetes.io/name"));
        let names: Vec<&str> =
            labels.map(|(_, value)| value.as_str()).chain(metadata.name.as_deref()).collect();
        let listens = |port: i32| {
            containers.iter().flat_map(|one| one.ports.iter().flatten()).any(|one| one.container_port == port)
        };
        let named = |word: &str| names.iter().any(|name| words(name).any(|part| part == word));
        let found = Self::KNOWN.iter().find(|(_, word, port)| named(word) && listens(*port));
        found.map(|(kind, _, _)| *kind)
    }

    /// The container of a Deployment that is one of this kind; the first where none says so.
    pub(super) fn container(self, deployment: &Deployment) -> Option<&Container> {
        let containers = containers(deployment);
        containers.iter().find(|one| is_image_of(one, self.word())).or_else(|| containers.first())
    }
}

fn containers(deployment: &Deployment) -> &[Container] {
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    pod.map(|pod| pod.containers.as_slice()).unwrap_or_default()
}

fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(['-', '_', '.'])
}

/// Whether an image is called so, whatever its registry, tag and digest.
fn is_image_of(container: &Container, word: &str) -> bool {
    let image = container.image.as_deref().unwrap_or_default();
    let image = image.split('@').next().unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    let name = name.split(':').next().unwrap_or_default();
    words(name).any(|part| part == word) && !words(name).any(|part| BESIDE.contains(&part))
}

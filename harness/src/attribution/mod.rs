//! Who served a reply: claims from every source, one answer by the strongest, conflicts named.
//!
//! What a model says about itself is never a source. Sources, strongest first: the upstream's own
//! journal, LiteLLM's `x-litellm-model-id`, its `x-litellm-model-group`, the body's `model`. The
//! attempted-fallbacks header is kept as a raw value and believed by nobody (it counts nesting, not hops).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::journal::{ClaimSource, ProbeRecord, UpstreamCall};

/// What the sources say together about one complete reply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Attribution {
    /// By the strongest source; `None` where none named an alias.
    pub alias: Option<String>,
    /// Sources that name another alias than the strongest does: source and its raw value.
    pub conflicts: Vec<String>,
}

/// What is known about aliases: all of them, and which upstream model stands for which.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Alias by upstream model name without provider, e.g. `kimi-k2.5` -> `cloud-kimi`.
    pub by_upstream_model: BTreeMap<String, String>,
}

impl Names {
    /// The alias that an upstream's journal speaks of.
    #[must_use]
    pub fn of_upstream(&self, model: &str) -> Option<&str> {
        self.by_upstream_model.get(model).map(String::as_str)
    }

    fn is_alias(&self, name: &str) -> bool {
        self.by_upstream_model.values().any(|alias| alias == name)
    }

    /// An alias, a `provider/model`, or an upstream model name; anything else names nobody.
    fn of_text<'a>(&'a self, text: &'a str) -> Option<&'a str> {
        if self.is_alias(text) {
            return Some(text);
        }
        let model = text.split_once('/').map_or(text, |(_, model)| model);
        self.of_upstream(text).or_else(|| self.of_upstream(model))
    }
}

/// Attribute one complete reply. `calls` are the upstreams' own records of this probe, in time order.
#[must_use]
pub fn attribute(probe: &ProbeRecord, calls: &[&UpstreamCall], names: &Names) -> Attribution {
    let mut claims: Vec<(String, String)> = Vec::new();
    // The upstream that answered last, in full, before the client had its reply.
    let served = calls.iter().rev().find(|call| call.status == Some(200));
    if let Some(alias) = served.and_then(|call| names.of_upstream(&call.model)) {
        claims.push((alias.to_owned(), format!("upstream journal of {alias}")));
    }
    for (source, word) in [
        (ClaimSource::HeaderModelId, "x-litellm-model-id"),
        (ClaimSource::HeaderModelGroup, "x-litellm-model-group"),
        (ClaimSource::BodyModel, "body model"),
    ] {
        let values = probe.claims.iter().filter(|claim| claim.source == source);
        for claim in values {
            if let Some(alias) = names.of_text(&claim.value) {
                let strongest = claims.first().map(|(alias, _)| alias.as_str());
                if source == ClaimSource::BodyModel && strongest.is_some_and(|strongest| strongest != alias) {
                    // LiteLLM stamps all chunks with the fallback that accepted the stream first, also where that
                    // one broke it before its first content and another delivered it. Not a contradiction then.
                    let asked = calls.iter().any(|call| names.of_upstream(&call.model) == Some(alias));
                    if probe.streamed && asked {
                        continue;
                    }
                }
                claims.push((alias.to_owned(), format!("{word}={}", claim.value)));
            }
        }
    }
    let alias = claims.first().map(|(alias, _)| alias.clone());
    let conflicts = claims.iter().filter(|(named, _)| Some(named) != alias.as_ref());
    let conflicts = conflicts.map(|(_, said)| said.clone()).collect();
    Attribution { alias, conflicts }
}

/// The alias that the gateway's headers name: enough for the live view, not for a verdict.
#[must_use]
pub fn by_header(probe: &ProbeRecord) -> Option<String> {
    let value =
        |source| probe.claims.iter().find(|claim| claim.source == source).map(|claim| claim.value.clone());
    value(ClaimSource::HeaderModelGroup).or_else(|| value(ClaimSource::HeaderModelId))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Claim, Outcome, Purpose};

    fn names() -> Names {
        let pairs = [("kimi-k2.5", "cloud-kimi"), ("minimax-m2.5", "cloud-minimax"), ("Qwen3", "vllm-qwen")];
        Names { by_upstream_model: pairs.map(|(model, alias)| (model.into(), alias.into())).into() }
    }

    fn probe(claims: &[(ClaimSource, &str)]) -> ProbeRecord {
        ProbeRecord {
            id: "p".into(),
            scenario: "s".into(),
            route: "agent".into(),
            purpose: Purpose::Traffic,
            model: "cloud-kimi".into(),
            streamed: false,
            fresh: true,
            intended_us: 0,
            sent_us: 0,
            headers_us: None,
            first_content_us: None,
            first_answer_us: None,
            ended_us: 10,
            status: Some(200),
            outcome: Outcome::Ok,
            claims: claims.iter().map(|&(source, value)| Claim { source, value: value.into() }).collect(),
            detail: None,
        }
    }

    fn call(model: &str, status: Option<u16>) -> UpstreamCall {
        UpstreamCall {
            component: "c".into(),
            model: model.into(),
            probe: Some("p".into()),
            received_us: 1,
            ended_us: Some(2),
            status,
        }
    }

    #[test]
    fn sources_that_agree_name_the_server() {
        use ClaimSource::{BodyModel, HeaderModelGroup, HeaderModelId};
        let probe =
            probe(&[(HeaderModelId, "vllm-qwen"), (HeaderModelGroup, "vllm-qwen"), (BodyModel, "Qwen3")]);
        let failed = call("kimi-k2.5", None);
        let served = call("Qwen3", Some(200));
        let attribution = attribute(&probe, &[&failed, &served], &names());
        assert_eq!(attribution, Attribution { alias: Some("vllm-qwen".into()), conflicts: vec![] });
    }

    #[test]
    fn a_lying_header_is_a_conflict_and_the_upstream_is_believed() {
        let probe = probe(&[(ClaimSource::HeaderModelGroup, "cloud-kimi")]);
        let served = call("minimax-m2.5", Some(200));
        let attribution = attribute(&probe, &[&served], &names());
        assert_eq!(attribution.alias.as_deref(), Some("cloud-minimax"));
        assert_eq!(attribution.conflicts, ["x-litellm-model-group=cloud-kimi"]);
    }

    #[test]
    fn chunks_stamped_with_a_hop_that_broke_are_no_contradiction() {
        let claims =
            [(ClaimSource::HeaderModelGroup, "cloud-minimax"), (ClaimSource::BodyModel, "vllm-qwen")];
        let streamed = ProbeRecord { streamed: true, ..probe(&claims) };
        let (broke, served) = (call("Qwen3", Some(200)), call("minimax-m2.5", Some(200)));
        let of = |probe: &ProbeRecord, calls: &[&UpstreamCall]| attribute(probe, calls, &names());
        let by_minimax = Attribution { alias: Some("cloud-minimax".into()), conflicts: vec![] };
        assert_eq!(of(&streamed, &[&broke, &served]), by_minimax);
        let conflicts = ["body model=vllm-qwen"];
        assert_eq!(of(&streamed, &[&served]).conflicts, conflicts, "vllm-qwen was never asked");
        assert_eq!(
            of(&probe(&claims), &[&broke, &served]).conflicts,
            conflicts,
            "a whole reply has one server"
        );
    }

    #[test]
    fn nobody_named_is_nobody() {
        let probe = probe(&[(ClaimSource::HeaderFallbacks, "1"), (ClaimSource::BodyModel, "gpt-9")]);
        assert_eq!(attribute(&probe, &[&call("Qwen3", Some(500))], &names()), Attribution::default());
    }

    #[test]
    fn a_provider_prefix_in_the_body_is_understood() {
        let probe = probe(&[(ClaimSource::BodyModel, "ollama_chat/minimax-m2.5")]);
        assert_eq!(attribute(&probe, &[], &names()).alias.as_deref(), Some("cloud-minimax"));
    }
}

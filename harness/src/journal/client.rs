//! What stands before the gateway, as the journal has it.

use serde::{Deserialize, Serialize};

use super::event::Claim;

/// openclaw before the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientStarted {
    /// Its version.
    pub version: String,
    /// How it retries: `stock` or `bounded`.
    pub retries: String,
    /// What is set that differs from how it ships.
    pub settings: Vec<String>,
}

/// One model call of openclaw to the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayCall {
    /// Probe that it was made for; `None` for what no probe has asked.
    pub probe: Option<String>,
    /// Alias asked for.
    pub model: String,
    /// When openclaw sent it.
    pub received_us: u64,
    /// When the gateway's headers came.
    pub headers_us: Option<u64>,
    /// Its end: last byte, error, or given up.
    pub ended_us: u64,
    /// The gateway's status; `None` where it never answered.
    pub status: Option<u16>,
    /// Why it did not come to its end, if so.
    pub broke: Option<String>,
    /// What the answer says about who served it: raw, unjudged.
    pub claims: Vec<Claim>,
}

/// One answer in openclaw's own transcript.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TurnTranscribed {
    /// Probe that was answered.
    pub probe: String,
    /// Alias that openclaw asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// What the gateway's stream named, where that is another: raw, unjudged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_model: Option<String>,
}

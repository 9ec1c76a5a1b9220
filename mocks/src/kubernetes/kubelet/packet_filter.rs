//! Ephemeral containers that put a packet filter into a pod's network: an nft set of addresses that are dropped, each
//! until its timeout. Nothing is run; what the command says about addresses is done to the data plane.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;

/// No timeout is longer.
const DROP_MAX: Duration = Duration::from_secs(86_400);

/// What a command puts into the filter: addresses, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Drops {
    pub(super) addresses: Vec<Ipv4Addr>,
    pub(super) within: Duration,
}

/// Reads the command of a container; none where it is not about nft and addresses with a timeout.
pub(super) fn read(container: &Value) -> Option<Drops> {
    let words = ["command", "args"].iter().flat_map(|list| container[*list].as_array().into_iter().flatten());
    let text: String = words.filter_map(Value::as_str).flat_map(|word| [word, " "]).collect();
    if !text.contains("nft") && !text.contains("drop") {
        return None;
    }
    let split = |letter: char| letter.is_whitespace() || "{},;\"'".contains(letter);
    let tokens: Vec<_> = text.split(split).filter(|token| !token.is_empty()).collect();
    let addresses: Vec<Ipv4Addr> =
        tokens.iter().filter_map(|token| token.trim_end_matches("/32").parse().ok()).collect();
    let timeouts = tokens.windows(2).filter(|pair| pair[0] == "timeout");
    let within = timeouts
        .filter_map(|pair| pair[1].trim_end_matches('s').parse().ok().map(Duration::from_secs))
        .max()?;
    (!addresses.is_empty()).then(|| Drops { addresses, within: within.min(DROP_MAX) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_and_their_timeout_are_found_in_the_command() {
        let rules = "nft add table inet drill; nft add element inet drill blk { 127.9.192.1 timeout 600s, 127.9.192.2 timeout 600s }";
        let drops = read(&json!({ "command": ["sh", "-c"], "args": [rules] })).unwrap();
        assert_eq!(drops.addresses, [Ipv4Addr::new(127, 9, 192, 1), Ipv4Addr::new(127, 9, 192, 2)]);
        assert_eq!(drops.within, Duration::from_secs(600));
        assert_eq!(read(&json!({ "command": ["sleep", "1"] })), None);
        assert_eq!(
            read(&json!({ "command": ["nft", "add element x y { 127.9.192.1 }"] })),
            None,
            "no timeout"
        );
    }
}

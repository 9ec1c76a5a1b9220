//! Ephemeral containers that put a packet filter into a pod's network: an nft set of addresses that are dropped, each
//! until its timeout. Nothing is run; what the command says about tables and addresses is done to the data plane.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::kubernetes::network::Network;

/// No timeout is longer.
const DROP_MAX: Duration = Duration::from_secs(86_400);
/// What nft says where a table is made that there is.
const EXISTS: &str = "Error: Could not process rule: File exists";

/// What a command puts into the filter: addresses, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Drops {
    addresses: Vec<Ipv4Addr>,
    pub(super) within: Duration,
}

/// What a command does to a table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    table: String,
    /// It fails where the table is there.
    creates: bool,
    /// What the table held is gone.
    deletes: bool,
    /// There is a table at its end.
    keeps: bool,
    drops: Option<Drops>,
}

/// Reads the command of a container; none where it is not about nft and a table with addresses or its end.
pub(super) fn read(container: &Value) -> Option<Command> {
    let words = ["command", "args"].iter().flat_map(|list| container[*list].as_array().into_iter().flatten());
    let text: String = words.filter_map(Value::as_str).flat_map(|word| [word, " "]).collect();
    if !text.contains("nft") && !text.contains("drop") {
        return None;
    }
    let split = |letter: char| letter.is_whitespace() || "{},;\"'".contains(letter);
    let tokens: Vec<_> = text.split(split).filter(|token| !token.is_empty()).collect();
    let of_tables: Vec<_> = tokens.windows(2).filter(|pair| pair[1] == "table").map(|pair| pair[0]).collect();
    let named = tokens.windows(3).find(|three| matches!(three[0], "table" | "element"));
    let command = Command {
        table: named.map(|three| three[2].to_owned()).unwrap_or_default(),
        creates: of_tables.contains(&"create"),
        deletes: of_tables.contains(&"delete"),
        keeps: of_tables.last() != Some(&"delete"),
        drops: drops(&tokens),
    };
    (command.deletes || command.drops.is_some()).then_some(command)
}

fn drops(tokens: &[&str]) -> Option<Drops> {
    let addresses: Vec<Ipv4Addr> =
        tokens.iter().filter_map(|token| token.trim_end_matches("/32").parse().ok()).collect();
    let timeouts = tokens.windows(2).filter(|pair| pair[0] == "timeout");
    let within = timeouts
        .filter_map(|pair| pair[1].trim_end_matches('s').parse().ok().map(Duration::from_secs))
        .max()?;
    (!addresses.is_empty()).then(|| Drops { addresses, within: within.min(DROP_MAX) })
}

/// Addresses that a pod drops packets to, until they are lifted.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) drops: Drops,
    is_on: AtomicBool,
}

impl Filter {
    async fn start(network: &Network, drops: Drops) -> Arc<Self> {
        // A gate that is shut down drops nothing.
        let _dropped = network.drop_hosts(&drops.addresses, true).await;
        Arc::new(Self { drops, is_on: AtomicBool::new(true) })
    }

    /// Lets packets through again; once, whoever comes first.
    pub(super) async fn lift(&self, network: &Network) {
        if self.is_on.swap(false, Ordering::AcqRel) {
            // A gate that is shut down drops nothing.
            let _lifted = network.drop_hosts(&self.drops.addresses, false).await;
        }
    }
}

/// The tables in the network of one pod.
#[derive(Debug, Default)]
pub(super) struct Tables(BTreeMap<String, Vec<Arc<Filter>>>);

impl Tables {
    /// Does all that a command says, or nothing; what it put there.
    ///
    /// # Errors
    ///
    /// What nft prints.
    pub(super) async fn run(
        &mut self,
        command: Command,
        network: &Network,
    ) -> Result<Option<Arc<Filter>>, &'static str> {
        if command.creates && self.0.contains_key(&command.table) {
            return Err(EXISTS);
        }
        if command.deletes {
            for filter in self.0.remove(&command.table).unwrap_or_default() {
                filter.lift(network).await;
            }
        }
        if !command.keeps {
            return Ok(None);
        }
        let filters = self.0.entry(command.table).or_default();
        let Some(drops) = command.drops else { return Ok(None) };
        let filter = Filter::start(network, drops).await;
        filters.push(Arc::clone(&filter));
        Ok(Some(filter))
    }

    /// They go with the network of their pod.
    pub(super) async fn clear(&mut self, network: &Network) {
        for filter in std::mem::take(&mut self.0).into_values().flatten() {
            filter.lift(network).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_and_their_timeout_are_found_in_the_command() {
        let rules = "nft add table inet drill; nft add element inet drill blk { 127.9.192.1 timeout 600s, 127.9.192.2 timeout 600s }";
        let command = read(&json!({ "command": ["sh", "-c"], "args": [rules] })).unwrap();
        let drops = command.drops.unwrap();
        assert_eq!(drops.addresses, [Ipv4Addr::new(127, 9, 192, 1), Ipv4Addr::new(127, 9, 192, 2)]);
        assert_eq!(drops.within, Duration::from_secs(600));
        assert_eq!(
            (command.table.as_str(), command.creates, command.deletes, command.keeps),
            ("drill", false, false, true)
        );
        assert_eq!(read(&json!({ "command": ["sleep", "1"] })), None);
        assert_eq!(
            read(&json!({ "command": ["nft", "add element x y { 127.9.192.1 }"] })),
            None,
            "no timeout"
        );
    }

    #[test]
    fn a_table_may_have_to_be_new_and_may_be_left_empty() {
        let of = |rules: &str| read(&json!({ "command": ["nft", rules] })).unwrap();
        let made = of("create table inet t; add element inet t b { 127.9.192.1 timeout 5s }");
        assert!(made.creates && !made.deletes && made.keeps && made.drops.is_some());
        let emptied = of("add table inet t; delete table inet t; add table inet t");
        assert_eq!((emptied.table.as_str(), emptied.creates, emptied.deletes), ("t", false, true));
        assert!(emptied.keeps && emptied.drops.is_none());
        assert!(!of("delete table inet t").keeps);
    }
}

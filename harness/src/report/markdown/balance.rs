//! What upstreams served against what clients got.

use super::super::escape::markdown as text;
use super::table::{Page, table};
use crate::verdict::result::Balance;

pub(super) fn write(page: &mut Page, balance: &[Balance]) {
    if balance.is_empty() {
        return;
    }
    page.heading(2, "What was served, and what arrived");
    page.paragraph(
        "Over the whole run: an upstream must have served at least what clients got from it, and what it served beyond \
         that must have a cause.",
    );
    let row = |own: &Balance| {
        let causes = own.explained.iter().map(|(cause, count)| format!("{}: {count}", text(cause)));
        let causes: Vec<_> = causes.collect();
        [
            text(&own.alias),
            text(&own.source),
            own.served.to_string(),
            own.got.to_string(),
            if causes.is_empty() { "-".to_owned() } else { causes.join(", ") },
            marked(own.missing),
            marked(own.unexplained),
        ]
    };
    let rows: Vec<_> = balance.iter().map(row).collect();
    let header = [
        "Model",
        "Counted by",
        "Served",
        "Got by clients",
        "Served besides",
        "Got, not served",
        "Not explained",
    ];
    page.block(&table(header, &rows));
}

/// What should be 0, so that it is seen where it is not.
fn marked(count: u64) -> String {
    if count == 0 { "0".to_owned() } else { format!("**{count}**") }
}

//! Counters that a server shows in Prometheus' text form: what vLLM has finished since it was started.
//!
//! They hold a model and how a request ended, and no request: their difference over a time counts answers. A counter that
//! went down was begun anew, and then says nothing of that time.

use std::collections::BTreeMap;

/// What vLLM counts for each request that has ended.
pub const VLLM_ENDED: &str = "vllm:request_success_total";
/// The label that says how it ended.
pub const VLLM_REASON: &str = "finished_reason";
/// Its value where the client had left.
pub const VLLM_LEFT: &str = "abort";
/// Beyond so many series a page is not one that anybody counts by.
const SERIES_MAX: usize = 1000;

/// One counter by the value of each of its labels.
pub type Series = BTreeMap<BTreeMap<String, String>, u64>;

/// All series of a counter on a page; none where the page does not have it.
///
/// # Errors
/// In words: one of them is not in the form, or there are too many.
pub fn series(page: &str, name: &str) -> Result<Series, String> {
    let mut all = Series::new();
    for (number, line) in (1..).zip(page.lines()) {
        let Some(rest) = line.trim().strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ', '\t']))
        else {
            continue;
        };
        let (labels, value) = sample(rest).ok_or_else(|| format!("line {number} is no sample of {name}"))?;
        let own = all.entry(labels).or_default();
        *own = own.saturating_add(value);
        if all.len() > SERIES_MAX {
            return Err(format!("more than {SERIES_MAX} series of {name}"));
        }
    }
    Ok(all)
}

/// What was added between two pages.
///
/// # Errors
/// In words: a counter went down, or is gone.
pub fn added(before: &Series, after: &Series) -> Result<Series, String> {
    let anew = "a counter went down or is gone: the server was started anew meanwhile";
    if before.iter().any(|(labels, was)| after.get(labels).is_none_or(|is| is < was)) {
        return Err(anew.to_owned());
    }
    let added = after
        .iter()
        .map(|(labels, is)| (labels.clone(), is - before.get(labels).copied().unwrap_or_default().min(*is)));
    Ok(added.collect())
}

/// The sum of all series, and of those whose label is another than this.
#[must_use]
pub fn sums(series: &Series, label: &str, other_than: &str) -> (u64, u64) {
    let (mut all, mut others) = (0_u64, 0_u64);
    for (labels, count) in series {
        all = all.saturating_add(*count);
        if labels.get(label).is_none_or(|value| value != other_than) {
            others = others.saturating_add(*count);
        }
    }
    (all, others)
}

/// `{a="b",c="d"} 12.0` or ` 12`, with a timestamp or without.
fn sample(rest: &str) -> Option<(BTreeMap<String, String>, u64)> {
    let mut labels = BTreeMap::new();
    let mut rest = rest;
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            rest = rest.trim_start_matches([' ', ',']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (name, quoted) = rest.split_once("=\"")?;
            let (value, after) = unquoted(quoted)?;
            labels.insert(name.trim().to_owned(), value);
            rest = after;
        }
    }
    let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
    // Beyond that a float no longer counts in ones.
    let is_count = (0.0..=9e15).contains(&value) && value.fract() == 0.0;
    is_count.then_some((labels, value as u64))
}

/// The text up to the closing quote, and what follows.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, character)) = chars.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            plain => value.push(plain),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{VLLM_ENDED, VLLM_LEFT, VLLM_REASON, added, series, sums};

    fn page(stop: u64, abort: u64) -> String {
        format!(
            "# HELP vllm:request_success_total Count of successfully processed requests.\n\
             # TYPE vllm:request_success_total counter\n\
             vllm:request_success_total{{engine=\"0\",finished_reason=\"stop\",model_name=\"Qwen/Qwen3\"}} {stop}.0\n\
             vllm:request_success_total{{engine=\"0\",finished_reason=\"length\",model_name=\"Qwen/Qwen3\"}} 2.0\n\
             vllm:request_success_total{{engine=\"0\",finished_reason=\"abort\",model_name=\"Qwen/Qwen3\"}} {abort}.0\n\
             vllm:request_success_created{{engine=\"0\"}} 1.7e+09\n"
        )
    }

    #[test]
    fn the_difference_of_two_pages_counts_answers() {
        let (before, after) = (series(&page(10, 1), VLLM_ENDED), series(&page(14, 3), VLLM_ENDED));
        let (before, after) = (before.unwrap(), after.unwrap());
        assert_eq!(before.len(), 3);
        let added = added(&before, &after).unwrap();
        assert_eq!(sums(&added, VLLM_REASON, VLLM_LEFT), (6, 4), "two had left");
        assert!(super::added(&after, &before).unwrap_err().contains("started anew"));
        assert!(super::added(&before, &super::Series::new()).is_err(), "it is gone");
        assert_eq!(series("vllm:other 3\n", VLLM_ENDED), Ok(super::Series::new()));
    }

    #[test]
    fn a_page_in_another_form_is_not_counted() {
        for wrong in ["{a=\"b\"}", "{a=\"b\" 3", "{a=b} 3", " -1", " 1.5", " NaN", " +Inf", " x"] {
            assert!(series(&format!("{VLLM_ENDED}{wrong}"), VLLM_ENDED).is_err(), "{wrong}");
        }
        let odd = format!("{VLLM_ENDED}{{a=\"x \\\"}} y\",}} 3 1700000000");
        let odd = series(&odd, VLLM_ENDED).unwrap();
        assert_eq!(odd.into_iter().next().unwrap(), ([("a".into(), "x \"} y".into())].into(), 3));
    }

    proptest! {
        #[test]
        fn no_page_panics(text in "(vllm:request_success_total)?[ {}\",=a-z0-9.\\\\-]{0,60}") {
            let _ = series(&text, VLLM_ENDED);
        }
    }
}

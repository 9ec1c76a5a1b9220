//! Durations, instants and counts as people read them, always rounded the same way.

use std::collections::BTreeMap;

use super::words;
use crate::verdict::result::Bracket;

/// A duration: `3.4 ms`, `212 ms`, `3.85 s`, `12.3 s`, `376 s`.
pub(super) fn duration(ms: f64) -> String {
    let unit = Unit::of(ms);
    format!("{} {}", unit.number(ms), unit.name())
}

/// How long a run took: `62 s`, `2 min 41 s`, `1 h 2 min`.
pub(super) fn elapsed(seconds: i64) -> String {
    match seconds {
        0..=90 => format!("{seconds} s"),
        91..=3_599 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// A limit, which people state in whole numbers: `5 s`, `300 ms`, else as [`duration`].
pub(super) fn limit(ms: f64) -> String {
    if ms >= 1000.0 && ms % 1000.0 == 0.0 { format!("{:.0} s", ms / 1000.0) } else { duration(ms) }
}

/// A duration beside its limit, with as many digits as it takes to tell the two apart, so that 5.004 s
/// is not shown as `5.00 s` against `5 s`.
pub(super) fn against(ms: f64, limit_ms: f64) -> String {
    let rounded = duration(ms);
    if ms == limit_ms || rounded != duration(limit_ms) {
        return rounded;
    }
    let precise = |digits: usize| (format!("{:.digits$}", ms / 1e3), format!("{:.digits$}", limit_ms / 1e3));
    (3..=6).map(precise).find(|(a, b)| a != b).map_or(rounded, |(a, _)| format!("{a} s"))
}

/// How long something took at least and at most: `3.71-3.93 s`, `3.71 s or later`.
pub(super) fn span(bracket: Bracket) -> String {
    let Bracket(lo, hi) = bracket;
    let Some(hi) = hi else { return format!("{} or later, end not seen", duration(lo)) };
    let unit = Unit::of(hi);
    range(&unit.number(lo), &unit.number(hi), unit.name())
}

/// A point in time since the run started: `312.35 s`.
pub(super) fn instant(ms: f64) -> String {
    format!("{} s", signed(ms / 1000.0, 2))
}

/// When something happened, at the earliest and at the latest: `12.31-12.33 s`.
pub(super) fn moment(bracket: Bracket) -> String {
    let Bracket(lo, hi) = bracket;
    match hi {
        Some(hi) => range(&signed(lo / 1000.0, 2), &signed(hi / 1000.0, 2), "s"),
        None => format!("after {}, end not seen", instant(lo)),
    }
}

/// The number of pieces with its noun: `1 probe`, `5 modes`.
pub(super) fn counted(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// Who answered how often: `vllm-qwen 90, cloud-kimi 6`, most first; just the name where it is one.
pub(super) fn served_by(counts: &BTreeMap<String, u64>) -> String {
    match by_count(counts).as_slice() {
        [] => "nobody".to_owned(),
        [(only, _)] => (*only).to_owned(),
        several => several.iter().map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", "),
    }
}

/// Errors by class, most first: `0`, `12 (http-500 10, client-timeout 2)`.
pub(super) fn errors(counts: &BTreeMap<String, u64>) -> String {
    let total = counts.values().fold(0_u64, |sum, n| sum.saturating_add(*n));
    let classes: Vec<_> = by_count(counts).iter().map(|(class, n)| format!("{class} {n}")).collect();
    match by_count(counts).as_slice() {
        [] => "0".to_owned(),
        [(class, _)] => format!("{total} ({class})"),
        _ => format!("{total} ({})", classes.join(", ")),
    }
}

/// Errors in words: `10 x HTTP status 500, 2 x no answer within the client timeout`.
pub(super) fn errors_in_words(counts: &BTreeMap<String, u64>) -> String {
    let classes: Vec<_> =
        by_count(counts).iter().map(|(class, n)| format!("{n} x {}", words::error_class(class))).collect();
    classes.join(", ")
}

/// Entries that were seen at all, most frequent first, then by name.
fn by_count(counts: &BTreeMap<String, u64>) -> Vec<(&str, u64)> {
    let mut seen: Vec<_> = counts.iter().filter(|(_, n)| **n > 0).map(|(k, n)| (k.as_str(), *n)).collect();
    seen.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    seen
}

/// The share of outages, in whole percent rounded down, that at least go well at 95 % confidence when
/// all of `n` independent injections went well.
pub(super) fn supported_percent(n: u64) -> u64 {
    if n == 0 {
        return 0;
    }
    let share = 0.05_f64.powf(1.0 / n as f64);
    (share * 100.0).floor() as u64
}

#[derive(Clone, Copy)]
enum Unit {
    Ms { digits: usize },
    Seconds { digits: usize },
}

impl Unit {
    /// By size after rounding, so that 999.7 ms is `1.00 s` and not `1000 ms`.
    fn of(ms: f64) -> Self {
        match ms.abs() {
            size if size < 0.05 => Self::Ms { digits: 0 },
            size if size < 9.95 => Self::Ms { digits: 1 },
            size if size < 999.5 => Self::Ms { digits: 0 },
            size if size < 9_995.0 => Self::Seconds { digits: 2 },
            size if size < 99_950.0 => Self::Seconds { digits: 1 },
            _ => Self::Seconds { digits: 0 },
        }
    }

    fn number(self, ms: f64) -> String {
        match self {
            Self::Ms { digits } => signed(ms, digits),
            Self::Seconds { digits } => signed(ms / 1000.0, digits),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ms { .. } => "ms",
            Self::Seconds { .. } => "s",
        }
    }
}

/// Rounded, without a minus before a zero.
fn signed(x: f64, digits: usize) -> String {
    let text = format!("{x:.digits$}");
    match text.strip_prefix('-') {
        Some(zero) if zero.chars().all(|c| matches!(c, '0' | '.')) => zero.to_owned(),
        _ => text,
    }
}

fn range(lo: &str, hi: &str, unit: &str) -> String {
    if lo == hi {
        format!("{lo} {unit}")
    } else if lo.starts_with('-') {
        format!("{lo} to {hi} {unit}")
    } else {
        format!("{lo}-{hi} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_three_digits_and_change_the_unit_at_a_second() {
        for (ms, shown) in [
            (0.0, "0 ms"),
            (-0.01, "0 ms"),
            (3.44, "3.4 ms"),
            (9.96, "10 ms"),
            (212.4, "212 ms"),
            (999.6, "1.00 s"),
            (3_849.6, "3.85 s"),
            (9_996.0, "10.0 s"),
            (12_340.0, "12.3 s"),
            (376_000.0, "376 s"),
            (-1_500.0, "-1.50 s"),
        ] {
            assert_eq!(duration(ms), shown, "{ms}");
        }
    }

    #[test]
    fn a_figure_just_over_its_limit_does_not_read_as_the_limit() {
        assert_eq!(against(5_004.0, 5_000.0), "5.004 s");
        assert_eq!(against(4_999.96, 5_000.0), "4.99996 s");
        assert_eq!(against(5_000.0, 5_000.0), "5.00 s");
        assert_eq!(against(3_850.0, 5_000.0), "3.85 s");
        assert_eq!((limit(5_000.0), limit(2_500.0)), ("5 s".into(), "2.50 s".into()));
    }

    #[test]
    fn brackets_share_a_unit_and_say_when_their_end_was_not_seen() {
        assert_eq!(span(Bracket(3_710.0, Some(3_930.0))), "3.71-3.93 s");
        assert_eq!(span(Bracket(900.0, Some(1_100.0))), "0.90-1.10 s");
        assert_eq!(span(Bracket(3_710.0, Some(3_711.0))), "3.71 s");
        assert_eq!(span(Bracket(-20.0, Some(100.0))), "-20 to 100 ms");
        assert_eq!(span(Bracket(3_710.0, None)), "3.71 s or later, end not seen");
        assert_eq!(moment(Bracket(312_310.0, Some(312_330.0))), "312.31-312.33 s");
    }

    #[test]
    fn elapsed_time_is_told_in_two_units_at_most() {
        assert_eq!([62, 161, 3_725].map(elapsed), ["62 s", "2 min 41 s", "1 h 2 min"]);
    }

    #[test]
    fn what_injections_support_is_rounded_down() {
        assert_eq!([0, 1, 20, 299].map(supported_percent), [0, 5, 86, 99]);
    }
}

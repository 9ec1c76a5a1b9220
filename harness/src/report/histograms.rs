//! HdrHistogram interval logs: for pictures and for merging nights, never for verdicts, because a
//! histogram of 3 significant digits reads 4.998 s as 5.001 s.

use std::collections::BTreeSet;
use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::escape::plain;
use crate::verdict::result::RouteSamples;

/// The longest time that a histogram holds, in microseconds (600 s); longer ones count as this.
const HIGHEST_US: u64 = 600_000_000;

/// One interval log (V2, compressed) for each entry, with the name of its file. The bytes depend on
/// nothing but the entry; names are unique and harmless as file names.
#[must_use]
pub fn histograms(samples: &[RouteSamples]) -> Vec<(String, Vec<u8>)> {
    let mut taken = BTreeSet::new();
    samples.iter().map(|entry| (file_name(entry, &mut taken), interval_log(entry))).collect()
}

fn interval_log(entry: &RouteSamples) -> Vec<u8> {
    let mut histogram = Histogram::<u64>::new_with_bounds(1, HIGHEST_US, 3)
        .expect("the bounds are in order and 3 digits fit");
    for &us in &entry.samples_us {
        histogram.saturating_record(us.clamp(1, HIGHEST_US));
    }
    let longest = entry.samples_us.iter().copied().max().unwrap_or(0);
    let mut log = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment(&format!(
            " Latency of scenario {}, route {}",
            plain(&entry.scenario),
            plain(&entry.route)
        ))
        .add_comment(" Unit of values: microseconds, from the intended start of a probe to its last byte")
        .add_comment(" 3 significant digits, up to 600 s; verdicts come from exact records, not from here")
        .add_comment(&format!(" Answered probes: {}", entry.samples_us.len()))
        .add_comment(&format!(" Errors are not in the histogram; there were {}", entry.errors))
        .add_comment(" Times of the intervals: seconds since the run started")
        .begin_log_with(&mut log, &mut serializer)
        .expect("writing to memory does not fail");
    writer
        .write_histogram(
            &histogram,
            Duration::from_millis(entry.start_ms),
            Duration::from_micros(longest),
            Tag::new(&file_stem(entry)),
        )
        .expect("a histogram of this size can be serialized to memory");
    log
}

fn file_name(entry: &RouteSamples, taken: &mut BTreeSet<String>) -> String {
    let stem = file_stem(entry);
    let numbered = (2..).map(|n| format!("{stem}.{n}.hlog"));
    let mut candidates = std::iter::once(format!("{stem}.hlog")).chain(numbered);
    let name = candidates.find(|name| !taken.contains(name)).expect("numbers do not run out");
    taken.insert(name.clone());
    name
}

/// `scenario.route`, with anything but letters, digits, `-` and `_` replaced, and of bounded length.
fn file_stem(entry: &RouteSamples) -> String {
    let safe = |name: &str| -> String {
        let letters = name.chars().take(80);
        letters.map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' }).collect()
    };
    format!("{}.{}", safe(&entry.scenario), safe(&entry.route))
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;

    fn entry(scenario: &str, samples_us: Vec<u64>) -> RouteSamples {
        RouteSamples {
            scenario: scenario.into(),
            route: "agent".into(),
            start_ms: 12_310,
            samples_us,
            errors: 3,
        }
    }

    #[test]
    fn a_log_reads_back_to_the_recorded_values() {
        let files = histograms(&[entry("cloud-down", vec![40_000, 0, 4_000_000, 700_000_000])]);
        let (name, bytes) = &files[0];
        assert_eq!(name, "cloud-down.agent.hlog");
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(
            text.contains("microseconds") && text.contains("Errors are not in the histogram; there were 3")
        );
        let entries: Vec<_> = IntervalLogIterator::new(bytes).map(Result::unwrap).collect();
        let [LogEntry::Interval(interval)] = entries.as_slice() else { panic!("one interval: {entries:?}") };
        assert_eq!(interval.start_timestamp(), Duration::from_millis(12_310));
        let raw = base64_decode(interval.encoded_histogram());
        let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut raw.as_slice()).unwrap();
        assert_eq!(histogram.len(), 4);
        assert!((histogram.value_at_quantile(0.75) as f64 - 4e6).abs() < 4e3);
        assert!(histogram.max() >= HIGHEST_US);
    }

    #[test]
    fn the_same_samples_in_another_order_give_the_same_bytes_and_names_never_clash() {
        let one = histograms(&[entry("a", vec![1, 2, 3]), entry("a", vec![9]), entry("../a\n", vec![])]);
        let two = histograms(&[entry("a", vec![3, 1, 2])]);
        assert_eq!(one[0].1, two[0].1);
        let names: Vec<_> = one.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a.agent.hlog", "a.agent.2.hlog", "___a_.agent.hlog"]);
    }

    /// Enough of base64 to read the log back.
    fn base64_decode(text: &str) -> Vec<u8> {
        let value = |b: u8| match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        let bits: Vec<u8> = text.bytes().filter(|b| *b != b'=').map(value).collect();
        let bytes = bits.chunks(4).flat_map(|four| {
            let word = four.iter().fold(0_u32, |word, v| word << 6 | u32::from(*v)) << (6 * (4 - four.len()));
            word.to_be_bytes()[1..four.len()].to_vec()
        });
        bytes.collect()
    }
}

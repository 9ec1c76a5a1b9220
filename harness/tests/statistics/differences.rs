//! Whether two sets of events differ, and by how much.

use harness::statistics::{EXACT_MAX, benjamini_hochberg, fisher_exact, hodges_lehmann, mann_whitney};
use proptest::prelude::*;

type Events = Vec<Option<f64>>;

fn events<const N: usize>(values: [f64; N]) -> Events {
    values.map(Some).to_vec()
}

fn close(is: f64, should: f64) {
    assert!((is - should).abs() < 1e-9, "{is} should be {should}");
}

#[test]
fn ranks_are_compared_as_scipy_does() {
    let (first, second) = (events([1.2, 3.4, 2.2, 5.1, 4.4]), events([6.1, 2.9, 7.7, 8.0, 5.5, 9.2]));
    close(mann_whitney(&first, &second), 0.030_303_030_303_030_304);
    let first = events([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
    let second = events([11.0, 12.0, 13.0, 4.5, 14.0, 15.0, 16.0, 17.0, 18.0, 19.0]);
    close(mann_whitney(&first, &second), 0.000_324_752_646_734_070_85);
    // At three a side no p-value is smaller than this.
    close(mann_whitney(&events([1.0, 2.0, 3.0]), &events([4.0, 5.0, 6.0])), 0.1);
    // As many as are counted out, and more of the same, all different.
    let steps = |count: u32, step: u32, wrap: u32, from: f64| -> Events {
        (0..count).map(|event| Some(f64::from(event * step % wrap) * 10.0 + from)).collect()
    };
    assert_eq!(EXACT_MAX, 40);
    close(mann_whitney(&steps(20, 37, 101, 0.0), &steps(20, 53, 97, 151.5)), 0.288_767_063_724_746_14);
    close(mann_whitney(&steps(30, 37, 101, 0.0), &steps(30, 53, 97, 151.5)), 0.141_277_506_440_491_56);
    let spread = |count: u32, step: u32, wrap: u32, scale: f64, from: f64| -> Events {
        (0..count).map(|event| Some(f64::from(event * step % wrap) / scale + from)).collect()
    };
    // More than EXACT_MAX together: normal, without and with many ties.
    let (first, second) = (spread(40, 37, 101, 10.0, 1.0), spread(35, 53, 97, 10.0, 2.0));
    close(mann_whitney(&first, &second), 0.489_957_767_968_397_1);
    let (first, second) = (spread(40, 7, 10, 1.0, 0.0), spread(35, 3, 11, 1.0, 0.0));
    close(mann_whitney(&first, &second), 0.704_925_905_046_63);
}

#[test]
fn what_never_ended_ranks_last() {
    let first = events([1.0, 2.0, 3.0, 4.0]);
    let never = vec![None; 4];
    close(mann_whitney(&first, &never), mann_whitney(&first, &events([9.0, 9.0, 9.0, 9.0])));
    assert_eq!(hodges_lehmann(&first, &never), Some(f64::INFINITY));
    assert_eq!(hodges_lehmann(&never, &first), Some(f64::NEG_INFINITY));
    assert_eq!(hodges_lehmann(&never, &never), Some(0.0));
    assert_eq!(mann_whitney(&never, &never), 1.0);
    assert_eq!((mann_whitney(&[], &first), hodges_lehmann(&[], &first)), (1.0, None));
}

#[test]
fn a_shift_is_the_median_of_all_differences() {
    assert_eq!(hodges_lehmann(&events([1.0, 2.0]), &events([4.0, 7.0])), Some(4.0), "of 2, 3, 5, 6");
    assert_eq!(hodges_lehmann(&events([5.0]), &events([1.0, 2.0, 9.0])), Some(-3.0));
}

/// The example of Benjamini and Hochberg's paper, table of section 3.2: four of fifteen at 5 %.
#[test]
fn many_tests_at_once_are_corrected() {
    let p_values = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719,
        0.6528, 0.7590, 1.0,
    ];
    let believed = benjamini_hochberg(&p_values, 0.05);
    assert_eq!(believed.iter().filter(|believed| **believed).count(), 4);
    assert_eq!(benjamini_hochberg(&[0.01, f64::NAN], 0.01), [false, false], "0.01 of two tests");
    assert!(benjamini_hochberg(&[], 0.05).is_empty());
}

#[test]
fn misses_are_compared_as_scipy_does() {
    close(fisher_exact((1, 10), (11, 14)), 0.002_759_456_185_220_083_5);
    close(fisher_exact((0, 20), (5, 20)), 0.047_124_047_124_047_13);
    close(fisher_exact((3, 20), (3, 20)), 1.0);
    close(fisher_exact((0, 30), (1, 30)), 1.0);
    close(fisher_exact((8, 10), (1, 6)), 0.034_965_034_965_034_975);
    assert_eq!([fisher_exact((0, 0), (1, 1)), fisher_exact((0, 9), (0, 9))], [1.0, 1.0]);
}

/// In how many of all ways of drawing the first set the rank sum is as far from its mean.
fn counted_out(first: &[Option<f64>], second: &[Option<f64>]) -> f64 {
    let all: Vec<f64> = first.iter().chain(second).map(|value| value.unwrap_or(f64::INFINITY)).collect();
    let rank = |value: f64| {
        let below = all.iter().filter(|other| **other < value).count() as f64;
        below + (all.iter().filter(|other| **other == value).count() as f64 + 1.0) / 2.0
    };
    let ranks: Vec<f64> = all.iter().map(|value| rank(*value)).collect();
    let mean = first.len() as f64 * (all.len() as f64 + 1.0) / 2.0;
    let seen = (ranks[..first.len()].iter().sum::<f64>() - mean).abs();
    let (mut far, mut ways) = (0_u32, 0_u32);
    for drawn in 0_u32..1 << all.len() {
        if drawn.count_ones() as usize == first.len() {
            let sum: f64 =
                (0..all.len()).filter(|place| drawn >> place & 1 == 1).map(|place| ranks[place]).sum();
            ways += 1;
            far += u32::from((sum - mean).abs() >= seen - 1e-9);
        }
    }
    f64::from(far) / f64::from(ways)
}

/// Few values, so that many are alike, and some that never ended.
fn some_events(most: usize) -> impl Strategy<Value = Events> {
    prop::collection::vec(prop::option::weighted(0.85, (0_u8..8).prop_map(f64::from)), 1..most)
}

proptest! {
    #[test]
    fn the_rank_test_is_what_counting_gives(first in some_events(6), second in some_events(6)) {
        let (is, should) = (mann_whitney(&first, &second), counted_out(&first, &second));
        prop_assert!((is - should).abs() < 1e-9, "{is} should be {should}");
    }

    #[test]
    fn neither_side_is_preferred(first in some_events(40), second in some_events(60)) {
        let (one, other) = (mann_whitney(&first, &second), mann_whitney(&second, &first));
        prop_assert!((one - other).abs() < 1e-9 && (0.0..=1.0).contains(&one), "{one} {other}");
        prop_assert_eq!(hodges_lehmann(&first, &second), hodges_lehmann(&second, &first).map(|shift| -shift));
    }

    #[test]
    fn a_shift_is_found(values in prop::collection::vec(0_u16..1000, 1..20), by in 0_u16..500) {
        let first: Events = values.iter().map(|value| Some(f64::from(*value))).collect();
        let second: Events = values.iter().map(|value| Some(f64::from(value + by))).collect();
        prop_assert_eq!(hodges_lehmann(&first, &second), Some(f64::from(by)));
    }

    /// Believed values are the smallest, none above the rate; one test alone is not corrected.
    #[test]
    fn the_smallest_are_believed_first(p_values in prop::collection::vec(0.0_f64..=1.0, 1..40), rate in 0.001_f64..0.2) {
        let believed = benjamini_hochberg(&p_values, rate);
        let pairs = || p_values.iter().zip(&believed);
        for (p, _) in pairs().filter(|(_, believed)| **believed) {
            prop_assert!(*p <= rate);
            prop_assert!(pairs().filter(|(other, _)| *other <= p).all(|(_, believed)| *believed));
        }
        // What holds against the number of all tests is believed in any company.
        prop_assert!(pairs().filter(|(p, _)| **p <= rate / p_values.len() as f64).all(|(_, believed)| *believed));
        prop_assert_eq!(benjamini_hochberg(&p_values[..1], rate)[0], p_values[0] <= rate);
    }

    /// By adding up all tables with the same sums.
    #[test]
    fn fishers_test_is_what_counting_gives(of in 1_u64..25, other in 1_u64..25, a in 0_u64..25, b in 0_u64..25) {
        let (missed, other_missed) = (a.min(of), b.min(other));
        let is = fisher_exact((missed, of), (other_missed, other));
        let choose = |n: u64, k: u64| (0..k).fold(1.0, |ways, i| ways * (n - i) as f64 / (i + 1) as f64);
        let all = missed + other_missed;
        let weight = |first: u64| choose(of, first) * choose(other, all - first);
        let tables: Vec<f64> = (all.saturating_sub(other)..=all.min(of)).map(weight).collect();
        let rare = tables.iter().filter(|table| **table <= weight(missed) * (1.0 + 1e-7)).sum::<f64>();
        let should = rare / tables.iter().sum::<f64>();
        prop_assert!((is - should).abs() < 1e-6, "{is} should be {should}");
    }
}

//! What may be said of all outages by those that were seen.

use harness::statistics::{Bound, CONFIDENCE, at_least, needed, quantile_at_most};
use proptest::prelude::*;

fn close(is: f64, should: f64) {
    assert!((is - should).abs() < 1e-9, "{is} should be {should}");
}

#[test]
fn the_share_that_goes_well_is_bounded_as_in_tables() {
    // scipy 1.x: beta.ppf(1 - confidence, well, of - well + 1).
    close(at_least(19, 20, 0.95), 0.783_893_835_793_152_6);
    close(at_least(18, 20, 0.95), 0.717_381_475_114_139_2);
    close(at_least(5, 10, 0.95), 0.222_441_101_008_129_42);
    close(at_least(295, 300, 0.99), 0.956_892_508_011_792_4);
    close(at_least(1, 10, 0.95), 0.005_116_196_891_823_705);
    close(at_least(20, 20, 0.95), 0.05_f64.powf(0.05));
    assert_eq!([at_least(0, 20, 0.95), at_least(0, 0, 0.95)], [0.0, 0.0]);
}

/// The table of section 2.6 of the measurement design; MLPerf's early stopping has the same 459 and 662.
#[test]
fn so_many_events_are_needed_for_a_claim() {
    let with_misses =
        |share, confidence| [0, 1, 2, 3, 5].map(|missed| needed(share, missed, confidence).unwrap());
    assert_eq!(with_misses(0.9, 0.95), [29, 46, 61, 76, 103]);
    assert_eq!(with_misses(0.95, 0.95), [59, 93, 124, 153, 208]);
    assert_eq!(with_misses(0.99, 0.95), [299, 473, 628, 773, 1049]);
    assert_eq!(with_misses(0.99, 0.99), [459, 662, 838, 1001, 1307]);
    assert_eq!(with_misses(0.999, 0.95), [2995, 4742, 6294, 7752, 10511]);
    assert_eq!(needed(1.0, 0, 0.95), None, "no number of outages shows that all go well");
}

#[test]
fn a_quantile_has_a_bound_only_from_so_many_events_on() {
    let events = |count: u32| (1..=count).map(|event| Some(f64::from(event))).collect::<Vec<_>>();
    for (quantile, enough) in [(0.5, 5), (0.9, 29), (0.95, 59), (0.99, 299)] {
        let too_few = quantile_at_most(&events(enough - 1), quantile, CONFIDENCE);
        assert_eq!(too_few, Bound::TooFew { needed: u64::from(enough) });
        assert_eq!(quantile_at_most(&events(enough), quantile, CONFIDENCE), Bound::AtMost(f64::from(enough)));
    }
    // Of 60 values the 59th bounds no 95 % quantile yet: P(Binomial(60, 0.95) <= 58) = 0.81.
    assert_eq!(quantile_at_most(&events(60), 0.95, CONFIDENCE), Bound::AtMost(60.0));
    // P(Binomial(100, 0.5) <= 57) = 0.933, <= 58 = 0.956.
    assert_eq!(quantile_at_most(&events(100), 0.5, CONFIDENCE), Bound::AtMost(59.0));
    assert_eq!(quantile_at_most(&[], 0.9, CONFIDENCE), Bound::TooFew { needed: 29 });
}

#[test]
fn what_never_ended_bounds_nothing() {
    let mut events: Vec<Option<f64>> = (0..28).map(|event| Some(f64::from(event))).collect();
    events.push(None);
    assert_eq!(quantile_at_most(&events, 0.9, CONFIDENCE), Bound::Never);
    assert_eq!(quantile_at_most(&events, 0.5, CONFIDENCE), Bound::AtMost(19.0), "the 20th of 29");
}

proptest! {
    /// More of them well claims more, more misses claim less, and no bound is above what was seen.
    #[test]
    fn a_bound_grows_with_what_went_well(of in 1_u64..400, missed in 0_u64..20, confidence in 0.5_f64..0.999) {
        let well = of.saturating_sub(missed);
        let bound = at_least(well, of, confidence);
        prop_assert!((0.0..=1.0).contains(&bound));
        prop_assert!(bound <= well as f64 / of as f64 + 1e-9 || confidence < 0.6);
        prop_assert!(at_least(well + 1, of + 1, confidence) >= bound - 1e-9);
        prop_assert!(at_least(well, of + 1, confidence) <= bound + 1e-9);
    }

    /// With that share the chance of seeing so many or more go well is just what is left of the confidence.
    #[test]
    fn a_bound_is_exact(of in 1_u64..60, missed in 0_u64..10) {
        let well = of.saturating_sub(missed);
        prop_assume!(well > 0);
        let share = at_least(well, of, 0.95);
        let (mut chance, mut ways) = (0.0, 1.0);
        for failed in 0..=(of - well) {
            chance += ways * share.powf((of - failed) as f64) * (1.0 - share).powf(failed as f64);
            ways *= (of - failed) as f64 / (failed + 1) as f64;
        }
        prop_assert!((chance - 0.05).abs() < 1e-6, "{chance}");
    }

    /// A bound is one of the values, not below the quantile of what was seen, and rises with it.
    #[test]
    fn a_bound_of_a_quantile_is_a_value_that_was_seen(
        events in prop::collection::vec(prop::option::weighted(0.95, 0.0_f64..10_000.0), 0..120),
        quantile in 0.05_f64..0.99,
    ) {
        match quantile_at_most(&events, quantile, CONFIDENCE) {
            Bound::AtMost(value) => {
                prop_assert!(events.contains(&Some(value)));
                let below = events.iter().filter(|event| event.is_some_and(|event| event <= value)).count();
                prop_assert!(below as f64 >= quantile * events.len() as f64 - 1e-9);
            }
            Bound::Never => prop_assert!(events.contains(&None)),
            Bound::TooFew { needed } => prop_assert!((events.len() as u64) < needed),
        }
    }
}

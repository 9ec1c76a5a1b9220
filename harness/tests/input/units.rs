//! Periods and rates: what is shown reads back as the same value.

use std::time::Duration;

use harness::units::{Period, PeriodError, Rate, RateError};
use proptest::prelude::*;

#[test]
fn periods_are_read_as_people_write_them() {
    for (text, nanos, shown) in [
        ("300ms", 300_000_000, "300ms"),
        ("5s", 5_000_000_000, "5s"),
        ("1.5s", 1_500_000_000, "1500ms"),
        ("90s", 90_000_000_000, "90s"),
        ("120s", 120_000_000_000, "2m"),
        ("15m", 900_000_000_000, "15m"),
        ("1h", 3_600_000_000_000, "1h"),
        ("0.001us", 1, "1ns"),
        ("0h", 0, "0s"),
    ] {
        let period: Period = text.parse().unwrap();
        assert_eq!((period.0, period.to_string().as_str()), (Duration::from_nanos(nanos), shown), "{text}");
    }
    for (text, error) in [
        ("", PeriodError::NoNumber),
        ("s", PeriodError::NoNumber),
        (".5s", PeriodError::NoNumber),
        ("5.s", PeriodError::NoNumber),
        ("1.2.3s", PeriodError::NoNumber),
        ("5", PeriodError::NoUnit),
        ("5 s", PeriodError::UnknownUnit),
        ("5S", PeriodError::UnknownUnit),
        ("5d", PeriodError::UnknownUnit),
        ("-5s", PeriodError::Negative),
        ("0.5ns", PeriodError::OutOfRange),
        ("99999999999999999999h", PeriodError::OutOfRange),
        ("1.00000000000000000000000000000000000000000000001h", PeriodError::OutOfRange),
    ] {
        assert_eq!(text.parse::<Period>(), Err(error), "{text}");
    }
}

#[test]
fn rates_are_read_as_people_write_them() {
    for (text, per_second, shown) in [
        ("8/s", 8.0, "8/s"),
        ("0.5/s", 0.5, "30/m"),
        ("20/m", 20.0 / 60.0, "20/m"),
        ("1/h", 1.0 / 3600.0, "1/h"),
    ] {
        let rate: Rate = text.parse().unwrap();
        assert_eq!((rate.per_second(), rate.to_string().as_str()), (per_second, shown), "{text}");
    }
    for (text, error) in [
        ("8", RateError::NoUnit),
        ("8/d", RateError::NoUnit),
        ("/s", RateError::NoNumber),
        ("fast/s", RateError::NoNumber),
        ("inf/s", RateError::NoNumber),
        ("nan/s", RateError::NoNumber),
        ("1e3/s", RateError::NoNumber),
        ("0/s", RateError::NotPositive),
        ("0.0/s", RateError::NotPositive),
        ("-1/s", RateError::NotPositive),
    ] {
        assert_eq!(text.parse::<Rate>(), Err(error), "{text}");
    }
    assert_eq!("4/s".parse::<Rate>().unwrap().interval(), Duration::from_millis(250));
    assert_eq!(Rate::new(1e-300).unwrap().interval(), Duration::MAX);
    assert_eq!((Rate::new(0.0), Rate::new(f64::NAN), Rate::new(f64::INFINITY)), (None, None, None));
}

proptest! {
    #[test]
    fn a_period_reads_back(seconds in prop_oneof![0_u64..200_000, any::<u64>()], nanos in prop_oneof![Just(0_u32), (0_u32..1000).prop_map(|ms| ms * 1_000_000), 0_u32..1_000_000_000]) {
        let period = Period(Duration::new(seconds, nanos));
        prop_assert_eq!(period.to_string().parse(), Ok(period));
        let json = serde_json::to_string(&period).unwrap();
        prop_assert_eq!(serde_json::from_str::<Period>(&json).unwrap(), period);
    }

    #[test]
    fn a_rate_reads_back(per_second in prop_oneof![(1_u32..5000).prop_map(|n| f64::from(n) / 60.0), 1e-9..1e9, any::<f64>()]) {
        if let Some(rate) = Rate::new(per_second) {
            prop_assert_eq!(rate.to_string().parse(), Ok(rate));
            let json = serde_json::to_string(&rate).unwrap();
            prop_assert_eq!(serde_json::from_str::<Rate>(&json).unwrap(), rate);
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}|[0-9.]{1,30}(h|m|s|ms|/s|/m)?") {
        let _ = text.parse::<Period>();
        let _ = text.parse::<Rate>();
    }
}

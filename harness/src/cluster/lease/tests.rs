use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use proptest::prelude::*;

use super::{Claim, Holder, LASTS_MAX, Life, Now, Terms, Watch, name, released, written};

fn now(monotonic_ms: u64, wall_ms: i64) -> Now {
    Now {
        monotonic: Duration::from_millis(monotonic_ms),
        wall: Timestamp::from_millisecond(1_795_000_000_000 + wall_ms).unwrap(),
    }
}

fn holder(id: &str) -> Holder {
    Holder { id: id.to_owned(), machine: "attic".to_owned(), purpose: "run".to_owned() }
}

fn lease(read: Option<&Lease>, id: &str, wall_ms: i64) -> Lease {
    written(read, &name("ml"), &holder(id), &Terms::default(), now(0, wall_ms).wall)
}

#[test]
fn times_of_a_lease_have_six_digits_of_a_second() {
    let lease = serde_json::to_value(lease(None, "run-1", 120)).unwrap();
    let time = lease["spec"]["renewTime"].as_str().unwrap();
    let (_, fraction) = time.split_once('.').unwrap();
    assert_eq!(fraction.len(), "120000Z".len(), "{time}");
    assert_eq!(lease["spec"]["holderIdentity"], "run-1");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 15);
}

#[test]
fn a_renewal_keeps_since_when_and_a_takeover_counts() {
    let first = lease(None, "run-1", 0);
    let renewed = lease(Some(&first), "run-1", 5000);
    let taken = lease(Some(&renewed), "run-2", 30_000);
    let spec = |lease: &Lease| lease.spec.clone().unwrap();
    assert_eq!(spec(&renewed).acquire_time, spec(&first).acquire_time);
    assert_ne!(spec(&renewed).renew_time, spec(&first).renew_time);
    assert_eq!((spec(&renewed).lease_transitions, spec(&taken).lease_transitions), (Some(0), Some(1)));
    assert_ne!(spec(&taken).acquire_time, spec(&first).acquire_time);
    assert_eq!(Claim::of(&released(&taken)), None, "nobody holds what was released");
}

#[test]
fn a_claim_says_who_and_where_and_drives_no_terminal() {
    let mut lease = lease(None, "run\u{1b}[2J", 0);
    lease.metadata.annotations.as_mut().unwrap().insert(super::MACHINE.to_owned(), "x".repeat(4000));
    let claim = Claim::of(&lease).unwrap();
    assert!(!claim.words().contains('\u{1b}'), "{}", claim.words());
    assert!(claim.words().len() < 500, "{}", claim.words());
    assert_eq!(Claim::of(&Lease::default()), None);
}

#[test]
fn a_holder_is_watched_for_as_long_as_its_lease_lasts_by_our_own_clock() {
    let held = lease(None, "run-1", 0);
    let claim = Claim::of(&held).unwrap();
    // Its clock is a day behind: that says nothing.
    let watch = Watch::new(claim.clone(), now(1000, 86_400_000));
    assert_eq!(watch.judge(&claim, now(15_900, 0)), Life::Unknown);
    assert_eq!(watch.judge(&claim, now(16_001, 0)), Life::Over);
    let renewed = Claim::of(&lease(Some(&held), "run-1", 5000)).unwrap();
    assert_eq!(watch.judge(&renewed, now(3000, 0)), Life::Lives);
}

#[test]
fn nobody_waits_for_a_lease_that_lasts_for_hours_and_it_is_not_taken() {
    let mut claim = Claim::of(&lease(None, "somebody", 0)).unwrap();
    claim.lasts = Duration::from_secs(7200);
    let watch = Watch::new(claim.clone(), now(0, 0));
    assert_eq!(watch.judge(&claim, now(1000, 0)), Life::Unknown);
    assert_eq!(watch.judge(&claim, now(LASTS_MAX.as_millis() as u64, 0)), Life::Lives);
}

proptest! {
    #[test]
    fn the_clock_that_says_more_counts(monotonic in 0..100_000_u64, wall in -100_000..100_000_i64) {
        let gap = now(monotonic, wall).since(now(0, 0));
        prop_assert!(gap >= Duration::from_millis(monotonic));
        prop_assert!(gap >= Duration::from_millis(wall.unsigned_abs()));
    }

    #[test]
    fn whoever_renews_is_never_taken_for_dead(renewed_at in 1..15_000_u64, looked_after in 0..100_000_u64) {
        let held = lease(None, "run-1", 0);
        let watch = Watch::new(Claim::of(&held).unwrap(), now(0, 0));
        let renewed = Claim::of(&lease(Some(&held), "run-1", i64::try_from(renewed_at).unwrap())).unwrap();
        prop_assert_eq!(watch.judge(&renewed, now(renewed_at + looked_after, 0)), Life::Lives);
    }
}

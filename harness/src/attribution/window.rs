//! What carries no mark of its probe is of the only turn that was in flight then; where several were, of none.

/// The only one of these that was in flight at an instant: each with when it began and ended.
#[must_use]
pub fn only_one<T>(turns: impl IntoIterator<Item = (T, u64, u64)>, at_us: u64) -> Option<T> {
    let mut in_flight = turns.into_iter().filter(|(_, from_us, to_us)| (*from_us..=*to_us).contains(&at_us));
    let (only, ..) = in_flight.next()?;
    in_flight.next().is_none().then_some(only)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_mark_is_of_the_only_turn_in_flight_and_else_of_none() {
        let turns = [("a", 10, 20), ("b", 15, 30)];
        assert_eq!(only_one(turns, 9), None);
        assert_eq!(only_one(turns, 10), Some("a"));
        assert_eq!(only_one(turns, 15), None, "two were");
        assert_eq!(only_one(turns, 20), None, "two were");
        assert_eq!(only_one(turns, 21), Some("b"));
        assert_eq!(only_one(turns, 31), None);
    }
}

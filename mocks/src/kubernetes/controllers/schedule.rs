//! Schedules of CronJobs: five fields, as cron has them.

use jiff::Zoned;

/// A schedule: for each field the values at which it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    fields: [u64; 5],
    /// Whether day of month and day of week are both given: then either is enough.
    either_day: bool,
}

const BOUNDS: [(u32, u32); 5] = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];
const NAMES: [(usize, &[&str]); 2] = [
    (3, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    (4, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

impl Schedule {
    /// Reads `minute hour day month weekday`, or one of the names for them that begin with `@`.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let text = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            text => text,
        };
        let words: Vec<_> = text.split_whitespace().collect();
        let words: [&str; 5] = words.try_into().ok()?;
        let mut fields = [0; 5];
        for (at, word) in words.iter().enumerate() {
            for part in word.split(',') {
                fields[at] |= values(at, part)?;
            }
        }
        // Sunday has two numbers.
        if fields[4] & (1 << 7) != 0 {
            fields[4] |= 1;
        }
        let is_given = |word: &str| !word.starts_with(['*', '?']);
        Some(Self { fields, either_day: is_given(words[2]) && is_given(words[4]) })
    }

    /// Whether a Job starts at this minute.
    pub(crate) fn holds(&self, at: &Zoned) -> bool {
        let is_in = |field: usize, value: i8| {
            u32::try_from(value).is_ok_and(|value| self.fields[field] >> value & 1 == 1)
        };
        let (day, weekday) = (is_in(2, at.day()), is_in(4, at.weekday().to_sunday_zero_offset()));
        let on_day = if self.either_day { day || weekday } else { day && weekday };
        is_in(0, at.minute()) && is_in(1, at.hour()) && is_in(3, at.month()) && on_day
    }
}

/// `*`, `7`, `1-5`, `mon`, each of them with `/3` perhaps.
fn values(field: usize, part: &str) -> Option<u64> {
    let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
    let step: u32 = step.map_or(Some(1), |step| step.parse().ok().filter(|step| *step > 0))?;
    let (first, last) = match range {
        "*" | "?" => BOUNDS[field],
        _ => match range.split_once('-') {
            Some((first, last)) => (value(field, first)?, value(field, last)?),
            // `5/15` goes on to the end.
            None if part.contains('/') => (value(field, range)?, BOUNDS[field].1),
            None => (value(field, range)?, value(field, range)?),
        },
    };
    let step = usize::try_from(step).ok()?;
    (first <= last).then(|| (first..=last).step_by(step).fold(0, |all, value| all | 1 << value))
}

fn value(field: usize, text: &str) -> Option<u32> {
    let named = NAMES.iter().find(|(at, _)| *at == field).and_then(|(_, names)| {
        let place = names.iter().position(|name| name.eq_ignore_ascii_case(text))?;
        u32::try_from(place).ok().map(|place| place + BOUNDS[field].0)
    });
    let value = named.or_else(|| text.parse().ok())?;
    (BOUNDS[field].0..=BOUNDS[field].1).contains(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(schedule: &str, at: &str) -> bool {
        Schedule::read(schedule).unwrap().holds(&at.parse::<Zoned>().unwrap())
    }

    #[test]
    fn times_are_those_of_cron() {
        // A Thursday.
        let at = "2026-01-01T03:30:00[UTC]";
        for right in [
            "* * * * *",
            "30 3 * * *",
            "*/15 * * * thu",
            "0-40/10 1-4 1 jan *",
            "30 3 1 * mon",
            "5/25 * * * *",
        ] {
            assert!(holds(right, at), "{right}");
        }
        for wrong in ["31 * * * *", "* 4 * * *", "* * * feb *", "* * * * 0,7", "*/20 * * * *", "30 3 2 * mon"]
        {
            assert!(!holds(wrong, at), "{wrong}");
        }
        assert!(holds("@daily", "2026-01-01T00:00:00[UTC]") && !holds("@hourly", at));
    }

    #[test]
    fn what_is_no_schedule_is_none() {
        for wrong in [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "*/0 * * * *",
            "5-1 * * * *",
            "@never",
            "x * * * *",
            "-1 * * * *",
        ] {
            assert_eq!(Schedule::read(wrong), None, "{wrong}");
        }
    }
}

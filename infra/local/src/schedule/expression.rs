//! Schedule expressions, `rate(…)` and `cron(…)`. Names of days and months, `L`, `W` and `#` are refused.

use jiff::civil::{DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

/// How many minutes ahead the next match of a cron is searched (two years). Without a match, the schedule ends.
const FURTHEST: u32 = 2 * 366 * 24 * 60;

/// When a schedule invokes its function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    /// At this interval.
    Rate(SignedDuration),
    /// In every minute that matches all six fields.
    Cron(Box<[Field; 6]>),
}

/// The allowed values of a cron field. `None` allows any value.
type Field = Option<Vec<i16>>;

impl Expression {
    /// Parses an EventBridge expression, with the syntax of rules if `of_rule` is true, else with that of the
    /// scheduler.
    pub(super) fn parse(text: &str, of_rule: bool) -> Result<Self, String> {
        let inner = |kind: &str| {
            text.trim()
                .strip_prefix(kind)?
                .strip_prefix('(')?
                .strip_suffix(')')
        };
        match (inner("rate"), inner("cron")) {
            (Some(rate), _) => parse_rate(rate, of_rule),
            (None, Some(cron)) => parse_cron(cron),
            (None, None) => {
                Err("write for example rate(5 minutes) or cron(0 12 * * ? *)".to_owned())
            }
        }
    }

    /// Returns the next time after `last`, or `None` if there is none.
    pub(super) fn after(&self, last: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Rate(every) => last.checked_add(*every).ok(),
            Self::Cron(fields) => {
                let start = TimeZone::UTC.to_datetime(last);
                let mut minute = start.with().second(0).subsec_nanosecond(0).build().ok()?;
                for _ in 0..FURTHEST {
                    minute = minute.checked_add(1.minute()).ok()?;
                    if fits(fields, minute) {
                        return TimeZone::UTC.to_timestamp(minute).ok();
                    }
                }
                None
            }
        }
    }
}

/// Parses a rate. A rule accepts `1 minute` and `5 minutes`, but neither `1 minutes` nor `5 minute` (EventBridge user
/// guide, rate expressions). The scheduler accepts all of them.
fn parse_rate(text: &str, of_rule: bool) -> Result<Expression, String> {
    let refused =
        || format!("`{text}` is not a rate; write for example rate(1 minute) or rate(5 minutes)");
    let (number, unit) = text.trim().split_once(' ').ok_or_else(refused)?;
    let number: i64 = number
        .parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(refused)?;
    let unit = unit.trim();
    let (singular, is_plural) = unit
        .strip_suffix('s')
        .map_or((unit, false), |singular| (singular, true));
    if of_rule && is_plural == (number == 1) {
        return Err(refused());
    }
    let minutes = match singular {
        "minute" => number,
        "hour" => number * 60,
        "day" => number * 24 * 60,
        _ => return Err(refused()),
    };
    Ok(Expression::Rate(SignedDuration::from_mins(minutes)))
}

fn parse_cron(text: &str) -> Result<Expression, String> {
    let fields: Vec<_> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday, year] = fields.as_slice() else {
        return Err(
            "cron takes six fields: minute, hour, day of month, month, day of week, year"
                .to_owned(),
        );
    };
    // "You must use a ? in the other" (EventBridge user guide, cron expressions): exactly one of the two fields is `?`.
    if (*day == "?") == (*weekday == "?") {
        return Err(
            "exactly one of day of month and day of week must be `?`: cron(0 12 * * ? *)"
                .to_owned(),
        );
    }
    Ok(Expression::Cron(Box::new([
        parse_field(minute, 0, 59)?,
        parse_field(hour, 0, 23)?,
        parse_field(day, 1, 31)?,
        parse_field(month, 1, 12)?,
        parse_field(weekday, 1, 7)?,
        parse_field(year, 1970, 2199)?,
    ])))
}

fn parse_field(text: &str, least: i16, most: i16) -> Result<Field, String> {
    if text == "*" || text == "?" {
        return Ok(None);
    }
    let refused = || {
        format!(
            "the local gateway does not support `{text}`; use numbers from {least} to {most}, * ? , - and /"
        )
    };
    let number = |text: &str| {
        text.parse()
            .ok()
            .filter(|n| (least..=most).contains(n))
            .ok_or_else(refused)
    };
    let mut values = Vec::new();
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (
                range,
                step.parse()
                    .ok()
                    .filter(|step| *step > 0)
                    .ok_or_else(refused)?,
            ),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (number(from)?, number(to)?),
            None if range == "*" => (least, most),
            None if part.contains('/') => (number(range)?, most),
            None => (number(range)?, number(range)?),
        };
        values.extend((from..=to).step_by(step));
    }
    Ok(Some(values))
}

fn fits(fields: &[Field; 6], time: DateTime) -> bool {
    // Sunday is 1 (EventBridge user guide, cron expressions).
    let weekday = i16::from(time.weekday().since(Weekday::Sunday)) + 1;
    let now = [
        i16::from(time.minute()),
        i16::from(time.hour()),
        i16::from(time.day()),
        i16::from(time.month()),
        weekday,
        time.year(),
    ];
    fields
        .iter()
        .zip(now)
        .all(|(field, now)| field.as_ref().is_none_or(|values| values.contains(&now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(expression: &str, last: &str) -> String {
        let expression = Expression::parse(expression, true).unwrap();
        expression.after(last.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn rate_adds_interval() {
        assert_eq!(
            next("rate(1 minute)", "2026-01-31T12:00:30Z"),
            "2026-01-31T12:01:30Z"
        );
        assert_eq!(
            next("rate(2 hours)", "2026-01-31T12:00:00Z"),
            "2026-01-31T14:00:00Z"
        );
    }

    #[test]
    fn cron_follows_calendar() {
        assert_eq!(
            next("cron(* * * * ? *)", "2026-01-31T12:00:30Z"),
            "2026-01-31T12:01:00Z"
        );
        assert_eq!(
            next("cron(0/15 * * * ? *)", "2026-01-31T12:16:00Z"),
            "2026-01-31T12:30:00Z"
        );
        assert_eq!(
            next("cron(0 9 1 * ? *)", "2026-01-31T12:00:00Z"),
            "2026-02-01T09:00:00Z"
        );
        // The start is a Saturday, so the next Sunday is the day after.
        assert_eq!(
            next("cron(30 6 ? * 1 *)", "2026-01-31T12:00:00Z"),
            "2026-02-01T06:30:00Z"
        );
    }

    #[test]
    fn unsupported_expressions_are_refused() {
        for expression in [
            "rate(0 minutes)",
            "rate(1 week)",
            "rate(1 minutes)",
            "rate(5 minute)",
            "rate(1 minutess)",
            "cron(* * * *)",
            "cron(0 0 L * ? *)",
            "cron(0 12 * * * *)",
            "cron(0 12 1 * 1 *)",
            "cron(0 12 * * 1 *)",
            "cron(0 12 ? * ? *)",
            "at(2026-01-01)",
        ] {
            let parsed = Expression::parse(expression, true);
            assert!(parsed.is_err(), "{expression}");
        }
    }

    #[test]
    fn scheduler_accepts_either_unit_form() {
        for expression in ["rate(1 minutes)", "rate(5 minute)"] {
            assert!(Expression::parse(expression, false).is_ok(), "{expression}");
        }
        assert!(Expression::parse("cron(0 12 * * * *)", false).is_err());
    }
}

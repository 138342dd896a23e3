//! Points in time in milliseconds, as used on the wire and in the tables.

use alloc::{format, string::String};
use core::{fmt, time::Duration};

use jiff::fmt::temporal::Pieces;
use serde::{Deserialize, Serialize, Serializer, de};

/// Milliseconds since 1970-01-01T00:00:00Z. On the wire a time is RFC 3339 in UTC with milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Returns the time that is `millis` milliseconds after the epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns the time that is `seconds` seconds after the epoch, or `None` if the text of a time cannot express it.
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Option<Self> {
        let time = jiff::Timestamp::from_second(seconds).ok()?;
        Some(Self(time.as_millisecond()))
    }

    /// Parses an RFC 3339 time.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let time = text.parse::<jiff::Timestamp>().ok()?;
        // jiff parses the fractions of its last second, but makes no time of their milliseconds.
        let time = jiff::Timestamp::from_millisecond(time.as_millisecond()).ok()?;
        Some(Self(time.as_millisecond()))
    }

    /// Parses an RFC 3339 time until which something is kept. Callers write `9999-12-31T23:59:59Z` for "always", but the
    /// service can express times until 9999-12-30T22:00:00Z only. A later time counts as that one.
    #[must_use]
    pub fn parse_end(text: &str) -> Option<Self> {
        Self::parse(text).or_else(|| {
            let parts = Pieces::parse(text).ok()?;
            let is_last =
                parts.date().year() == 9999 && parts.time().is_some() && parts.offset().is_some();
            let last = Self::from_seconds(jiff::Timestamp::MAX.as_second());
            last.filter(|_| is_last)
        })
    }

    /// Returns the milliseconds since the epoch.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Returns the seconds since the epoch, rounded up, so that a time to live never ends early.
    #[must_use]
    pub const fn seconds_up(self) -> i64 {
        self.0.saturating_add(999).div_euclid(1_000)
    }

    /// Returns the time that is `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// Returns the time that is `seconds` seconds later.
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000)))
    }

    /// Returns the duration until `later`, or zero if `later` is past.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No clock and no table of the service has a time outside jiff's range, the years -9999 to 9999.
        let time = jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        write!(f, "{time:.3}")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{self}"))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("not an RFC 3339 time"))
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn timestamp_displays_as_rfc_3339() {
        assert_eq!(
            Timestamp::from_millis(1_708_326_702_789).to_string(),
            "2024-02-19T07:11:42.789Z"
        );
        assert_eq!(
            Timestamp::from_millis(0).to_string(),
            "1970-01-01T00:00:00.000Z"
        );
    }

    #[test]
    fn inexpressible_seconds_are_refused() {
        let last = Timestamp::from_seconds(253_402_207_200).unwrap();
        assert_eq!(last.to_string(), "9999-12-30T22:00:00.000Z");
        for seconds in [253_402_207_201, 253_402_300_799, i64::MAX, i64::MIN] {
            assert_eq!(Timestamp::from_seconds(seconds), None);
        }
    }

    #[test]
    fn inexpressible_end_is_latest_time() {
        for text in [
            "9999-12-30T22:00:00.001Z",
            "9999-12-31T23:59:59Z",
            "9999-12-31T00:00:00.000-23:00",
        ] {
            assert_eq!(Timestamp::parse(text), None);
            let end = Timestamp::parse_end(text).unwrap();
            assert_eq!(end.to_string(), "9999-12-30T22:00:00.000Z", "{text}");
        }
        let text = "2024-02-19T07:11:42.789Z";
        assert_eq!(Timestamp::parse_end(text), Timestamp::parse(text));
        for bad in [
            "",
            "tomorrow",
            "9999-12-31",
            "9999-12-31T23:59:59",
            "9999-13-01T00:00:00Z",
            "10000-01-01T00:00:00Z",
        ] {
            assert_eq!(Timestamp::parse_end(bad), None, "{bad}");
        }
    }
}

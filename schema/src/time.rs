//! Points in time, as events carry them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Microseconds of a UTC day. There are no leap seconds in this time.
pub const DAY_MICROS: i64 = 86_400_000_000;

/// Microseconds since 1970-01-01T00:00:00Z, written as RFC 3339 with six decimals and `Z`, the form that
/// `audit.k8s.io` uses for its micro times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A text that is not an RFC 3339 point in time.
#[derive(Debug, thiserror::Error)]
#[error("not an RFC 3339 time: {0:?}")]
pub struct InvalidTimestamp(String);

impl Timestamp {
    /// The latest and earliest representable times keep every conversion total: years 0 to 9999.
    const MICROS_MIN: i64 = -62_167_219_200_000_000;
    const MICROS_MAX: i64 = 253_402_300_799_999_999;

    /// From microseconds since the Unix epoch; clamped to the years 0 to 9999.
    pub fn from_micros(micros: i64) -> Self {
        Self(micros.clamp(Self::MICROS_MIN, Self::MICROS_MAX))
    }

    /// Microseconds since the Unix epoch.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since the Unix epoch, rounded down.
    pub fn as_millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This time moved by `micros` microseconds, clamped to the representable years.
    pub fn plus_micros(self, micros: i64) -> Self {
        Self::from_micros(self.0.saturating_add(micros))
    }

    /// The UTC day as `YYYY-MM-DD`, the form of the `dt` partition.
    pub fn day(self) -> String {
        let date = self.to_jiff().to_zoned(jiff::tz::TimeZone::UTC).date();
        format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day())
    }

    /// The beginning of the UTC day `YYYY-MM-DD`; `None` for a day that does not exist.
    pub fn beginning_of(day: &str) -> Option<Self> {
        format!("{day}T00:00:00.000000Z").parse().ok()
    }

    /// Days since the Unix epoch.
    pub fn day_number(self) -> i64 {
        self.0.div_euclid(DAY_MICROS)
    }

    /// Written by hand: this runs three times for every event, and formatting machinery costs ten times as much.
    fn written(self) -> Written {
        let days = self.day_number();
        let micros = self.0.rem_euclid(DAY_MICROS);
        let (year, month, day) = civil_from_days(days);
        let seconds = micros / 1_000_000;
        let mut written = Written(*b"0000-00-00T00:00:00.000000Z");
        written.digits(0, 4, year);
        written.digits(5, 7, month);
        written.digits(8, 10, day);
        written.digits(11, 13, seconds / 3600);
        written.digits(14, 16, seconds / 60 % 60);
        written.digits(17, 19, seconds % 60);
        written.digits(20, 26, micros % 1_000_000);
        written
    }

    fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.0).expect("clamped to the years 0 to 9999")
    }
}

/// The text form of a time, on the stack.
struct Written([u8; TEXT_BYTES]);

/// `2026-11-22T10:00:00.000000Z`.
const TEXT_BYTES: usize = 27;

impl Written {
    fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("digits and punctuation")
    }

    /// Writes `value` with as many digits as fit between `from` and `to`.
    fn digits(&mut self, from: usize, to: usize, mut value: i64) {
        for place in self.0[from..to].iter_mut().rev() {
            *place = b'0' + u8::try_from(value % 10).expect("a digit");
            value /= 10;
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.written().as_str())
    }
}

/// Days since the Unix epoch to year, month, day in the proleptic Gregorian calendar (eras of 400 years that
/// begin on March 1st, so that the leap day is the last day of its year).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        if let Some(micros) = parse_own_form(text.as_bytes()) {
            return Ok(Self::from_micros(micros));
        }
        let parsed: jiff::Timestamp = text
            .parse()
            .map_err(|_| InvalidTimestamp(text.to_owned()))?;
        Ok(Self::from_micros(parsed.as_microsecond()))
    }
}

/// Reads exactly the form that [`Timestamp`] writes; anything else is left to the general parser.
fn parse_own_form(text: &[u8]) -> Option<i64> {
    let [
        y0,
        y1,
        y2,
        y3,
        b'-',
        m0,
        m1,
        b'-',
        d0,
        d1,
        b'T',
        h0,
        h1,
        b':',
        i0,
        i1,
        b':',
        s0,
        s1,
        b'.',
        fraction @ ..,
        b'Z',
    ] = text
    else {
        return None;
    };
    if fraction.len() != 6 {
        return None;
    }
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0i64, |sum, d| {
            d.is_ascii_digit().then(|| sum * 10 + i64::from(d - b'0'))
        })
    };
    let (year, month, day) = (
        number(&[*y0, *y1, *y2, *y3])?,
        number(&[*m0, *m1])?,
        number(&[*d0, *d1])?,
    );
    let (hour, minute, second) = (
        number(&[*h0, *h1])?,
        number(&[*i0, *i1])?,
        number(&[*s0, *s1])?,
    );
    if !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_from_civil(year, month, day);
    if civil_from_days(days) != (year, month, day) {
        return None;
    }
    Some((days * 86_400 + hour * 3600 + minute * 60 + second) * 1_000_000 + number(fraction)?)
}

/// The inverse of [`civil_from_days`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.written().as_str())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "format": "date-time",
            "description": "RFC 3339 in UTC with microseconds"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times_are_written_as_rfc_3339() {
        assert_eq!(
            Timestamp::from_micros(0).to_string(),
            "1970-01-01T00:00:00.000000Z"
        );
        assert_eq!(
            Timestamp::from_micros(-1).to_string(),
            "1969-12-31T23:59:59.999999Z"
        );
        assert_eq!(
            Timestamp::from_micros(951_782_400_000_001).to_string(),
            "2000-02-29T00:00:00.000001Z"
        );
        assert_eq!(
            Timestamp::from_micros(i64::MAX).to_string(),
            "9999-12-31T23:59:59.999999Z"
        );
    }

    #[test]
    fn other_rfc_3339_forms_are_read() {
        let utc: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let offset: Timestamp = "2026-11-22T12:00:00+02:00".parse().unwrap();
        assert_eq!(utc, offset);
        assert!("2026-02-30T00:00:00.000000Z".parse::<Timestamp>().is_err());
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    proptest! {
        #[test]
        fn agrees_with_the_general_printer_and_parser(micros in Timestamp::MICROS_MIN..=Timestamp::MICROS_MAX) {
            let time = Timestamp::from_micros(micros);
            let text = time.to_string();
            prop_assert_eq!(text.parse::<Timestamp>().unwrap(), time);
            prop_assert_eq!(text.parse::<jiff::Timestamp>().unwrap().as_microsecond(), micros);
            prop_assert_eq!(&text[..10], time.day());
        }
    }
}

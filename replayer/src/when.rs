//! Points in time and durations, as people write and read them.

use hoop_schema::Timestamp;
use jiff::tz::TimeZone;

/// A text that says no point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no point in time: write 2026-11-22T10:00:00Z, 2026-11-22, today, yesterday, or how long ago, such as 1h or 30m"
)]
pub struct NoPointInTime(String);

/// How times are shown.
#[derive(Debug, Clone)]
pub struct Clock {
    /// The time now.
    pub now: Timestamp,
    /// The zone of days and hours.
    pub zone: TimeZone,
}

impl Clock {
    /// Reads what a person wrote for a point in time.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(&self, text: &str) -> Result<Timestamp, NoPointInTime> {
        let invalid = || NoPointInTime(text.to_owned());
        let trimmed = text.trim();
        if let Ok(time) = trimmed.parse::<Timestamp>() {
            return Ok(time);
        }
        let days_ago = match trimmed {
            "now" => return Ok(self.now),
            "today" => Some(0),
            "yesterday" => Some(1),
            _ => None,
        };
        if let Some(days) = days_ago {
            let today = self.zoned(self.now).date();
            let day = today
                .checked_sub(jiff::Span::new().days(days))
                .map_err(|_| invalid())?;
            return self.start_of(day).ok_or_else(invalid);
        }
        if let Ok(day) = trimmed.parse::<jiff::civil::Date>() {
            return self.start_of(day).ok_or_else(invalid);
        }
        let ago = trimmed.strip_suffix("ago").unwrap_or(trimmed).trim();
        let ago = humantime::parse_duration(ago).map_err(|_| invalid())?;
        let micros = i64::try_from(ago.as_micros()).map_err(|_| invalid())?;
        Ok(self.now.plus_micros(-micros))
    }

    /// The second, with the date: `2026-11-22 10:00:05`.
    pub fn long(&self, time: Timestamp) -> String {
        self.zoned(time).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// The minute, with the day: `Nov 22 10:00`.
    pub fn short(&self, time: Timestamp) -> String {
        self.zoned(time).strftime("%b %d %H:%M").to_string()
    }

    /// The second of the day: `10:00:05`.
    pub fn of_day(&self, time: Timestamp) -> String {
        self.zoned(time).strftime("%H:%M:%S").to_string()
    }

    /// Where these hours are: `UTC`, or the offset such as `+02:00`.
    pub fn zone_name(&self, time: Timestamp) -> String {
        if self.zone == TimeZone::UTC {
            return "UTC".into();
        }
        self.zoned(time).strftime("%:z").to_string()
    }

    fn zoned(&self, time: Timestamp) -> jiff::Zoned {
        let time = jiff::Timestamp::from_microsecond(time.as_micros())
            .expect("a time of an event lies within the years 0 to 9999");
        time.to_zoned(self.zone.clone())
    }

    fn start_of(&self, day: jiff::civil::Date) -> Option<Timestamp> {
        let start = day.to_zoned(self.zone.clone()).ok()?;
        Some(Timestamp::from_micros(start.timestamp().as_microsecond()))
    }
}

/// A duration in at most five characters or so: `3ms`, `1.2s`, `4m05s`, `2h03m`, `3d04h`.
pub fn duration(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    match seconds {
        0 if micros < 1000 => format!("{micros}µs"),
        0 => format!("{}ms", micros / 1000),
        1..60 => format!("{seconds}.{}s", micros / 100_000 % 10),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A number of bytes in at most seven characters: `812 B`, `1.5 KB`, `23 MB`.
pub fn bytes(n: u64) -> String {
    let mut value = n;
    for unit in ["B", "KB", "MB", "GB"] {
        if value < 1000 || unit == "GB" {
            return format!("{value} {unit}");
        }
        if value < 10_000 {
            let next = match unit {
                "B" => "KB",
                "KB" => "MB",
                _ => "GB",
            };
            return format!("{}.{} {next}", value / 1000, value / 100 % 10);
        }
        value /= 1000;
    }
    format!("{n} B")
}

/// A number with commas: `2,000,000`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 file`, `2 files`.
pub fn counted(n: u64, one: &str) -> String {
    format!("{} {one}{}", count(n), if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Clock {
        Clock {
            now: "2026-11-22T10:00:00Z".parse().unwrap(),
            zone: TimeZone::fixed(jiff::tz::offset(2)),
        }
    }

    #[test]
    fn people_write_times_in_many_ways() {
        for (text, time) in [
            ("2026-11-22T09:00:00Z", "2026-11-22T09:00:00Z"),
            ("1h", "2026-11-22T09:00:00Z"),
            ("90m ago", "2026-11-22T08:30:00Z"),
            ("today", "2026-11-21T22:00:00Z"),
            ("yesterday", "2026-11-20T22:00:00Z"),
            ("2026-11-20", "2026-11-19T22:00:00Z"),
            ("now", "2026-11-22T10:00:00Z"),
        ] {
            assert_eq!(
                clock().parse(text).unwrap(),
                time.parse().unwrap(),
                "{text}"
            );
        }
        assert!(clock().parse("soon").is_err());
        assert!(clock().parse("-1h").is_err());
    }

    #[test]
    fn durations_and_sizes_are_short() {
        let shown: Vec<String> = [
            7,
            7_000,
            1_250_000,
            245_000_000,
            7_400_000_000,
            270_000_000_000,
        ]
        .into_iter()
        .map(duration)
        .collect();
        assert_eq!(shown, ["7µs", "7ms", "1.2s", "4m05s", "2h03m", "3d03h"]);
        let shown: Vec<String> = [812, 1_550, 23_000_000, 4_200_000_000]
            .into_iter()
            .map(bytes)
            .collect();
        assert_eq!(shown, ["812 B", "1.5 KB", "23 MB", "4.2 GB"]);
        assert_eq!(count(2_000_000), "2,000,000");
    }
}

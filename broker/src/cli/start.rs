//! Where reading starts, as people write it.

use bongsu_client::{Position, Start, Time};

/// Reads `latest`, `earliest`, `last=N`, `EPOCH:OFFSET`, `@MILLISECONDS` or a time of RFC 3339.
pub(super) fn parse(text: &str) -> Result<Start, String> {
    let wrong = || {
        format!(
            "{text:?} is none of: latest, earliest, last=N, EPOCH:OFFSET, @MILLISECONDS since 1970, 2026-01-31T12:00:00Z"
        )
    };
    if let Some(n) = text.strip_prefix("last=") {
        return n.parse().map(Start::Last).map_err(|_| wrong());
    }
    if let Some(milliseconds) = text.strip_prefix('@') {
        return milliseconds.parse().map(|it| Start::Time(Time(it))).map_err(|_| wrong());
    }
    match text {
        "latest" => Ok(Start::Latest),
        "earliest" => Ok(Start::Earliest),
        _ => {
            let position = text.parse::<Position>().ok().map(Start::After);
            let time = || rfc3339(text).map(|it| Start::Time(Time(it)));
            position.or_else(time).ok_or_else(wrong)
        }
    }
}

/// RFC 3339, 5.6, from 1970 on, as milliseconds since then. A leap second counts as the second before it.
fn rfc3339(text: &str) -> Option<u64> {
    let (date, clock) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-')?;
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let days_in_month = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if date.len() != 10 || !(1..=12).contains(&month) || !(1..=days_in_month).contains(&day) {
        return None;
    }
    let zone = clock.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = clock.split_at(zone);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(clock, ':')?;
    if clock.len() != 8 || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let milliseconds: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let offset_minutes = match zone.split_at(1) {
        ("Z" | "z", "") => 0,
        (sign, offset) if offset.len() == 5 => {
            let (hours, minutes) = offset.split_once(':')?;
            let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
            if !(0..=23).contains(&hours) || !(0..=59).contains(&minutes) {
                return None;
            }
            (hours * 60 + minutes) * if sign == "-" { -1 } else { 1 }
        }
        _ => return None,
    };
    let minutes = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    u64::try_from((minutes * 60 + second.min(59)) * 1000 + milliseconds).ok()
}

/// Three numbers without signs.
fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == separator as u8) {
        return None;
    }
    let mut parts = text.split(separator);
    let mut next = || parts.next()?.parse().ok();
    let numbers = [next()?, next()?, next()?];
    parts.next().is_none().then_some(numbers)
}

/// Days from 1970-01-01 in the Gregorian calendar: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // A year that begins in March has its leap day last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(milliseconds: u64) -> Option<Start> {
        Some(Start::Time(Time(milliseconds)))
    }

    #[test]
    fn starts_are_read_as_the_help_says() {
        for (text, expected) in [
            ("latest", Some(Start::Latest)),
            ("earliest", Some(Start::Earliest)),
            ("last=10", Some(Start::Last(10))),
            ("3:17", Some(Start::After(Position::new(3, 17)))),
            ("@1700000000000", time(1_700_000_000_000)),
            ("1970-01-01T00:00:00Z", time(0)),
            ("2000-02-29T12:34:56.789Z", time(951_827_696_789)),
            ("2026-01-31T12:00:00+02:00", time(1_769_853_600_000)),
            ("2026-01-31 12:00:00.5-00:30", time(1_769_862_600_500)),
            ("2016-12-31T23:59:60Z", time(1_483_228_799_000)),
            ("", None),
            ("first", None),
            ("last=", None),
            ("last=-1", None),
            ("@", None),
            ("3:", None),
            ("2026-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-01-31T24:00:00Z", None),
            ("2026-01-31T12:00:00", None),
            ("2026-01-31", None),
            ("1969-12-31T23:59:59Z", None),
            ("2026-01-31T12:00:00.Z", None),
            ("2026-01-31T12:00:00+0200", None),
            ("99999999999999999999-01-01T00:00:00Z", None),
            ("2026-01-31T12:00:00+é", None),
        ] {
            assert_eq!(parse(text).ok(), expected, "{text:?}");
        }
    }
}

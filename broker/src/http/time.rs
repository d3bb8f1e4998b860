//! Times as RFC 3339 writes them.

/// Milliseconds since 1970 of a time such as `2026-11-22T15:04:05.5+09:00`; `None` if it is none, or before 1970.
pub(super) fn parse(text: &str) -> Option<u64> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, rest) = rest.split_at_checked(8)?;
    let [year, month, day] = fields(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = fields(clock, ':', [2, 2, 2])?;
    let (milliseconds, zone) = fraction(rest)?;
    let is_date = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    // A leap second counts as the one before it, as everywhere.
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second.min(59);
    u64::try_from((seconds - offset_seconds(zone)?) * 1000 + milliseconds).ok()
}

/// Three numbers of so many digits.
fn fields(text: &str, between: char, digits: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(between);
    let mut numbers = [0; 3];
    for (number, n_digits) in numbers.iter_mut().zip(digits) {
        *number = digits_of(parts.next()?, n_digits)?;
    }
    parts.next().is_none().then_some(numbers)
}

fn digits_of(text: &str, n_digits: usize) -> Option<i64> {
    let is_number = text.len() == n_digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// The milliseconds of `.123456`, and what follows.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let n_digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, zone) = rest.split_at_checked(n_digits)?;
    let milliseconds: String = digits.chars().chain("000".chars()).take(3).collect();
    if digits.is_empty() { None } else { Some((milliseconds.parse().ok()?, zone)) }
}

/// The seconds by which a zone's clocks are ahead.
fn offset_seconds(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hour, minute) = zone.get(1..)?.split_once(':')?;
    let (hour, minute) = (digits_of(hour, 2)?, digits_of(minute, 2)?);
    (hour <= 23 && minute <= 59).then_some(sign * (hour * 3600 + minute * 60))
}

const fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Howard Hinnant's `days_from_civil`: years begin in March, so that a leap day is the last of its year.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_any_zone() {
        assert_eq!(parse("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse("2024-02-29T12:00:00.5z"), Some(1_709_208_000_500));
        assert_eq!(parse("2026-11-22T15:04:05+09:00"), parse("2026-11-22T06:04:05.000000Z"));
        assert_eq!(parse("2000-03-01T00:00:00Z"), Some(951_868_800_000));
        assert_eq!(parse("1970-01-01T00:00:00-01:00"), Some(3_600_000));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "not-a-timestamp",
            "2026-11-22",
            "2026-11-22T15:04:05",
            "2026-13-22T15:04:05Z",
            "2026-02-29T15:04:05Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T15:04:05.Z",
            "2026-11-22T15:04:05+9:00",
            "2026-11-22T15:04:05ZZ",
            "1969-12-31T23:59:59Z",
            "2026-11-22T15:04:0é",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

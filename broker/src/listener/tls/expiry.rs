//! Until when a certificate is valid: one field of X.509, on the way to which everything else is skipped.

/// When the certificate ends, in seconds since 1970; `None` if that cannot be read. Only shown: whether a certificate is valid is for clients.
pub(super) fn not_after(certificate: &[u8]) -> Option<u64> {
    // RFC 5280, 4.1: Certificate ::= SEQUENCE { tbsCertificate SEQUENCE { [0] version, serialNumber, signature, issuer, validity, … } … }
    let (_, certificate, _) = element(certificate)?;
    let (_, mut fields, _) = element(certificate)?;
    if fields.first() == Some(&0xa0) {
        (_, _, fields) = element(fields)?;
    }
    for _ in ["serialNumber", "signature", "issuer"] {
        (_, _, fields) = element(fields)?;
    }
    let (_, validity, _) = element(fields)?;
    let (_, _, rest) = element(validity)?;
    let (kind, time, _) = element(rest)?;
    let text = std::str::from_utf8(time).ok()?;
    let (year, rest) = match kind {
        // UTCTime: two digits of the year, from 1950.
        0x17 => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: u64 = number(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        // GeneralizedTime: four.
        0x18 => {
            let (year, rest) = text.split_at_checked(4)?;
            (number(year)?, rest)
        }
        _ => return None,
    };
    let part = |at: usize| number(rest.get(at..at + 2)?);
    let (month, day, hour, minute, second) = (part(0)?, part(2)?, part(4)?, part(6)?, part(8)?);
    if rest.get(10..) != Some("Z") || !(1..=12).contains(&month) || year < 1970 {
        return None;
    }
    let days = days_until(year, month) + day.checked_sub(1)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// The kind of the first element (DER), its contents, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (n_bytes, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        // The length of the length: up to four bytes, for more than any certificate has.
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(n_bytes)?;
    Some((*kind, contents, rest))
}

fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Days from the beginning of 1970 to that of a month.
fn days_until(year: u64, month: u64) -> u64 {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let lengths = [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    years + lengths.iter().zip(1..month).map(|(days, _)| days).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(year: i32, month: u8, day: u8) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.not_before = date_time_ymd(1975, 1, 1);
        params.not_after = date_time_ymd(year, month, day);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_forms_of_times() {
        for ((year, month, day), expected) in [
            ((2024, 3, 1), 1_709_251_200),
            ((2038, 1, 19), 2_147_472_000),
            ((2049, 12, 31), 2_524_521_600),
            // Written with four digits.
            ((2050, 1, 1), 2_524_608_000),
            ((2100, 3, 1), 4_107_542_400),
        ] {
            assert_eq!(not_after(&certificate(year, month, day)), Some(expected), "{year}-{month}-{day}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_certificate_or_not(bytes in any::<Vec<u8>>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let _ = not_after(&bytes);
            let mut broken = certificate(2038, 1, 19);
            let at = at.index(broken.len());
            broken[at] = byte;
            let _ = not_after(&broken);
        }
    }
}

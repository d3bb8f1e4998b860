//! Whole numbers as parameters and members say them.

use std::fmt;

use bongsu_protocol::limits::INTEGER_MAX;
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// A number from 0 to [`INTEGER_MAX`], which every language reads without loss. `42.0` is one too: JSON knows no other numbers (RFC 8259, 6),
/// and JSON Schema calls it an integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole(pub u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(Reader)
    }
}

impl PartialSchema for Whole {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(INTEGER_MAX)).into()
    }
}

impl ToSchema for Whole {}

/// Reads a member that may be left out, or `null`.
///
/// # Errors
/// It is no such number.
pub(crate) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<Whole>::deserialize(deserializer)?.map(|Whole(number)| number))
}

struct Reader;

impl Visitor<'_> for Reader {
    type Value = Whole;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from 0 to {INTEGER_MAX}")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Whole, E> {
        let is_small = number <= INTEGER_MAX;
        is_small.then_some(Whole(number)).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Whole, E> {
        let wrong = |_| E::invalid_value(Unexpected::Signed(number), &self);
        u64::try_from(number).map_err(wrong).and_then(|number| self.visit_u64(number))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "it was looked at: it is whole, and no larger than what a float holds exactly"
    )]
    fn visit_f64<E: Error>(self, number: f64) -> Result<Whole, E> {
        let is_whole = (0.0..=INTEGER_MAX as f64).contains(&number) && number.fract() == 0.0;
        is_whole
            .then_some(Whole(number as u64))
            .ok_or_else(|| E::invalid_value(Unexpected::Float(number), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_however_they_are_written() {
        let read = |json: &str| serde_json::from_str::<Whole>(json).ok().map(|Whole(number)| number);
        for (json, expected) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("42.0", Some(42)),
            ("4.2e1", Some(42)),
            ("9007199254740991", Some(INTEGER_MAX)),
            ("9007199254740992", None),
            ("18446744073709551616", None),
            ("-1", None),
            ("1.5", None),
            ("\"1\"", None),
            ("null", None),
        ] {
            assert_eq!(read(json), expected, "{json}");
        }
    }
}

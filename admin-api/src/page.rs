//! Lists that come in pages.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::error::Error;
use crate::number::Whole;

/// Entries of a page, at most: 1,000, some hundred KiB of the largest ones.
pub const PAGE_MAX: u16 = 1000;

/// Entries of a page where nobody says how many: 100.
pub const PAGE_DEFAULT: u16 = 100;

/// Bytes of a cursor, at most: 2 KiB, longer than the longest topic or subject in it.
pub const CURSOR_BYTES_MAX: usize = 2048;

/// How many entries a page may have, from 1 to [`PAGE_MAX`]. The parameter `limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(u16);

impl Limit {
    /// As many as may be.
    pub const MAX: Self = Self(PAGE_MAX);

    /// The number.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(PAGE_DEFAULT)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = Whole::deserialize(deserializer).ok();
        let number = number.and_then(|Whole(number)| u16::try_from(number).ok());
        let number = number.filter(|number| (1..=PAGE_MAX).contains(number));
        number.map(Self).ok_or_else(|| D::Error::custom("`limit` takes 1 to 1000"))
    }
}

impl PartialSchema for Limit {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1))
            .maximum(Some(PAGE_MAX))
            .default(Some(PAGE_DEFAULT.into()))
            .into()
    }
}

impl ToSchema for Limit {}

/// Where a page begins: after what `next` of the page before says. The parameter `after`.
///
/// What is in it is the list's own business and may change; whoever asks only carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After(Vec<u8>);

impl After {
    /// What is in it.
    ///
    /// # Errors
    /// It is none of this list.
    pub fn text(&self) -> Result<&str, Error> {
        std::str::from_utf8(&self.0).map_err(|_| Self::strange())
    }

    /// To be said where what is in it is none of the list's.
    #[must_use]
    pub fn strange() -> Error {
        Error::invalid("after", "it takes what `next` of an earlier page says")
    }

    /// What a page says of the one that follows it: this, as `next`.
    #[must_use]
    pub fn written(content: &str) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(content)
    }
}

impl<'de> Deserialize<'de> for After {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let wrong = "`after` takes what `next` of an earlier page says";
        let is_short = text.len() <= CURSOR_BYTES_MAX;
        let content = BASE64_URL_SAFE_NO_PAD.decode(text.as_bytes()).ok().filter(|_| is_short);
        content.map(Self).ok_or_else(|| D::Error::custom(wrong))
    }
}

impl PartialSchema for After {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .max_length(Some(CURSOR_BYTES_MAX))
            // Base64 without padding, whose last digit has no bits too many.
            .pattern(Some("^([A-Za-z0-9_-]{4})*([A-Za-z0-9_-][AQgw]|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048])?$"))
            .into()
    }
}

impl ToSchema for After {}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<After> {
        serde_json::from_value(serde_json::Value::String(text.to_owned())).ok()
    }

    #[test]
    fn cursors_come_back_as_they_were_written() {
        for content in ["", "n1/2a/17", "topic with spaces\n불"] {
            let after = read(&After::written(content)).expect("it is one");
            assert_eq!(after.text(), Ok(content));
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in ["=", "%%", "a b", &"A".repeat(CURSOR_BYTES_MAX + 4)] {
            assert_eq!(read(text), None, "{text}");
        }
        assert!(read("_w").expect("base64").text().is_err(), "it is no text");
    }

    #[test]
    fn pages_are_bounded() {
        let read = |number: serde_json::Value| serde_json::from_value::<Limit>(number).ok().map(Limit::get);
        assert_eq!(read(1.into()), Some(1));
        assert_eq!(read(1000.into()), Some(1000));
        for wrong in
            [serde_json::json!(0), serde_json::json!(1001), serde_json::json!(-1), serde_json::json!(1e30)]
        {
            assert_eq!(read(wrong.clone()), None, "{wrong}");
        }
    }
}

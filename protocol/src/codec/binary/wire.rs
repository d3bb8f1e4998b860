//! The protobuf wire format (protobuf.dev/programming-guides/encoding), as far as is needed before a tree is built.

use crate::codec::Malformed;
use crate::limits::{
    FILTERS_PER_REQUEST_MAX, HEADERS_MAX, MEMBERS_MAX, MESSAGES_PER_PUBLISH_MAX, PAGE_MESSAGES_MAX, SEEN_MAX,
};

/// The fields of one encoded message, in the order in which they come. Ends after the first error.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

/// What a field holds.
pub(super) enum Value<'a> {
    Varint(u64),
    /// A text, bytes, or a message.
    Bytes(&'a [u8]),
    /// Four or eight bytes: the schema has none of these, so they belong to a field to be skipped.
    Fixed,
}

impl<'a> Fields<'a> {
    pub(super) const fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn read(&mut self) -> Option<(u32, Value<'a>)> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0)?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let n_bytes = self.varint()?;
                Value::Bytes(self.take(usize::try_from(n_bytes).ok()?)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            // Groups, which proto3 does not have, and wire types that do not exist.
            _ => return None,
        };
        Some((number, value))
    }

    fn varint(&mut self) -> Option<u64> {
        // Leaves `rest` where it is if there is no whole number.
        let mut rest = self.rest;
        let value = prost::encoding::decode_varint(&mut rest).ok()?;
        self.rest = rest;
        Some(value)
    }

    fn take(&mut self, n_bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n_bytes)?;
        self.rest = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field.ok_or_else(|| Malformed::Payload("a field is cut short or has no valid key".to_owned())))
    }
}

/// A message of the schema, reduced to what is repeated in it.
pub(super) struct Shape(&'static [Repeated]);

struct Repeated {
    /// The field's number.
    number: u32,
    /// What it holds, for people.
    name: &'static str,
    /// How often it may come.
    n_max: usize,
    /// Bytes that each element has at least.
    bytes_min: usize,
    /// What is repeated inside, if it holds messages with anything repeated.
    inner: Option<&'static Shape>,
}

/// A message that comes once: protobuf would merge a second one into the first, past any limit.
const fn once(number: u32, name: &'static str, inner: &'static Shape) -> Repeated {
    Repeated { number, name, n_max: 1, bytes_min: 0, inner: Some(inner) }
}

/// A list in a request. No element of one is valid without content, and none costs as much for its two bytes.
const fn list(number: u32, name: &'static str, n_max: usize, inner: Option<&'static Shape>) -> Repeated {
    Repeated { number, name, n_max, bytes_min: 1, inner }
}

/// A list in an event, which a client reads as it is.
const fn any(number: u32, name: &'static str, n_max: usize, inner: Option<&'static Shape>) -> Repeated {
    Repeated { number, name, n_max, bytes_min: 0, inner }
}

impl Shape {
    /// Counts what is repeated, all the way down, which is at most five levels: the shapes are constants.
    ///
    /// The tree is built only of what passes: there, an element of a few bytes takes a hundred.
    ///
    /// # Errors
    /// [`Malformed::Payload`] if fields cannot be told apart. The inner error says what there is too much of.
    pub(super) fn check(&self, message: &[u8]) -> Result<Result<(), String>, Malformed> {
        let mut counts = [0; 8];
        debug_assert!(
            self.0.len() <= counts.len(),
            "a shape has at most as many entries as there are counters"
        );
        for field in Fields::new(message) {
            let (number, Value::Bytes(bytes)) = field? else { continue };
            let Some(idx) = self.0.iter().position(|repeated| repeated.number == number) else { continue };
            let Repeated { name, n_max, bytes_min, inner, .. } = &self.0[idx];
            counts[idx] += 1;
            if counts[idx] > *n_max {
                return Ok(Err(format!("{name}: at most {n_max}")));
            }
            if bytes.len() < *bytes_min {
                return Ok(Err(format!("{name}: one of them is empty")));
            }
            if let Some(Err(text)) = inner.map(|shape| shape.check(bytes)).transpose()? {
                return Ok(Err(text));
            }
        }
        Ok(Ok(()))
    }
}

/// `Request`.
pub(super) static REQUEST: Shape =
    Shape(&[once(3, "command", &SUBSCRIBE), once(4, "command", &UNSUBSCRIBE), once(5, "command", &PUBLISH)]);
static SUBSCRIBE: Shape = Shape(&[list(1, "subscriptions", FILTERS_PER_REQUEST_MAX, Some(&SUBSCRIPTION))]);
static SUBSCRIPTION: Shape = Shape(&[list(3, "seen", SEEN_MAX, None)]);
static UNSUBSCRIBE: Shape = Shape(&[list(1, "filters", FILTERS_PER_REQUEST_MAX, None)]);
static PUBLISH: Shape = Shape(&[list(1, "messages", MESSAGES_PER_PUBLISH_MAX, Some(&NEW_MESSAGE))]);
static NEW_MESSAGE: Shape = Shape(&[list(4, "headers", HEADERS_MAX, None)]);

/// `Event`.
pub(super) static EVENT: Shape = Shape(&[once(2, "reply", &REPLY), once(3, "delivery", &DELIVERY)]);
static DELIVERY: Shape = Shape(&[any(7, "headers", HEADERS_MAX, None)]);
static REPLY: Shape = Shape(&[
    once(4, "subscribed", &SUBSCRIBE_RESULTS),
    once(6, "published", &PUBLISH_RESULTS),
    once(7, "history", &PAGE),
    once(10, "members", &MEMBERS),
]);
static SUBSCRIBE_RESULTS: Shape = Shape(&[any(1, "results", FILTERS_PER_REQUEST_MAX, None)]);
static PUBLISH_RESULTS: Shape = Shape(&[any(1, "results", MESSAGES_PER_PUBLISH_MAX, None)]);
static PAGE: Shape = Shape(&[any(1, "messages", PAGE_MESSAGES_MAX, Some(&DELIVERY))]);
static MEMBERS: Shape = Shape(&[any(1, "members", MEMBERS_MAX, None)]);

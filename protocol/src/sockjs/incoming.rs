//! Messages that a client sent: a JSON array of strings, in whatever wrapping the transport has.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};

use crate::limits::{FRAME_BYTES_MAX, SOCKJS_MESSAGES_MAX};

/// Why a body has no messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPayload {
    /// Nothing, or no array of strings.
    #[error("Payload expected.")]
    Expected,
    /// No JSON.
    #[error("Broken JSON encoding.")]
    Broken,
    /// Past [`FRAME_BYTES_MAX`] or [`SOCKJS_MESSAGES_MAX`].
    #[error("Payload too large.")]
    TooLarge,
}

impl InvalidPayload {
    /// The HTTP status of the answer; its body is this error's text.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Expected | Self::Broken => 500,
            Self::TooLarge => 413,
        }
    }
}

/// Reads the body of an `xhr_send`, whatever its content type says.
///
/// Halves of surrogate pairs, which a browser's strings may hold and UTF-8 cannot, become U+FFFD.
///
/// # Errors
/// [`InvalidPayload`], to be answered with its status and text. The session goes on.
pub fn parse_xhr_send(body: &[u8]) -> Result<Vec<String>, InvalidPayload> {
    if body.len() > FRAME_BYTES_MAX {
        return Err(InvalidPayload::TooLarge);
    }
    if body.trim_ascii().is_empty() {
        return Err(InvalidPayload::Expected);
    }
    let Messages(messages) = serde_json::from_slice(body).map_err(|error| {
        if error.to_string().starts_with(TOO_MANY) {
            InvalidPayload::TooLarge
        } else if error.is_data() {
            InvalidPayload::Expected
        } else {
            InvalidPayload::Broken
        }
    })?;
    Ok(messages)
}

/// Reads the body of a `jsonp_send`: a form whose field `d` is the array, or the array itself.
///
/// # Errors
/// [`InvalidPayload`], to be answered with its status and text. The session goes on.
pub fn parse_jsonp_send(content_type: &str, body: &[u8]) -> Result<Vec<String>, InvalidPayload> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return parse_xhr_send(body);
    }
    if body.len() > FRAME_BYTES_MAX {
        return Err(InvalidPayload::TooLarge);
    }
    let field = body.split(|byte| *byte == b'&').find_map(|field| field.strip_prefix(b"d="));
    parse_xhr_send(&form_decoded(field.ok_or(InvalidPayload::Expected)?))
}

/// Reads a message of the `websocket` transport: an array, one string, or nothing.
///
/// # Errors
/// [`InvalidPayload`]: close the session with [`Close::broken_framing`](super::Close::broken_framing).
pub fn parse_websocket(text: &str) -> Result<Vec<String>, InvalidPayload> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    if text.len() <= FRAME_BYTES_MAX && text.trim_start().starts_with('"') {
        let Text(message) = serde_json::from_str(text).map_err(|_| InvalidPayload::Broken)?;
        return Ok(vec![message]);
    }
    parse_xhr_send(text.as_bytes())
}

/// What the error about too many messages begins with.
const TOO_MANY: &str = "too many messages";

struct Messages(Vec<String>);

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(MessagesVisitor)
    }
}

struct MessagesVisitor;

impl<'de> Visitor<'de> for MessagesVisitor {
    type Value = Messages;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Messages, A::Error> {
        let mut messages = Vec::new();
        while let Some(Text(message)) = array.next_element()? {
            if messages.len() == SOCKJS_MESSAGES_MAX {
                return Err(A::Error::custom(TOO_MANY));
            }
            messages.push(message);
        }
        Ok(Messages(messages))
    }
}

/// A JSON string. Read as bytes, since only then may it hold halves of surrogate pairs.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    // Without `visit_seq`: an array of numbers is not a string, though it could be bytes.
    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text, E> {
        Ok(Text(lossy(bytes)))
    }
}

/// Text of bytes that are UTF-8 but for halves of surrogate pairs: ED A0 to ED BF and one more byte each.
fn lossy(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let mut whole = Vec::with_capacity(bytes.len());
            let mut rest = bytes;
            while let [first, after @ ..] = rest {
                if let [0xed, 0xa0..=0xbf, 0x80..=0xbf, after @ ..] = rest {
                    whole.extend_from_slice("\u{fffd}".as_bytes());
                    rest = after;
                } else {
                    whole.push(*first);
                    rest = after;
                }
            }
            String::from_utf8_lossy(&whole).into_owned()
        }
    }
}

/// A form's value. An escape that is none stands for itself.
fn form_decoded(value: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [first, after @ ..] = rest {
        rest = after;
        let escaped = match (first, after) {
            (b'%', [high, low, after @ ..]) => hex(*high).zip(hex(*low)).map(|pair| (pair, after)),
            _ => None,
        };
        match (first, escaped) {
            (_, Some(((high, low), after))) => {
                plain.push(high << 4 | low);
                rest = after;
            }
            (b'+', None) => plain.push(b' '),
            (_, None) => plain.push(*first),
        }
    }
    plain
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

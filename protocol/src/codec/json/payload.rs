//! Payloads in JSON: `data` for JSON, `text` for text, `bytes` for all else in base64.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::value::RawValue;

use super::parts::Text;
use crate::codec::{bad_request, shared};
use crate::limits::JSON_DEPTH_MAX;
use crate::message::Message;
use crate::reason::Error;

/// The content type of `data` where a publisher names none.
pub(super) const JSON_TYPE: &str = "application/json";

/// The content type of `text` where a publisher names none.
pub(super) const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// How a payload looks in JSON.
pub(super) enum Form<'a> {
    Data(&'a RawValue),
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl<'a> Form<'a> {
    /// The form that readers see. Of JSON, blanks around the value are left out; all else stays byte for byte.
    pub(super) fn of(message: &'a Message) -> Self {
        let essence = message.content_type.split(';').next().unwrap_or_default().trim();
        let ends_with = |suffix: &str| {
            let at = essence.len().checked_sub(suffix.len()).and_then(|at| essence.get(at..));
            at.is_some_and(|end| end.eq_ignore_ascii_case(suffix))
        };
        if (essence.eq_ignore_ascii_case(JSON_TYPE) || ends_with("+json"))
            && let Some(data) = embeddable(&message.payload)
        {
            return Self::Data(data);
        }
        let is_text = essence.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("text/"));
        match std::str::from_utf8(&message.payload) {
            Ok(text) if is_text => Self::Text(text),
            _ => Self::Bytes(&message.payload),
        }
    }

    /// The form in which a publisher's payload arrives as the very same bytes: JSON with blanks around it goes as `bytes`.
    pub(super) fn exactly(message: &'a Message) -> Self {
        match Self::of(message) {
            Self::Data(data) if data.get().len() != message.payload.len() => Self::Bytes(&message.payload),
            other => other,
        }
    }

    /// The content type that a publisher need not name.
    pub(super) const fn default_type(&self) -> &'static str {
        match self {
            Self::Data(_) => JSON_TYPE,
            Self::Text(_) => TEXT_TYPE,
            Self::Bytes(_) => "",
        }
    }
}

/// The JSON value that these bytes are, if they are one that every peer can read.
pub(super) fn embeddable(bytes: &[u8]) -> Option<&RawValue> {
    let value: &RawValue = serde_json::from_slice(bytes).ok()?;
    is_shallow(value).then_some(value)
}

/// Whether the value's depth is within [`JSON_DEPTH_MAX`]. `serde_json` itself puts no bound to a raw value's.
fn is_shallow(value: &RawValue) -> bool {
    let mut depth = 0_usize;
    let mut depth_max = 0;
    let mut in_text = false;
    let mut bytes = value.get().bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_text = !in_text,
            // The byte after it is part of the escape, also where it is a quotation mark.
            b'\\' => drop(bytes.next()),
            b'[' | b'{' if !in_text => {
                depth += 1;
                depth_max = depth.max(depth_max);
            }
            b']' | b'}' if !in_text => depth -= 1,
            _ => {}
        }
    }
    depth_max <= JSON_DEPTH_MAX
}

/// The bytes of a JSON value, as it stands in the frame.
pub(super) fn from_data(frame: &Bytes, data: &RawValue) -> Result<Bytes, Error> {
    if !is_shallow(data) {
        return Err(bad_request(format!("JSON deeper than {JSON_DEPTH_MAX} levels")));
    }
    Ok(shared(frame, data.get().as_bytes()))
}

/// The bytes of a text.
pub(super) fn from_text(frame: &Bytes, text: Text<'_>) -> Bytes {
    match text.0 {
        Cow::Borrowed(text) => shared(frame, text.as_bytes()),
        Cow::Owned(text) => Bytes::from(text),
    }
}

/// The bytes that a text of base64 stands for.
pub(super) fn from_base64(text: &Text<'_>) -> Result<Bytes, Error> {
    match STANDARD.decode(text.0.as_bytes()) {
        Ok(bytes) => Ok(Bytes::from(bytes)),
        Err(error) => Err(bad_request(format!("`bytes` is no base64 (RFC 4648, section 4): {error}"))),
    }
}

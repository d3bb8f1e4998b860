//! Messages as lines of JSON: what an export writes and an import reads.
//!
//! A line is `{"delivery":{…}}` with a message as the JSON protocol shows it to readers, the same as in `/v1/events` and `/v1/poll`. An export
//! ends with `{"exported":{…}}`; one without that line was cut off. An import takes such lines and also messages by themselves, as publishers
//! send them: `{"data":…}`. Of a line's place, time, publisher and topic it takes nothing over.

use std::collections::BTreeMap;

use bongsu_protocol::codec::{self, Format};
use bongsu_protocol::command::Command;
use bongsu_protocol::message::Message;
use bongsu_protocol::position::Position;
use bongsu_protocol::reason::ErrorCode;
use bongsu_protocol::topic::Topic;
use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use crate::error::Error;
use crate::position::Position as Shown;

/// Bytes of a line, at most: 3 MiB, the largest message in base64, its headers with every character escaped, and what stands around.
pub const LINE_BYTES_MAX: usize = 3 << 20;

/// What a line of an import says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A message, with the id that guards against a second one.
    Message(Message),
    /// A message that was erased before it was exported.
    Erased,
    /// The end of an export, or an empty line.
    Nothing,
}

/// The last line of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Exported {
    /// How many messages there are before it, those that were erased among them.
    pub messages: u64,
    /// The place of the last of them; an export from the offset behind it on goes on there.
    pub last: Option<Shown>,
}

/// What an import has done, or why it ended. A line of each every second, and one at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// Lines that were read and dealt with.
    pub lines: u64,
    /// Messages that were stored.
    pub stored: u64,
    /// Messages that were there already.
    pub duplicates: u64,
    /// Lines of messages that had been erased; nothing is stored for them.
    pub erased: u64,
    /// All was read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub done: bool,
    /// Why the import ended before: what is in the lines before this one is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failure>,
}

/// Why an import ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// The number of the line, from 1.
    pub line: u64,
    /// What is wrong.
    pub detail: String,
}

/// What is not taken over from the line of a reader's message.
const NOT_TAKEN: [&str; 6] = ["topic", "epoch", "offset", "time", "publisher", "erased"];

/// What a publisher's message has.
const TAKEN: [&str; 6] = ["data", "text", "bytes", "type", "headers", "id"];

/// Reads a line, as the message of this topic that it is.
///
/// A message without an id gets one, so that importing the same line again stores nothing: made of its place where it has one, else
/// of the line's number and text.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub fn read(topic: &Topic, number: u64, line: &[u8]) -> Result<Line, String> {
    let text = std::str::from_utf8(line).map_err(|_| "it is no UTF-8".to_owned())?.trim();
    if text.is_empty() {
        return Ok(Line::Nothing);
    }
    let no_json = |error: serde_json::Error| format!("it is no message: {error}");
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(no_json)?;
    if members.len() == 1 && members.contains_key("exported") {
        return Ok(Line::Nothing);
    }
    let mut members = match members.get("delivery") {
        Some(delivery) if members.len() == 1 => serde_json::from_str(delivery.get()).map_err(no_json)?,
        _ => members,
    };
    if members.get("erased").is_some_and(|erased| erased.get() == "true") {
        return Ok(Line::Erased);
    }
    let number_of = |members: &BTreeMap<String, &RawValue>, name| {
        members.get(name).and_then(|value: &&RawValue| value.get().parse::<u64>().ok())
    };
    let place = number_of(&members, "epoch").zip(number_of(&members, "offset"));
    members.retain(|name, _| !NOT_TAKEN.contains(&name.as_str()));
    if let Some(strange) = members.keys().find(|name| !TAKEN.contains(&name.as_str())) {
        return Err(format!("a message has no {strange:?}"));
    }
    let mut message = decode(topic, &serde_json::to_string(&members).map_err(no_json)?)
        .map_err(|error| error.to_string())?;
    if message.id.is_empty() {
        message.id = match place {
            Some((epoch, offset)) => format!("import:{}", Position::new(epoch, offset)),
            None => {
                let digest = Sha256::new().chain_update(number.to_be_bytes()).chain_update(text).finalize();
                let digits: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
                format!("import:{digits}")
            }
        };
    }
    Ok(Line::Message(message))
}

/// Reads the text of an object, without a topic of its own, as a message of this topic.
pub(crate) fn decode(topic: &Topic, message: &str) -> Result<Message, Error> {
    let none = || Error::invalid("message", "it is none");
    let rest = message.trim_start().strip_prefix('{').unwrap_or_default();
    let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
    let name = serde_json::Value::from(topic.as_str());
    let frame = format!("{{\"id\":1,\"publish\":{{\"messages\":[{{\"topic\":{name}{comma}{rest}]}}}}");
    let requests = codec::decode_requests(Format::Json, &Bytes::from(frame));
    let requests = requests.map_err(|malformed| Error::invalid("message", malformed.to_string()));
    match requests?.pop().ok_or_else(none)? {
        Ok(request) => match request.command {
            Command::Publish(mut messages) => messages.pop().map(|message| message.message).ok_or_else(none),
            _ => Err(none()),
        },
        Err(refused) if refused.error.code == ErrorCode::TooLarge => Err(Error::TooLarge(refused.error.text)),
        Err(refused) => Err(Error::invalid("message", refused.error.text)),
    }
}

/// Whether a line ends an export.
#[must_use]
pub fn is_end(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct End {
        #[serde(rename = "exported")]
        _exported: IgnoredAny,
    }
    serde_json::from_slice::<End>(line).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<Line, String> {
        read(&Topic::parse("a/b").expect("a topic"), 7, text.as_bytes())
    }

    fn message(text: &str) -> Message {
        match line(text) {
            Ok(Line::Message(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_readers_message_is_taken_without_its_place() {
        let taken = message(
            r#"{"delivery":{"topic":"other","epoch":7,"offset":9,"time":1,"publisher":"ada","data":{"a": 1},"type":"application/json","headers":{"h":"v"}}}"#,
        );
        assert_eq!(&taken.payload[..], br#"{"a": 1}"#);
        assert_eq!(taken.headers, [("h".to_owned(), "v".to_owned())]);
        assert_eq!(taken.id, "import:7:9");
        assert_eq!(
            message(r#"{"delivery":{"topic":"t","epoch":7,"offset":9,"text":"x","id":"own"}}"#).id,
            "own"
        );
    }

    #[test]
    fn a_message_by_itself_is_known_again_by_its_line() {
        let one = message(r#"{"data":null}"#);
        assert_eq!(&one.payload[..], b"null");
        assert_eq!(one.id, message(r#"{"data":null}"#).id);
        assert_ne!(one.id, message(r#"{"data":true}"#).id);
    }

    #[test]
    fn what_is_no_message_is_told_so() {
        for text in [
            "{",
            "[]",
            "1",
            r#"{"data":1,"text":"x"}"#,
            r#"{"dta":1}"#,
            r#"{"bytes":"%"}"#,
            r#"{"delivery":7}"#,
        ] {
            assert!(line(text).is_err(), "{text}: {:?}", line(text));
        }
    }

    #[test]
    fn empty_lines_ends_and_erased_messages_are_no_messages() {
        assert_eq!(line(" "), Ok(Line::Nothing));
        assert_eq!(line(r#"{"exported":{"messages":1,"last":null}}"#), Ok(Line::Nothing));
        assert_eq!(
            line(r#"{"delivery":{"topic":"t","epoch":7,"offset":9,"erased":true}}"#),
            Ok(Line::Erased)
        );
        assert!(is_end(br#"{"exported":{}}"#) && !is_end(br#"{"delivery":{}}"#));
    }
}

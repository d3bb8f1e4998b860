//! The golden vectors in `protocol/vectors/`: what is on the wire, for every noun, in both formats and both directions.
//!
//! Other clients test against the same files. `BONGSU_UPDATE_VECTORS=1 cargo test -p bongsu-protocol --test vectors`
//! writes them anew; review the difference, since whatever changes there breaks peers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "vectors/events.rs"]
mod events;
#[path = "vectors/refused.rs"]
mod refused;
#[path = "vectors/requests.rs"]
mod requests;

use std::fmt::Write as _;
use std::path::PathBuf;

use bongsu_protocol::codec::{self, Format};
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One noun in both formats.
#[derive(Serialize, Deserialize, Debug, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Vector {
    name: String,
    /// The text frame.
    json: Box<RawValue>,
    /// The binary frame.
    binary_hex: String,
}

impl PartialEq for Vector {
    fn eq(&self, other: &Self) -> bool {
        let parts =
            |vector: &Self| (vector.name.clone(), vector.json.get().to_owned(), vector.binary_hex.clone());
        parts(self) == parts(other)
    }
}

/// A frame that is refused in part, or closes the connection.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Bad {
    name: String,
    /// The frame where it is a text frame of valid UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The frame where it is a binary one, or no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
    format: String,
    /// The connection closes with this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    close: Option<String>,
    /// Or each request has one of these outcomes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    outcomes: Vec<Outcome>,
    /// The text of the close reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    says: Option<String>,
}

/// What came of one request of a frame: no error, if it was fine.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Outcome {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Bytes {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Makes a vector of what `encode` writes.
fn vector(name: &str, encode: impl Fn(Format, &mut BytesMut)) -> Vector {
    let frame = |format| {
        let mut frame = BytesMut::new();
        encode(format, &mut frame);
        frame
    };
    let json = String::from_utf8(frame(Format::Json).to_vec()).unwrap();
    Vector {
        name: name.to_owned(),
        json: RawValue::from_string(json).unwrap(),
        binary_hex: hex(&frame(Format::Binary)),
    }
}

/// The frames of a vector as it stands in the file.
fn frames(vector: &Vector) -> [(Format, Bytes); 2] {
    let json = Bytes::from(vector.json.get().to_owned());
    [(Format::Json, json), (Format::Binary, unhex(&vector.binary_hex))]
}

/// Compares with the file, or writes it; the file's content comes back.
fn golden<T>(file: &str, made: &[T]) -> Vec<T>
where
    T: Serialize + for<'a> Deserialize<'a> + PartialEq + std::fmt::Debug,
{
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(file);
    if std::env::var_os("BONGSU_UPDATE_VECTORS").is_some() {
        let lines: Vec<_> = made.iter().map(|one| serde_json::to_string(one).unwrap()).collect();
        std::fs::write(&path, format!("[\n{}\n]\n", lines.join(",\n"))).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    // Two steps: a raw value is not read through serde's own buffers.
    let kept: Vec<Box<RawValue>> = serde_json::from_str(&text).unwrap();
    let kept: Vec<T> = kept.iter().map(|one| serde_json::from_str(one.get()).unwrap()).collect();
    for (kept, made) in kept.iter().zip(made) {
        assert_eq!(kept, made, "{file} differs from what the codec does; see this test's head");
    }
    assert_eq!(kept.len(), made.len(), "{file} lacks vectors or has too many");
    kept
}

#[test]
fn requests_are_on_the_wire_as_their_vectors_say() {
    let cases = requests::cases();
    let made: Vec<_> = cases
        .iter()
        .map(|(name, list)| vector(name, |format, frame| codec::encode_requests(format, list, frame)))
        .collect();
    for (vector, (name, expected)) in golden("requests.json", &made).iter().zip(&cases) {
        for (format, frame) in frames(vector) {
            let decoded = codec::decode_requests(format, &frame).unwrap();
            let decoded: Vec<_> = decoded.into_iter().map(Result::unwrap).collect();
            assert_eq!(&decoded, expected, "{name} in {format:?}");
        }
    }
}

#[test]
fn events_are_on_the_wire_as_their_vectors_say() {
    let cases = events::cases();
    let made: Vec<_> = cases
        .iter()
        .map(|(name, list)| vector(name, |format, frame| codec::encode_events(format, list, frame)))
        .collect();
    for (vector, (name, expected)) in golden("events.json", &made).iter().zip(&cases) {
        for (format, frame) in frames(vector) {
            let decoded = codec::decode_events(format, &frame).unwrap();
            assert_eq!(&decoded, expected, "{name} in {format:?}");
        }
    }
}

#[test]
fn bad_frames_have_the_outcome_that_their_vectors_say() {
    let made: Vec<_> =
        refused::cases().into_iter().map(|(name, format, frame)| bad(name, format, &frame)).collect();
    golden("refused.json", &made);
}

/// Decodes a frame at the broker and notes what came of it.
fn bad(name: &str, format: Format, frame: &[u8]) -> Bad {
    let text = std::str::from_utf8(frame).ok().filter(|_| format == Format::Json).map(str::to_owned);
    let hex = if text.is_some() { None } else { Some(hex(frame)) };
    let mut bad = Bad {
        name: name.to_owned(),
        text,
        hex,
        format: format.sub_protocol().to_owned(),
        close: None,
        outcomes: Vec::new(),
        says: None,
    };
    match codec::decode_requests(format, &Bytes::copy_from_slice(frame)) {
        Ok(requests) => {
            bad.outcomes = requests.into_iter().map(outcome).collect();
            assert!(bad.outcomes.iter().any(|outcome| outcome.code.is_some()), "{name} is refused");
        }
        Err(malformed) => {
            bad.close = Some(malformed.reason().to_string());
            bad.says = Some(bongsu_protocol::reason::Goodbye::from(malformed).text);
        }
    }
    bad
}

fn outcome(decoded: Result<bongsu_protocol::command::Request, codec::Refused>) -> Outcome {
    match decoded {
        Ok(request) => Outcome { id: request.id.0, code: None, text: None },
        Err(refused) => Outcome {
            id: refused.id.0,
            code: Some(refused.error.code.to_string()),
            text: Some(refused.error.text),
        },
    }
}

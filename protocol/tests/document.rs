//! `docs/protocol.md` says what the code does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use bongsu_protocol::codec::{self, Format};
use bongsu_protocol::limits;
use bongsu_protocol::reason::{CloseReason, ErrorCode, Reconnect};
use bytes::{Bytes, BytesMut};

fn read(path: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(path).unwrap()
}

/// The rows of the table under this head, cell by cell, without backticks.
fn table(head: &str) -> Vec<Vec<String>> {
    let document = read("../docs/protocol.md");
    let (_, after) = document.split_once(head).unwrap_or_else(|| panic!("there is a table {head}"));
    let rows = after.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells =
        |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
    rows.map(cells).collect()
}

#[test]
fn the_table_of_errors_is_that_of_the_code() {
    let documented: Vec<_> = table("| `code` | the same request may succeed later | meaning |")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let word = |is_retryable| if is_retryable { "yes" } else { "no" };
    let coded = ErrorCode::ALL.map(|code| (code.to_string(), word(code.is_retryable()).to_owned()));
    assert_eq!(documented, coded);
}

#[test]
fn the_table_of_close_codes_is_that_of_the_code() {
    let mut documented: Vec<_> = table("| code | `reason` | `reconnect` | meaning |")
        .into_iter()
        .map(|row| (row[0].parse().unwrap(), row[1].clone(), row[2].clone()))
        .collect();
    let word = |reconnect| match reconnect {
        Reconnect::Never => "never",
        Reconnect::Now => "now",
        Reconnect::Backoff => "backoff",
    };
    let mut coded: Vec<(u16, _, _)> = CloseReason::ALL
        .iter()
        .map(|reason| (reason.websocket_code(), reason.to_string(), word(reason.reconnect()).to_owned()))
        .collect();
    documented.sort();
    coded.sort();
    assert_eq!(documented, coded);
}

#[test]
fn the_table_of_limits_is_that_of_the_code() {
    macro_rules! values {
        ($($name:ident)*) => { vec![$((stringify!($name).to_owned(), limits::$name as u64)),*] };
    }
    let mut coded = values! {
        INTEGER_MAX TOPIC_BYTES_MAX TOPIC_LEVELS_MAX PAYLOAD_BYTES_MAX CONTENT_TYPE_BYTES_MAX HEADERS_MAX
        HEADER_BYTES_MAX MESSAGE_ID_BYTES_MAX NAME_BYTES_MAX TOKEN_BYTES_MAX FRAME_BYTES_MAX
        REQUESTS_PER_FRAME_MAX MESSAGES_PER_PUBLISH_MAX FILTERS_PER_REQUEST_MAX SEEN_MAX PAGE_MESSAGES_DEFAULT
        PAGE_MESSAGES_MAX PAGE_BYTES_MAX INFO_BYTES_MAX MEMBERS_MAX TEXT_BYTES_MAX CLOSE_REASON_BYTES_MAX
        JSON_DEPTH_MAX
    };
    let mut documented: Vec<(String, u64)> = table("| limit | value | past it |")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].replace(',', "").parse().unwrap()))
        .collect();
    coded.sort();
    documented.sort();
    assert_eq!(documented, coded);
    // Those of the other ways in are not of this document.
    let others = ["STOMP_", "SOCKJS_", "BOOKMARK_", "EVENT_STREAM_", "QUEUE_"];
    let is_native = |line: &&str| {
        let name = line.strip_prefix("pub const ");
        name.is_some_and(|name| !others.iter().any(|other| name.starts_with(other)))
    };
    let n_constants = read("src/limits.rs").lines().filter(is_native).count();
    assert_eq!(n_constants, coded.len(), "a constant of limits.rs is missing here");
}

#[test]
fn every_frame_of_the_conversations_is_one_that_the_codec_writes() {
    let document = read("../docs/protocol.md");
    let value = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).unwrap();
    let mut n_frames = 0;
    for line in document.lines() {
        let mut written = BytesMut::new();
        let frame = if let Some(frame) = line.strip_prefix("→ ") {
            let decoded =
                codec::decode_requests(Format::Json, &Bytes::copy_from_slice(frame.as_bytes())).unwrap();
            let requests: Vec<_> = decoded.into_iter().map(Result::unwrap).collect();
            codec::encode_requests(Format::Json, &requests, &mut written);
            frame
        } else if let Some(frame) = line.strip_prefix("← ") {
            let events =
                codec::decode_events(Format::Json, &Bytes::copy_from_slice(frame.as_bytes())).unwrap();
            codec::encode_events(Format::Json, &events, &mut written);
            frame
        } else {
            continue;
        };
        // A field that the codec skips or writes in another way shows here.
        assert_eq!(value(&written), value(frame.as_bytes()), "{frame}");
        n_frames += 1;
    }
    assert!(n_frames > 20, "{n_frames} frames were found");
}

#[test]
fn the_changes_of_presence_are_ones_that_the_codec_writes() {
    let document = read("../docs/protocol.md");
    let (_, block) = document.split_once("```json\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    for line in block.lines() {
        let change = codec::decode_presence(&Bytes::copy_from_slice(line.as_bytes())).unwrap().unwrap();
        assert_eq!(codec::encode_presence(&change), line);
    }
}

#[test]
fn what_the_text_says_of_the_formats_is_so() {
    let document = read("../docs/protocol.md");
    for format in Format::ALL {
        assert!(document.contains(&format!("| `{}` |", format.sub_protocol())));
    }
}

//! `permessage-deflate` (RFC 7692): smaller messages for connections that asked for it.
//!
//! Always without context takeover, in both directions: each message is compressed by itself. Thus no connection keeps
//! a compressor's memory (some 300 KiB, and 40 for inflating; here a thread has them), and one compressed frame serves
//! every connection that agreed on the same window. What it costs is ratio on small messages that resemble each other.

use std::cell::RefCell;
use std::fmt::Write as _;

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::frame::{Builder, Kind};

/// Bodies shorter than this are sent as they are. In bytes: 128 bytes of JSON become 100, which a network does not notice
/// beside 52 bytes of headers per packet, and which costs the broker as much as some sends do.
pub const BODY_BYTES_MIN: usize = 128;

/// A compressor's effort, 1 to 9. Of 10 KB of JSON, 1 leaves 3.0 KB after 32 µs, 2 leaves 2.1 KB after 77 µs, and the
/// usual 6 leaves 1.95 KB after 112 µs; with longer bodies 6 takes three times as long as 2.
const LEVEL: u32 = 2;

/// What a flushed compressor ends with and a sender leaves out (RFC 7692, 7.2.1): an empty block without compression.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// How many bytes an inflated message grows by at first. Messages of clients are mostly small.
const INFLATE_BYTES_MIN: usize = 1 << 10;

/// How far back a compressor refers, which says how much memory the client needs to inflate.
///
/// Clients may ask for any of 7 windows (9 to 15 bits) and get the next smaller of 3, so that the broker compresses a
/// message at most 3 times. Almost all ask for none and get the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Window {
    /// 512 bytes, for clients that asked for 9, 10 or 11 bits.
    Bits9,
    /// 4 KiB, for clients that asked for 12, 13 or 14 bits.
    Bits12,
    /// 32 KiB, what clients have that did not ask.
    Bits15,
}

impl Window {
    /// Every window, smallest first.
    pub const ALL: [Self; 3] = [Self::Bits9, Self::Bits12, Self::Bits15];

    /// The base-2 logarithm of its bytes, as in the handshake.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::Bits9 => 9,
            Self::Bits12 => 12,
            Self::Bits15 => 15,
        }
    }

    /// The largest that a client takes which asked for at most `bits`; none for 8, which zlib cannot keep to.
    fn within(bits: u8) -> Option<Self> {
        Self::ALL.into_iter().rev().find(|window| window.bits() <= bits)
    }
}

/// What a client and the broker agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// How messages to this client are compressed.
    pub window: Window,
    /// Whether the client asked for a window at all, so that it is told which.
    server_bits_asked: bool,
    /// What the client said it would keep to. It is confirmed, although any window can be inflated.
    client_bits: Option<u8>,
}

impl Agreed {
    /// The `Sec-WebSocket-Extensions` header of the answer.
    #[must_use]
    pub fn header_value(&self) -> String {
        let mut value =
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned();
        if self.server_bits_asked {
            let _ = write!(value, "; server_max_window_bits={}", self.window.bits());
        }
        if let Some(bits) = self.client_bits {
            let _ = write!(value, "; client_max_window_bits={bits}");
        }
        value
    }
}

/// Finds the first offer in a `Sec-WebSocket-Extensions` header that can be kept; several such headers are one, joined
/// by commas.
///
/// An offer is passed over, not refused, if it names another extension, has an unknown, repeated or malformed parameter
/// (RFC 7692, 7.1), or limits the server to a window of 8 bits: zlib uses 9 instead, and says so nowhere in its output.
#[must_use]
pub fn negotiate(header: &str) -> Option<Agreed> {
    split(header, ',').into_iter().find_map(accept)
}

/// Judges a single offer.
fn accept(offer: &str) -> Option<Agreed> {
    let mut parameters = split(offer, ';').into_iter();
    if !parameters.next()?.eq_ignore_ascii_case("permessage-deflate") {
        return None;
    }
    let mut seen = [false; 4];
    let mut agreed = Agreed { window: Window::Bits15, server_bits_asked: false, client_bits: None };
    for parameter in parameters {
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (name.trim(), Some(unquote(value.trim()))),
            None => (parameter, None),
        };
        let which = match (name, value) {
            ("server_no_context_takeover", None) => 0,
            ("client_no_context_takeover", None) => 1,
            ("server_max_window_bits", Some(value)) => {
                agreed.window = Window::within(window_bits(value)?)?;
                agreed.server_bits_asked = true;
                2
            }
            ("client_max_window_bits", value) => {
                agreed.client_bits = match value {
                    Some(value) => Some(window_bits(value)?),
                    None => None,
                };
                3
            }
            _ => return None,
        };
        if std::mem::replace(&mut seen[which], true) {
            return None;
        }
    }
    Some(agreed)
}

/// A decimal from 8 to 15 without leading zeros (RFC 7692, 7.1.2).
fn window_bits(value: &str) -> Option<u8> {
    let bits = value.parse().ok()?;
    (8..=15).contains(&bits).then_some(bits).filter(|_| !value.starts_with(['0', '+']))
}

fn unquote(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

/// Splits at a separator outside of quotes, and trims.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut is_quoted = false;
    text.split(|c| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    })
    .map(str::trim)
    .collect()
}

/// How many compressed bytes a message of `message_bytes_max` may arrive as. What does not compress grows by 5 bytes in
/// at least 128 with the least economical compressors in use; 64 are for the rest.
#[must_use]
pub(crate) const fn compressed_bytes_max(message_bytes_max: usize) -> usize {
    message_bytes_max.saturating_add(message_bytes_max / 16).saturating_add(64)
}

/// The complete frame of a message, compressed for everyone who agreed on `window`.
///
/// `None` if the body is shorter than [`BODY_BYTES_MIN`] or does not get smaller: send the uncompressed frame, which every
/// connection takes.
#[must_use]
pub fn compress(kind: Kind, body: &[u8], window: Window) -> Option<Bytes> {
    if body.len() < BODY_BYTES_MIN {
        return None;
    }
    // Room for what does not get smaller too: a compressor that stopped for want of it must not be used again. That of
    // zlib-rs 0.6.8, at effort 1, panics some messages after a reset with output left.
    let mut builder = Builder::new(compressed_bytes_max(body.len()));
    COMPRESSORS.with_borrow_mut(|compressors| {
        let slot = &mut compressors[window as usize];
        // Taken out, so that one that fails or panics is not used again.
        let mut compressor = slot
            .take()
            .unwrap_or_else(|| Compress::new_with_window_bits(Compression::new(LEVEL), false, window.bits()));
        compressor.compress_vec(body, builder.body(), FlushCompress::Sync).ok()?;
        let is_complete =
            compressor.total_in() == body.len() as u64 && builder.body_written().ends_with(&TAIL);
        compressor.reset();
        is_complete.then(|| *slot = Some(compressor))
    })?;
    if builder.body_written().len() - TAIL.len() >= body.len() {
        return None;
    }
    let tail_begin = builder.body().len() - TAIL.len();
    builder.body().truncate(tail_begin);
    // The frame may live long in queues and caches; give back what compression saved.
    builder.body().shrink_to_fit();
    Some(builder.finish_compressed(kind))
}

/// Why a compressed message could not be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InflateError {
    /// It inflates to more than the limit.
    #[error("inflates to more than the limit")]
    TooLarge,
    /// It is not what a compressor makes.
    #[error("is not deflated data")]
    Corrupt,
}

/// Inflates a whole message, whose tail its sender left out, and stops as soon as it is longer than `bytes_max`.
pub(crate) fn inflate(compressed: &[u8], bytes_max: usize) -> Result<Vec<u8>, InflateError> {
    INFLATER.with_borrow_mut(|inflater| {
        inflater.reset(false);
        let mut body = Vec::new();
        inflate_part(inflater, compressed, &mut body, bytes_max)?;
        inflate_part(inflater, &TAIL, &mut body, bytes_max)?;
        Ok(body)
    })
}

fn inflate_part(
    inflater: &mut Decompress,
    mut input: &[u8],
    body: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), InflateError> {
    loop {
        // One byte past the limit is room enough to see that there is more.
        let room = bytes_max.saturating_add(1) - body.len();
        if body.capacity() == body.len() {
            body.reserve_exact(room.min(body.len().max(INFLATE_BYTES_MIN)));
        }
        let taken_before = inflater.total_in();
        let status =
            inflater.decompress_vec(input, body, FlushDecompress::Sync).map_err(|_| InflateError::Corrupt)?;
        let taken = inflater.total_in() - taken_before;
        input = &input[usize::try_from(taken).map_err(|_| InflateError::Corrupt)?..];
        if body.len() > bytes_max {
            return Err(InflateError::TooLarge);
        }
        match status {
            // RFC 7692, 7.2.3.4: a block may be marked as the last of its stream, and another may follow.
            Status::StreamEnd => inflater.reset(false),
            // Room left means that there was nothing left to write.
            Status::Ok | Status::BufError if body.len() < body.capacity() => {
                return if input.is_empty() { Ok(()) } else { Err(InflateError::Corrupt) };
            }
            Status::Ok | Status::BufError => {}
        }
    }
}

thread_local! {
    /// One compressor per window, made when first needed: about 300 KiB each with the largest window.
    static COMPRESSORS: RefCell<[Option<Compress>; 3]> = const { RefCell::new([None, None, None]) };
    /// One inflater, with the largest window, which inflates every smaller one.
    static INFLATER: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

#[cfg(test)]
mod tests;

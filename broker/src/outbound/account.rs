//! What went over a connection, and what its client was told last: for whoever looks at it, or asks afterwards why it ended.

use std::time::Duration;

use bongsu_protocol::reason::Error;

/// What went over a connection. Some 80 bytes for each.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// Frames of the client.
    pub frames_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Frames for the client, by whatever carries them.
    pub frames_out: u64,
    /// Bytes that the socket took; of a relay, nothing is known.
    pub bytes_out: u64,
    /// When the client was heard last.
    pub heard_at: Duration,
    /// The last error that it was told.
    pub last_error: Option<Box<Error>>,
    /// What it was told at the end, beside the reason.
    pub farewell: Option<Box<str>>,
}

impl Account {
    /// Counts a frame of the client.
    pub(super) const fn heard(&mut self, now: Duration, n_bytes: usize) {
        self.frames_in += 1;
        self.bytes_in += n_bytes as u64;
        self.heard_at = now;
    }

    /// Keeps what the client is told at the end. The first counts, as it does for the client.
    pub fn note_farewell(&mut self, text: &str) {
        if self.farewell.is_none() && !text.is_empty() {
            self.farewell = Some(text.into());
        }
    }
}

//! Where `bongsu sub` writes, and in which form.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write, stdout};
use std::path::Path;

use anyhow::{Context as _, bail};
use bongsu_client::{Delivery, Item};
use bongsu_protocol::codec::{self, Format};
use bongsu_protocol::event::Event;
use bytes::BytesMut;

/// Bytes that are gathered before they are written, unless nothing more is at hand.
const BUFFER_BYTES: usize = 256 << 10;

/// Standard output or a file, and what waits to be written to it.
pub(super) struct Output {
    target: Box<dyn Write>,
    json: bool,
    buffer: Vec<u8>,
    /// Bytes of the file, what was written by earlier runs included; `None` for standard output.
    n_bytes: Option<u64>,
}

impl Output {
    pub(super) fn to_stdout(json: bool) -> Self {
        Self { target: Box::new(stdout()), json, buffer: Vec::new(), n_bytes: None }
    }

    /// A file that goes on after its first `n_kept` bytes; what an earlier run wrote behind them, without remembering, is cut off.
    pub(super) fn to_file(path: &Path, n_kept: u64, json: bool) -> anyhow::Result<Self> {
        let open = || -> io::Result<(File, u64)> {
            let file = OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
            let length = file.metadata()?.len();
            Ok((file, length))
        };
        let (mut file, length) = open().with_context(|| path.display().to_string())?;
        if length < n_kept {
            bail!(
                "{} has {length} bytes, fewer than the {n_kept} that the file of positions says: remove both to begin anew",
                path.display()
            );
        }
        file.set_len(n_kept).and_then(|()| file.seek(SeekFrom::Start(n_kept)))?;
        Ok(Self { target: Box::new(file), json, buffer: Vec::new(), n_bytes: Some(n_kept) })
    }

    pub(super) const fn n_bytes(&self) -> Option<u64> {
        self.n_bytes
    }

    /// Takes an item; what is no message goes to standard error, and to the output only as JSON.
    pub(super) fn push(&mut self, item: &Item) {
        match item {
            Item::Message(delivery) => self.push_message(delivery),
            Item::Lost(lost) => {
                match lost.range {
                    Some(range) => eprintln!(
                        "bongsu: lost {} messages of {}, {}:{} to {}:{}",
                        lost.count, lost.topic, range.epoch.0, range.from.0, range.epoch.0, range.until.0
                    ),
                    None => eprintln!("bongsu: lost {} messages of {}", lost.count, lost.topic),
                }
                self.push_event(&Event::Lost(lost.clone()));
            }
            Item::Reset { topic, epoch } => {
                eprintln!("bongsu: the log of {topic} was made anew, with epoch {}", epoch.0);
                self.push_event(&Event::Reset { topic: topic.clone(), epoch: *epoch });
            }
            Item::Ended(_) => {}
        }
    }

    fn push_message(&mut self, delivery: &Delivery) {
        if !self.json {
            self.buffer.extend_from_slice(&delivery.message.payload);
            return self.buffer.push(b'\n');
        }
        let mut frame = BytesMut::new();
        codec::encode_delivery(Format::Json, delivery, &mut frame);
        // The event is an object of one member, the message.
        let message = frame.strip_prefix(b"{\"delivery\":").and_then(|it| it.strip_suffix(b"}"));
        self.push_line(message.unwrap_or(&frame));
    }

    fn push_event(&mut self, event: &Event) {
        if self.json {
            let mut frame = BytesMut::new();
            codec::encode_event(Format::Json, event, &mut frame);
            self.push_line(&frame);
        }
    }

    /// A payload that is JSON is kept as it came. Line breaks stand between its tokens only, so blanks in their place change nothing.
    fn push_line(&mut self, json: &[u8]) {
        let blank = |byte: &u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte };
        self.buffer.extend(json.iter().map(blank));
        self.buffer.push(b'\n');
    }

    pub(super) const fn is_full(&self) -> bool {
        self.buffer.len() >= BUFFER_BYTES
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.target.write_all(&self.buffer)?;
        self.target.flush()?;
        if let Some(n_bytes) = &mut self.n_bytes {
            *n_bytes += self.buffer.len() as u64;
        }
        self.buffer.clear();
        Ok(())
    }
}

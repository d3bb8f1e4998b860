//! From bytes to frames, however they were cut.

use bytes::{Buf, Bytes, BytesMut};

use crate::limits::{
    PAYLOAD_BYTES_MAX, STOMP_HEAD_BYTES_MAX, STOMP_HEADERS_MAX, STOMP_LINE_BYTES_MAX, STOMP_LOGIN_BYTES_MAX,
};
use crate::reason::CloseReason;

use super::frame::{Command, Frame, Version};
use super::refusal::Refusal;

/// Bytes of a first line that may still be a command: the longest is `UNSUBSCRIBE`, and unknown ones are named in the error.
const COMMAND_BYTES_MAX: usize = 32;

/// Reads frames from the byte stream of one connection.
///
/// ```text
///            EOL, NUL                 line                     blank line
///   Between ─────────▶ Between ─────────────▶ Head ─ header ─▶ Head ─────────▶ Body ─ NUL ─▶ Between
/// ```
///
/// A frame may come in any number of pieces, and a piece may hold many frames: the carrier's messages mean nothing. Bytes are
/// looked at once. Until [`use_version`](Self::use_version), only what a login needs fits.
#[derive(Debug)]
pub struct Decoder {
    /// What was agreed on; `None` before.
    version: Option<Version>,
    /// Received and not yet looked at, but for `n_scanned` bytes of an unfinished line.
    input: BytesMut,
    n_scanned: usize,
    part: Part,
    /// A refused stream gives nothing any more.
    is_broken: bool,
}

#[derive(Debug)]
enum Part {
    Between,
    Head(Head),
    Body(Box<Body>),
}

#[derive(Debug)]
struct Head {
    command: Result<Command, String>,
    headers: Vec<(String, String)>,
    n_headers: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Body {
    frame: Frame,
    bytes: BytesMut,
    /// From the `content-length` header; without one, the body ends at the first NUL.
    length: Option<usize>,
    bytes_max: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder for a connection that did not log in yet.
    #[must_use]
    pub fn new() -> Self {
        Self { version: None, input: BytesMut::new(), n_scanned: 0, part: Part::Between, is_broken: false }
    }

    /// From the next frame on, this version's rules hold, and the limits of a client that is known.
    pub const fn use_version(&mut self, version: Version) {
        self.version = Some(version);
    }

    /// Takes what the connection received. Copied, so that no frame keeps the read buffer in memory.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.is_broken {
            self.input.extend_from_slice(bytes);
        }
    }

    /// Bytes that were received and are not part of a frame that was given out.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        let body = match &self.part {
            Part::Body(body) => body.bytes.len(),
            Part::Between | Part::Head(_) => 0,
        };
        self.input.len() + body
    }

    /// The next complete frame. `None`: more bytes are needed.
    ///
    /// # Errors
    /// [`Refusal`]: send it as an ERROR frame and close. Nothing comes after it.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Refusal> {
        if self.is_broken {
            return Ok(None);
        }
        let result = self.advance();
        match &result {
            Ok(Some(_)) => {}
            // An idle connection keeps no buffer.
            Ok(None) if self.input.is_empty() => self.input = BytesMut::new(),
            Ok(None) => {}
            Err(_) => *self = Self { is_broken: true, ..Self::new() },
        }
        result
    }

    fn advance(&mut self) -> Result<Option<Frame>, Refusal> {
        loop {
            match &mut self.part {
                Part::Between => {
                    let rest = self.input.iter().position(|byte| !matches!(byte, b'\n' | b'\r' | 0));
                    self.input.advance(rest.unwrap_or(self.input.len()));
                    let Some(line) = self.take_line(COMMAND_BYTES_MAX)? else { return Ok(None) };
                    let line = text(&line)?;
                    // In 1.0, blanks around names mean nothing.
                    let name = if self.version == Some(Version::V10) { line.trim() } else { line };
                    let command = Command::parse(name).ok_or_else(|| line.to_owned());
                    let head = Head { command, headers: Vec::new(), n_headers: 0, bytes: 0 };
                    self.part = Part::Head(head);
                }
                Part::Head(_) => {
                    let Some(line) = self.take_line(STOMP_LINE_BYTES_MAX)? else { return Ok(None) };
                    let Part::Head(head) = &mut self.part else { return Ok(None) };
                    if line.is_empty() {
                        let body = std::mem::replace(head, Head::empty()).into_body(self.version)?;
                        self.part = Part::Body(Box::new(body));
                    } else {
                        head.add(&line, self.version)?;
                    }
                }
                Part::Body(body) => {
                    if !body.take(&mut self.input)? {
                        return Ok(None);
                    }
                    let Part::Body(body) = std::mem::replace(&mut self.part, Part::Between) else {
                        return Ok(None);
                    };
                    return Ok(Some(Frame { body: body.bytes.freeze(), ..body.frame }));
                }
            }
        }
    }

    /// The next line without its end, LF or CR LF in any version.
    fn take_line(&mut self, bytes_max: usize) -> Result<Option<Bytes>, Refusal> {
        let unseen = &self.input[self.n_scanned..];
        let Some(place) = unseen.iter().position(|byte| matches!(byte, b'\n' | 0)) else {
            self.n_scanned = self.input.len();
            // A CR at the end may belong to the line's end.
            let n_surely = self.n_scanned - usize::from(self.input.last() == Some(&b'\r'));
            return if n_surely > bytes_max { Err(line_too_long(bytes_max)) } else { Ok(None) };
        };
        let end = self.n_scanned + place;
        if self.input[end] == 0 {
            return Err(Refusal::malformed("a NUL before the blank line that ends the headers"));
        }
        self.n_scanned = 0;
        let mut line = self.input.split_to(end + 1);
        line.truncate(end);
        if line.last() == Some(&b'\r') {
            line.truncate(end - 1);
        }
        if line.len() > bytes_max { Err(line_too_long(bytes_max)) } else { Ok(Some(line.freeze())) }
    }
}

impl Head {
    /// What stands in the place of a head that was finished.
    const fn empty() -> Self {
        Self { command: Ok(Command::Error), headers: Vec::new(), n_headers: 0, bytes: 0 }
    }

    fn add(&mut self, line: &[u8], version: Option<Version>) -> Result<(), Refusal> {
        self.n_headers += 1;
        if self.n_headers > STOMP_HEADERS_MAX {
            return Err(self.refuse(Refusal::too_large("headers of a frame", STOMP_HEADERS_MAX)));
        }
        self.bytes += line.len();
        let bytes_max = if version.is_some() { STOMP_HEAD_BYTES_MAX } else { STOMP_LOGIN_BYTES_MAX };
        if self.bytes > bytes_max {
            return Err(self.refuse(Refusal::too_large("bytes of a frame's headers", bytes_max)));
        }
        let (name, value) = self.parse(line, version).map_err(|refusal| self.refuse(refusal))?;
        // Of a repeated header the first one counts.
        if !self.headers.iter().any(|(earlier, _)| *earlier == name) {
            self.headers.push((name, value));
        }
        Ok(())
    }

    fn parse(&self, line: &[u8], version: Option<Version>) -> Result<(String, String), Refusal> {
        let line = text(line)?;
        // The first colon: some clients do not escape those in values.
        let Some((name, value)) = line.split_once(':') else {
            return Err(Refusal::malformed("a header is a name, a colon and a value"));
        };
        let is_escaped = self.command.as_ref().is_ok_and(|command| command.is_escaped());
        let (name, value) = match version {
            Some(Version::V10) => (name.trim().to_owned(), value.trim().to_owned()),
            Some(Version::V11 | Version::V12) if is_escaped => (unescaped(name)?, unescaped(value)?),
            Some(_) | None => (name.to_owned(), value.to_owned()),
        };
        if name.is_empty() {
            return Err(Refusal::malformed("a header without a name"));
        }
        Ok((name, value))
    }

    fn into_body(self, version: Option<Version>) -> Result<Body, Refusal> {
        let command = match &self.command {
            Ok(command) => *command,
            Err(unknown) => return Err(self.refuse(Refusal::bad_command(unknown))),
        };
        // Clients acknowledge a message with all of its headers: that is no announcement of a body.
        let length = if command.has_body() { content_length(&self.headers) } else { None };
        let frame = Frame { command, headers: self.headers, body: Bytes::new() };
        // A login has none, so what a stranger sends in the place of one must not cost as much as a message.
        let bytes_max = if version.is_some() { PAYLOAD_BYTES_MAX } else { STOMP_LOGIN_BYTES_MAX };
        if let Some(length) = length {
            check_body(&frame, length, bytes_max)?;
        }
        Ok(Body { frame, bytes: BytesMut::new(), length, bytes_max })
    }

    /// A refusal that names the receipt that the frame asked for, where that is known.
    fn refuse(&self, refusal: Refusal) -> Refusal {
        let receipt = self.headers.iter().find(|(name, _)| name == "receipt");
        refusal.about(receipt.map(|(_, value)| value.as_str()))
    }
}

impl Body {
    /// Takes what belongs to the body. True once it is complete and its NUL was taken too.
    fn take(&mut self, input: &mut BytesMut) -> Result<bool, Refusal> {
        let n_taken = match self.length {
            Some(length) => input.len().min(length - self.bytes.len()),
            None => input.iter().position(|byte| *byte == 0).unwrap_or(input.len()),
        };
        check_body(&self.frame, self.bytes.len() + n_taken, self.bytes_max)?;
        self.bytes.extend_from_slice(&input[..n_taken]);
        input.advance(n_taken);
        if self.length.is_some_and(|length| self.bytes.len() < length) || input.is_empty() {
            return Ok(false);
        }
        if input[0] != 0 {
            let refusal = Refusal::malformed("no NUL after as many bytes as `content-length` says");
            return Err(refusal.about(self.frame.header("receipt")));
        }
        input.advance(1);
        Ok(true)
    }
}

fn check_body(frame: &Frame, length: usize, bytes_max: usize) -> Result<(), Refusal> {
    let refusal = if length == 0 || (frame.command.has_body() && length <= bytes_max) {
        return Ok(());
    } else if frame.command.has_body() {
        Refusal::too_large("bytes of a body", bytes_max)
    } else {
        Refusal::new("Unexpected body", format!("{} has no body", frame.command.as_str()))
    };
    Err(refusal.about(frame.header("receipt")))
}

/// A value that is no number counts as absent; one that is too large for the machine is too large for anybody.
fn content_length(headers: &[(String, String)]) -> Option<usize> {
    let (_, value) = headers.iter().find(|(name, _)| name == "content-length")?;
    let digits = value.trim();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(usize::MAX))
}

fn text(bytes: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(bytes).map_err(|_| {
        Refusal::closing(CloseReason::InvalidPayload, "Malformed frame", "commands and headers are UTF-8")
    })
}

fn unescaped(text: &str) -> Result<String, Refusal> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        plain.push(match rest.next() {
            Some('n') => '\n',
            Some('c') => ':',
            Some('\\') => '\\',
            // Not in 1.1, but its clients write it.
            Some('r') => '\r',
            _ => return Err(Refusal::malformed("an undefined escape in a header")),
        });
    }
    Ok(plain)
}

fn line_too_long(bytes_max: usize) -> Refusal {
    Refusal::too_large("bytes of a line", bytes_max)
}

//! The frames that a client understands.

use std::fmt::Write as _;

use bytes::Bytes;

/// Why a session closes, as the application on the other side sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// 1000, or 3000 to 4999 for applications; the others are this side's own.
    pub code: u16,
    /// For people.
    pub reason: String,
}

impl Close {
    /// A close with any code and reason.
    #[must_use]
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// The application is done.
    #[must_use]
    pub fn go_away() -> Self {
        Self::new(3000, "Go away!")
    }

    /// A second receiving request came while the first is open.
    #[must_use]
    pub fn another_connection() -> Self {
        Self::new(2010, "Another connection still open")
    }

    /// The network ended a receiving request: what was written last may be lost.
    #[must_use]
    pub fn interrupted() -> Self {
        Self::new(1002, "Connection interrupted")
    }

    /// What came from the client is no message.
    #[must_use]
    pub fn broken_framing() -> Self {
        Self::new(3000, "Broken framing.")
    }

    /// This node is going away.
    #[must_use]
    pub fn restarting() -> Self {
        Self::new(1012, "Server restarting")
    }

    /// The frame, `c[code,"reason"]`.
    #[must_use]
    pub fn frame(&self) -> String {
        let mut frame = format!("c[{},", self.code);
        quote(&self.reason, &mut frame);
        frame.push(']');
        frame
    }
}

/// The frame that opens a session.
pub const OPEN: &str = "o";

/// The frame that says that the session lives.
pub const HEARTBEAT: &str = "h";

/// What stands before the only message of a frame; [`MESSAGE_END`] follows it.
pub const MESSAGE_BEGIN: &str = "a[\"";

/// What stands behind the only message of a frame.
pub const MESSAGE_END: &str = "\"]";

/// Text as it stands between the quotes of a frame. Escaping works character by character, so that the quoted text of two
/// parts is the two quoted parts: what many messages have in common is quoted once and shared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quoted(Bytes);

impl Quoted {
    /// Quotes a text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut quoted = String::new();
        escape(text, &mut quoted);
        Self(quoted.into())
    }

    /// The quoted text; UTF-8. Cloning it copies nothing.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.0
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("it was made of text")
    }
}

/// A message for the client: a beginning of its own, which may be empty, and a rest that others share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The beginning.
    pub head: Quoted,
    /// The rest.
    pub tail: Quoted,
}

impl Message {
    /// Bytes of the message as it is written.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.head.0.len() + self.tail.0.len()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self { head: Quoted::default(), tail: Quoted::new(text) }
    }
}

/// The frame of some messages.
pub(super) fn messages<'a>(messages: impl ExactSizeIterator<Item = &'a Message> + Clone) -> String {
    // For each message two quotes and a comma, around them `a[` and `]`.
    let bytes = messages.clone().map(|message| message.len() + 3).sum::<usize>() + 3;
    let mut frame = String::with_capacity(bytes);
    frame.push_str("a[");
    for (idx, message) in messages.enumerate() {
        frame.push_str(if idx > 0 { ",\"" } else { "\"" });
        frame.push_str(message.head.as_str());
        frame.push_str(message.tail.as_str());
        frame.push('"');
    }
    frame.push(']');
    frame
}

/// Appends a JSON string.
pub(super) fn quote(text: &str, out: &mut String) {
    out.reserve(text.len() + 2);
    out.push('"');
    escape(text, out);
    out.push('"');
}

/// Appends what stands in a JSON string. What browsers or proxies change on the way is escaped: control characters, the blanks and
/// marks around U+2028, U+FFF0 and above, and everything that takes two UTF-16 units.
fn escape(text: &str, out: &mut String) {
    out.reserve(text.len());
    let mut plain_from = 0;
    for (at, character) in text.char_indices() {
        let code = u32::from(character);
        let is_plain = matches!(code, 0x20..=0x200b | 0x2010..=0x2027 | 0x2030..=0x205f | 0x2070..=0xffef)
            && !matches!(character, '"' | '\\');
        if is_plain {
            continue;
        }
        out.push_str(&text[plain_from..at]);
        plain_from = at + character.len_utf8();
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            _ => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    write!(out, "\\u{unit:04x}").expect("a string takes everything");
                }
            }
        }
    }
    out.push_str(&text[plain_from..]);
}

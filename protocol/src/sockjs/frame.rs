//! The frames that a client understands.

use std::fmt::Write as _;

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
pub(super) const OPEN: &str = "o";

/// The frame that says that the session lives.
pub(super) const HEARTBEAT: &str = "h";

/// The frame of some messages.
pub(super) fn messages<'a>(messages: impl IntoIterator<Item = &'a str>) -> String {
    let mut frame = String::from("a[");
    for (idx, message) in messages.into_iter().enumerate() {
        if idx > 0 {
            frame.push(',');
        }
        quote(message, &mut frame);
    }
    frame.push(']');
    frame
}

/// Appends a JSON string. What browsers or proxies change on the way is escaped: control characters, the blanks and marks around
/// U+2028, U+FFF0 and above, and everything that takes two UTF-16 units.
pub(super) fn quote(text: &str, out: &mut String) {
    out.reserve(text.len() + 2);
    out.push('"');
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
    out.push('"');
}

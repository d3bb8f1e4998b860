//! W3C Trace Context, as messages carry it in their headers `traceparent` and `tracestate`.
//!
//! See <https://www.w3.org/TR/trace-context/>. What is malformed is taken as absent, as the specification wants it.

use bongsu_protocol::limits::{HEADER_BYTES_MAX, HEADERS_MAX};
use bongsu_protocol::message::Message;

use crate::chance;

/// The header with the trace, the span and whether it is recorded. Lower case, as the specification writes it.
const TRACEPARENT: &str = "traceparent";
/// The header with what other tracing systems want to keep. It is passed on as it is.
const TRACESTATE: &str = "tracestate";

/// Characters of a `traceparent` of version 0: `00-<32>-<16>-<2>`.
const LENGTH: usize = 55;
/// The flag "somebody records this trace".
const SAMPLED: u8 = 1;
/// The flags that version 0 knows: sampled, and that the trace's id is random. Others are not passed on.
const KNOWN_FLAGS: u8 = 3;

/// A span of a trace, wherever it was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TraceContext {
    /// Which trace; not zero.
    pub(super) trace: u128,
    /// Which span of it; not zero.
    pub(super) span: u64,
    flags: u8,
}

impl TraceContext {
    /// The first span of a new trace, which is recorded.
    pub(super) fn root() -> Self {
        Self { trace: chance::range(1..=u128::MAX), span: new_span(), flags: KNOWN_FLAGS }
    }

    /// A new span of the same trace.
    pub(super) fn child(self) -> Self {
        Self { span: new_span(), ..self }
    }

    /// Whether this trace is recorded.
    pub(super) const fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// What a message carries; `None` if it carries nothing or nothing that can be read.
    pub(super) fn of(message: &Message) -> Option<Self> {
        header(message, TRACEPARENT).and_then(Self::parse)
    }

    /// Makes a message carry this context, unless it has no room for it. A context that could not be read is replaced, and what belonged
    /// to it goes with it.
    pub(super) fn put_into(self, message: &mut Message) {
        let carried = Self::of(message);
        if carried.is_none() {
            message.headers.retain(|(name, _)| name != TRACEPARENT && name != TRACESTATE);
        }
        if let Some((_, value)) = message.headers.iter_mut().find(|(name, _)| name == TRACEPARENT) {
            *value = self.to_string();
            return;
        }
        let bytes: usize = message.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if message.headers.len() < HEADERS_MAX && bytes + TRACEPARENT.len() + LENGTH <= HEADER_BYTES_MAX {
            message.headers.push((TRACEPARENT.to_owned(), self.to_string()));
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        // A later version may append fields behind another dash; its first four are read as those of version 0.
        let (known, rest) = bytes.split_at_checked(LENGTH)?;
        let version = u8::try_from(hex(&known[..2])?).ok()?;
        let ends_well = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        if !ends_well || [2, 35, 52].iter().any(|place| known[*place] != b'-') {
            return None;
        }
        let trace = hex(&known[3..35])?;
        let span = u64::try_from(hex(&known[36..52])?).ok()?;
        let flags = u8::try_from(hex(&known[53..])?).ok()? & KNOWN_FLAGS;
        (trace != 0 && span != 0).then_some(Self { trace, span, flags })
    }
}

impl std::fmt::Display for TraceContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// What other tracing systems want to keep beside a message's trace; empty if there is nothing.
pub(super) fn state_of(message: &Message) -> &str {
    header(message, TRACESTATE).unwrap_or_default()
}

fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
}

fn new_span() -> u64 {
    chance::range(1..=u64::MAX)
}

/// Reads at most 32 lower-case hexadecimal digits. Upper case is malformed, as are signs and underscores.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn carrying(headers: &[(&str, &str)]) -> Message {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Message { headers: headers.collect(), ..Message::default() }
    }

    #[test]
    fn a_context_is_read_and_written_alike() {
        for flags in ["00", "01", "02", "03"] {
            let text = format!("00-{TRACE}-00f067aa0ba902b7-{flags}");
            let context = TraceContext::parse(&text).expect("it is well formed");
            assert_eq!(context.to_string(), text);
            assert_eq!(context.is_sampled(), flags.ends_with(['1', '3']));
        }
    }

    #[test]
    fn what_is_malformed_is_no_context() {
        let span = "00f067aa0ba902b7";
        for text in [
            String::new(),
            format!("00-{TRACE}-{span}"),
            format!("00-{TRACE}-{span}-01-"),
            format!("00-{TRACE}-{span}-01-extra"),
            format!("00-{TRACE}-{span}-1"),
            format!("00-{TRACE}-{span}-0g"),
            format!("ff-{TRACE}-{span}-01"),
            format!("0g-{TRACE}-{span}-01"),
            format!("00_{TRACE}-{span}-01"),
            format!("00-{}-{span}-01", TRACE.to_uppercase()),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-+{}-{span}-01", &TRACE[1..]),
            format!(" 00-{TRACE}-{span}-01"),
            format!("cc-{TRACE}-{span}-01.more"),
            format!("00-{TRACE}-{span}-é"),
        ] {
            assert_eq!(TraceContext::parse(&text), None, "{text}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for text in ["cc-{}-00f067aa0ba902b7-ff", "cc-{}-00f067aa0ba902b7-ff-what-comes-later"] {
            let context =
                TraceContext::parse(&text.replace("{}", TRACE)).expect("its first fields are known");
            assert_eq!(context.to_string(), format!("00-{TRACE}-00f067aa0ba902b7-03"));
        }
    }

    #[test]
    fn a_message_carries_the_newest_span_and_keeps_the_state_of_its_trace() {
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let mut message = carrying(&[("a", "b"), ("tracestate", "x=y"), ("traceparent", &parent)]);
        let child = TraceContext::of(&message).expect("it carries one").child();
        child.put_into(&mut message);
        assert_eq!(TraceContext::of(&message), Some(child));
        assert_eq!(message.headers.len(), 3);
        assert_eq!(state_of(&message), "x=y");
    }

    #[test]
    fn a_context_that_cannot_be_read_is_replaced_with_what_belonged_to_it() {
        let mut message = carrying(&[("traceparent", "00-nothing"), ("a", "b"), ("tracestate", "x=y")]);
        let root = TraceContext::root();
        root.put_into(&mut message);
        assert_eq!(TraceContext::of(&message), Some(root));
        assert_eq!(message.headers.len(), 2);
        assert_eq!(state_of(&message), "");
    }

    #[test]
    fn a_message_without_room_stays_as_it_is() {
        let names: Vec<String> = (0..HEADERS_MAX).map(|n| n.to_string()).collect();
        let mut many = carrying(&names.iter().map(|name| (name.as_str(), "")).collect::<Vec<_>>());
        let mut long = carrying(&[("a", &"b".repeat(HEADER_BYTES_MAX - 10))]);
        for message in [&mut many, &mut long] {
            let before = message.clone();
            TraceContext::root().put_into(message);
            assert_eq!(*message, before);
        }
    }
}

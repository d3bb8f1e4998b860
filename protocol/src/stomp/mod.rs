//! STOMP 1.0, 1.1 and 1.2.
//!
//! | module | what it holds |
//! |---|---|
//! | `frame` | frames, commands and versions |
//! | `decoder`, `encoder` | frames as bytes |
//! | [`conversation`] | what a client says and hears, between its frames and a [`Session`](crate::session::Session) |
//! | [`destination`] | which topics a destination means |
//! | `refusal` | what an ERROR frame says |
//!
//! A carrier (TCP, WebSocket, SockJS) is a stream of bytes here: where its messages begin and end means nothing.

pub mod conversation;
mod decoder;
pub mod destination;
mod encoder;
mod frame;
mod refusal;

pub use conversation::Conversation;
pub use decoder::Decoder;
pub use encoder::{
    MessageHead, TailKind, encode_frame, encode_message_head, encode_message_tail, encode_refusal,
};
pub use frame::{Command, Frame, Version};
pub use refusal::Refusal;

/// A heart-beat: what either side sends where it has nothing to say.
pub const HEART_BEAT: &[u8] = b"\n";

/// The `message` of an ERROR frame about versions; such a frame also names those that there are.
const VERSION_MISMATCH: &str = "Version mismatch";

//! Event streams: messages as an endless HTTP answer, for `EventSource` and for `curl`.
//!
//! | module | what it holds |
//! |---|---|
//! | `encode` | messages as server-sent events, as lines of JSON and as a JSON sequence |
//! | `bookmark` | what a reader comes back with, and how it is kept while the stream goes on |
//!
//! A stream of one topic is the same bytes for all of its readers, bookmarks included. Elsewhere a line with the reader's own bookmark
//! stands before what all share.

mod bookmark;
mod encode;

pub use bookmark::{Bookmark, InvalidBookmark, Tracker};
pub use encode::{
    HEARTBEAT, Shape, encode_bookmark, encode_event, encode_message, encode_message_line, encode_prelude,
    encode_retry,
};

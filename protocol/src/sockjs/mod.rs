//! SockJS 0.3.3: messages over whatever a browser and its proxies let through.
//!
//! | module | what it holds |
//! |---|---|
//! | `frame` | the frames `o`, `h`, `a[…]`, `c[…]` and how their strings are written |
//! | `incoming` | messages that a client sent |
//! | `transport` | how each transport wraps a frame, and what it answers before the first |
//! | `page` | the pages that load inside a client's own |
//! | `route` | which path is what |
//! | `session` | one session, whose receiving requests come and go |
//!
//! What the messages say is not known here: STOMP or the native protocol, each as text.

mod frame;
mod incoming;
mod page;
mod route;
mod session;
mod transport;

pub use frame::{Close, HEARTBEAT, MESSAGE_BEGIN, MESSAGE_END, Message, OPEN, Quoted};
pub use incoming::{InvalidPayload, parse_jsonp_send, parse_websocket, parse_xhr_send};
pub use page::{IframePage, Info};
pub use route::{Method, Route, SessionPath};
pub use session::{Chunk, Ended, Session, Timing};
pub use transport::{Callback, InvalidCallback, Transport};

/// What a service's own address answers.
pub const GREETING: &str = "Welcome to SockJS!\n";

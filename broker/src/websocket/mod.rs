//! The server's side of WebSocket (RFC 6455, RFC 7692, RFC 8441): what is between an HTTP request and whole messages.
//!
//! Pure except for [`upgrade`]: no socket, task or clock. A connection reads into any buffer it likes (one per thread
//! will do), lets its [`Decoder`](decoder::Decoder) take messages out of it, and writes the finished frames of
//! [`frame`] and [`deflate`], which it shares with every other connection.
//!
//! | module | what it does |
//! |---|---|
//! | [`handshake`] | accepts or refuses an opening request: version, key, origin, sub-protocol, compression, token |
//! | [`upgrade`] | gets the socket back from hyper once the request was answered |
//! | [`decoder`] | takes messages out of what clients send, unmasked, checked and bounded |
//! | [`frame`] | makes complete frames to send |
//! | [`deflate`] | negotiates compression, compresses once per message, inflates within a bound |
//!
//! # Why this is not tokio-tungstenite
//!
//! Its public parts are used here ([`tungstenite::protocol::frame::FrameHeader`], close codes, the accept key), and its
//! client in tests. Its connection type is not, for what it lacks or costs a server that sends one message to many:
//!
//! * It has no `permessage-deflate` and no way to add it: frames with a reserved bit are refused below its interface.
//! * It copies each payload into each connection's own write buffer. Server frames are unmasked, so one encoded (and one
//!   compressed) frame can serve all connections; that needs a writer that takes finished frames.
//! * It owns the socket and a read buffer per connection, 128 KiB by default and all of it touched. Here an idle
//!   connection holds none ([`decoder::Decoder`] is a few words), since reading needs a buffer only while there is
//!   something to read.

pub mod decoder;
pub mod deflate;
pub mod frame;
pub mod handshake;
mod mask;
pub mod upgrade;
mod utf8;

//! Every limit of the protocol, in one place.
//!
//! A limit here holds for every peer and cannot be configured; what an operator may choose stands in the broker's
//! own `limits.rs` and never goes past these. Each constant says its unit, its reason and what happens when it is
//! reached.

/// Largest integer that JavaScript's numbers hold exactly (2^53 - 1). Request ids, epochs, offsets and times stay at
/// or below it, so that JSON clients may read them as plain numbers. Larger values are refused as a bad request.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Bytes of a topic or topic filter, as UTF-8. MQTT allows 65,535; 255 keeps a name inside one index entry of every
/// store. Longer names are refused as a bad request.
pub const TOPIC_BYTES_MAX: usize = 255;

/// Levels of a topic or topic filter. 255 bytes could hold 128 levels; matching walks levels, so the walk is bounded
/// well below that. More levels are refused as a bad request.
pub const TOPIC_LEVELS_MAX: usize = 32;

/// Bytes of one message's payload: 1 MiB. A larger message is refused with `too_large`; send a reference to it.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Bytes of a content type. RFC 6838 allows 127 for each of type and subtype. Longer ones are refused.
pub const CONTENT_TYPE_BYTES_MAX: usize = 255;

/// Headers of one message. More are refused.
pub const HEADERS_MAX: usize = 32;

/// Bytes of all header names and values of one message together: 8 KiB, what common HTTP servers take. More are refused.
pub const HEADER_BYTES_MAX: usize = 8 << 10;

/// Bytes of a message id. Long enough for a UUID, a ULID or a SHA-512 in hexadecimal. Longer ids are refused.
pub const MESSAGE_ID_BYTES_MAX: usize = 128;

/// Bytes of a publisher's name, of a token's subject and of a session id. Longer ones are refused.
pub const NAME_BYTES_MAX: usize = 255;

/// Bytes of a token. RFC 9110 recommends servers to take request lines of 8,000 octets; a token must fit one.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

/// Bytes of one frame from a client: one payload of the largest size as base64 (4/3 of it) with its headers fits
/// (1 MiB * 4 / 3 = 1,398,102; + 8 KiB; < 2 MiB). A larger frame closes the connection with 1009.
pub const FRAME_BYTES_MAX: usize = 2 << 20;

/// Requests in one frame. More close the connection with 1002, since their replies could not be told apart.
pub const REQUESTS_PER_FRAME_MAX: usize = 1024;

/// Messages in one publish request. More are refused.
pub const MESSAGES_PER_PUBLISH_MAX: usize = 1024;

/// Filters in one subscribe or unsubscribe request. More are refused; send a second request.
pub const FILTERS_PER_REQUEST_MAX: usize = 1024;

/// Positions that one subscription may say it has seen. More are refused; subscribe to narrower filters.
pub const SEEN_MAX: usize = 10_000;

/// Messages in one history page. A request for more gets this many and `more: true`.
pub const PAGE_MESSAGES_MAX: usize = 1024;

/// Messages in one history page for which the request names no limit: what fills a screen a few times over.
pub const PAGE_MESSAGES_DEFAULT: usize = 100;

/// Payload bytes in one history page: 1 MiB. A page holds at least one message, and otherwise ends before this.
pub const PAGE_BYTES_MAX: usize = 1 << 20;

/// Bytes of the info that a present member shows: 1 KiB, since every reader of the topic's presence gets all of them.
pub const INFO_BYTES_MAX: usize = 1 << 10;

/// Members named in one reply. A topic with more says how many there are and names this many.
pub const MEMBERS_MAX: usize = 1000;

/// Bytes of an error's or a goodbye's text. Longer text is cut at a character boundary.
pub const TEXT_BYTES_MAX: usize = 512;

/// RFC 6455, 5.5: a control frame carries at most 125 bytes, two of which are the close code.
pub const CLOSE_REASON_BYTES_MAX: usize = 123;

/// Depth of nested JSON in a payload or in a member's info, so that no peer's parser runs out of stack. Deeper JSON is
/// refused as a bad request where it came as JSON; where it came as bytes, JSON readers see base64.
pub const JSON_DEPTH_MAX: usize = 128;

/// Headers of one STOMP frame: those of a message ([`HEADERS_MAX`]) and as many again for the protocol. A frame with more is refused
/// with an ERROR frame.
pub const STOMP_HEADERS_MAX: usize = 2 * HEADERS_MAX;

/// Bytes of one header line of a STOMP frame: a value of [`HEADER_BYTES_MAX`] whose every byte is escaped (2 * 8 KiB), and its name.
/// A longer line is refused with an ERROR frame.
pub const STOMP_LINE_BYTES_MAX: usize = 2 * HEADER_BYTES_MAX + 256;

/// Bytes of all header lines of a STOMP frame: one of the largest and 8 KiB for the others. More are refused with an ERROR frame.
pub const STOMP_HEAD_BYTES_MAX: usize = STOMP_LINE_BYTES_MAX + (8 << 10);

/// The same before the client is known: a token ([`TOKEN_BYTES_MAX`]) and 4 KiB for the others, so that strangers cost little.
pub const STOMP_LOGIN_BYTES_MAX: usize = TOKEN_BYTES_MAX + (4 << 10);

/// Open transactions of one STOMP connection, as RabbitMQ has it. A further BEGIN is refused with an ERROR frame.
pub const STOMP_TRANSACTIONS_MAX: usize = 16;

/// Frames in one STOMP transaction, as RabbitMQ has it. A further one is refused with an ERROR frame.
pub const STOMP_TRANSACTION_FRAMES_MAX: usize = 1024;

/// Bytes of messages in one STOMP transaction: four of the largest. More are refused with an ERROR frame.
pub const STOMP_TRANSACTION_BYTES_MAX: usize = 4 * PAYLOAD_BYTES_MAX;

/// Messages of a work queue that one consumer may hold unsettled. A larger `prefetch-count` counts as this one.
pub const STOMP_PREFETCH_MAX: u32 = 1000;

/// Messages in one request of a SockJS client. More are refused with 413.
pub const SOCKJS_MESSAGES_MAX: usize = REQUESTS_PER_FRAME_MAX;

/// Bytes of a SockJS callback's name, as other servers allow. Longer ones are refused with 500.
pub const SOCKJS_CALLBACK_BYTES_MAX: usize = 32;

/// Bytes of messages that wait for a SockJS client's next request: 64 KiB. While there are as many, its session takes no more.
pub const SOCKJS_QUEUE_BYTES_MAX: usize = 64 << 10;

/// Bytes of messages in one SockJS frame: 128 KiB, after which streaming answers end as well. A frame has one message at least.
pub const SOCKJS_BATCH_BYTES_MAX: usize = 128 << 10;

/// Bytes of an event stream's bookmark. A `Last-Event-ID` header of at most 128 safe bytes needs no preflight in cross-origin
/// requests (Fetch, 2.2.2). Longer ones are taken for lost.
pub const BOOKMARK_BYTES_MAX: usize = 128;

/// Bytes of padding that a reader of an event stream may ask for, against proxies that hold back the first few KiB. More is cut.
pub const EVENT_STREAM_PADDING_BYTES_MAX: usize = 4 << 10;

/// Messages of a work queue between the oldest that is not settled and the newest that was dispatched: what the queue must remember one
/// by one. While there are as many, consumers get only what came back.
pub const QUEUE_WINDOW_MAX: u64 = 10_000;

/// Messages of a work queue that one node moves to the dead-letter topic at the same time. The others wait.
pub const QUEUE_DEAD_AT_ONCE_MAX: usize = 16;

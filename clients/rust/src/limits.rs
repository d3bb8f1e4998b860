//! The client's bounds: what it holds at most, how long it waits, and what happens then.

use std::time::Duration;

/// Bytes that a subscription holds for a reader that is slower than the broker: 1 MiB, a few thousand small messages. When it
/// is full, the client stops reading its socket; after a while it lets its subscription pause. A single frame may go past it.
pub const SUBSCRIPTION_BYTES_DEFAULT: usize = 1 << 20;

/// Bytes of published messages without an acknowledgment: 4 MiB, about a second of a fast link at a high round-trip time. A
/// publish beyond waits.
pub const WINDOW_BYTES_DEFAULT: usize = 4 << 20;

/// What a message counts in both bounds beside its own bytes: its names, its place in a list, its waiter.
pub(crate) const MESSAGE_OVERHEAD_BYTES: usize = 256;

/// From a call to its answer, over as many connections as it takes. Then the call fails with `Timeout`.
pub const REQUEST_DEADLINE_DEFAULT: Duration = Duration::from_secs(30);

/// From the first packet to the broker's welcome. Then the attempt has failed.
pub const CONNECT_DEADLINE_DEFAULT: Duration = Duration::from_secs(10);

/// The pause before the second attempt to connect, doubled for each further one. Half of each pause is random.
pub const BACKOFF_MIN_DEFAULT: Duration = Duration::from_millis(250);

/// The longest pause between attempts: a client is at most this much later than a broker that came back.
pub const BACKOFF_MAX_DEFAULT: Duration = Duration::from_secs(30);

/// Where the broker says "connect again at once", the reconnects of its clients spread over this time.
pub(crate) const RECONNECT_NOW_SPREAD: Duration = Duration::from_secs(1);

/// A connection that lasted this long ends the doubling of pauses.
pub(crate) const CONNECTION_PROVEN: Duration = Duration::from_secs(5);

/// Payload bytes after which a frame to the broker ends. Large enough to spread its cost, small enough that the first reply
/// comes early. One larger message still has a frame of its own.
pub(crate) const FRAME_BYTES_TARGET: usize = 256 << 10;

/// Bytes of names and positions in one `seen` list, so that with the rest it fits the broker's largest frame of 2 MiB.
pub(crate) const SEEN_BYTES_MAX: usize = 1 << 20;

/// Publish requests without a reply. While there are as many, further messages gather, so that the next request carries many.
pub(crate) const PUBLISHES_IN_FLIGHT_MAX: usize = 8;

/// Other requests without a reply. Further ones wait in the client. Brokers stop reading at some number of this size.
pub(crate) const REQUESTS_IN_FLIGHT_MAX: usize = 32;

/// Calls that the client holds besides publishes, and messages on their way to it. Beyond, a call waits before it is taken.
pub(crate) const CALLS_MAX: usize = 1024;

/// Calls handed over but not yet taken: a few, since each is taken at once unless [`CALLS_MAX`] is reached.
pub(crate) const CALL_QUEUE: usize = 64;

/// How long the client leaves its socket unread because a subscription's buffer is full. Then it ends its subscriptions at the
/// broker for the time being, throws away what is still under way, and subscribes again from what it has seen once its
/// reader has caught up. Short enough that the broker's pings are answered.
pub(crate) const FULL_PATIENCE: Duration = Duration::from_secs(1);

/// The same while a call waits for its answer, which is behind the unread messages: the reader may be waiting for that
/// very answer.
pub(crate) const FULL_PATIENCE_WITH_CALLS: Duration = Duration::from_millis(50);

/// The pause before a subscription that the broker could not make for the moment is asked for again, where it names none.
pub(crate) const SUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);

/// How long `close` waits for outstanding acknowledgments, and then once more for the broker's side of the closing handshake.
pub(crate) const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of the socket's read buffer, allocated once per connection. 64 KiB takes in a burst with few system calls.
pub(crate) const READ_BUFFER_BYTES: usize = 64 << 10;

/// Bytes gathered before they are written.
pub(crate) const WRITE_BUFFER_BYTES: usize = 64 << 10;

/// Bytes that may wait for a socket that does not take them. A frame is encoded only when the one before it was written, so one
/// frame of the largest size and some control frames fit: 2 MiB + 64 KiB < 4 MiB.
pub(crate) const WRITE_BUFFER_BYTES_MAX: usize = 4 << 20;

/// Bytes of a frame from the broker: a page of 1 MiB and one message of 1 MiB with its headers fit (< 4 MiB). The bound is
/// generous since the broker decides it.
pub(crate) const SERVER_FRAME_BYTES_MAX: usize = 16 << 20;

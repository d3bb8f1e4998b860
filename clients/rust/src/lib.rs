//! The client of Bongsu, a publish/subscribe broker: one log per topic, and every reader resumes where it was.
//!
//! ```no_run
//! # async fn example() -> Result<(), bongsu_client::Error> {
//! use bongsu_client::{Client, Item, Start};
//!
//! let client = Client::connect("ws://127.0.0.1:8080/v1/ws").await?;
//! let mut chat = client.subscribe("chat/#").from(Start::Last(10)).await?;
//! client.publish("chat/1", "hello").await?; // resolves when the broker has stored it
//! while let Some(item) = chat.next().await {
//!     match item {
//!         Item::Message(it) => println!("{}: {:?}", it.topic, it.message.payload),
//!         Item::Lost(lost) => println!("{} messages of {} are gone", lost.count, lost.topic),
//!         Item::Reset { topic, .. } => println!("{topic} begins anew"),
//!         Item::Ended(error) => return Err(error),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What it does by itself: connects again when the connection breaks, with growing and jittered pauses or as the broker says; goes on
//! reading right behind what it has; sends unacknowledged messages again, with ids that keep them from being stored twice; enters the
//! topics again where it was present; bounds everything it holds; and gives each call a deadline.
//!
//! What it does not: keep anything across restarts of the application. Store a message's position together with what came of the
//! message, and subscribe from [`Start::After`] it.
//!
//! | module | what it holds |
//! |---|---|
//! | `client`, `builder`, `state` | the handle, its options, and where it stands |
//! | `subscription`, `publish`, `history` | one kind of call each |
//! | `item` | what a subscription brings |
//! | `handle`, `call` | how calls get to the task that owns the connection, and answers back |
//! | `engine` | pure: calls, subscriptions and resuming, across connections |
//! | `backoff` | pure: how long to wait before connecting again |
//! | `driver`, `connection`, `mailbox` | the task that owns the connection, the socket, and what lies between task and reader |
//! | [`error`], [`limits`] | what can go wrong, and every bound |

mod backoff;
mod builder;
mod call;
mod client;
mod connection;
mod driver;
mod engine;
pub mod error;
mod handle;
mod history;
mod item;
pub mod limits;
mod mailbox;
mod publish;
mod state;
mod subscription;
#[cfg(feature = "tls")]
mod tls;

pub use builder::Builder;
pub use client::{Client, Members};
pub use error::{Disconnected, Error};
pub use history::History;
pub use item::Item;
pub use publish::{Acknowledgment, Acknowledgments, Publish};
pub use state::State;
pub use subscription::{Subscribe, Subscription};

pub use bongsu_protocol::command::Start;
pub use bongsu_protocol::event::{Lost, LostRange, Member, Page, Published, Subscribed, Welcome};
pub use bongsu_protocol::message::{Delivery, Message, NewMessage, Time};
pub use bongsu_protocol::position::{Epoch, Offset, Position};
pub use bongsu_protocol::reason::ErrorCode;
pub use bongsu_protocol::topic::{Topic, TopicFilter};
pub use bytes::Bytes;

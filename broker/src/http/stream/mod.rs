//! The Durable Streams protocol, version 1.0, on the logs of topics.
//!
//! # How a stream of bytes is a log of messages
//!
//! * An append is one message, or several where it is a JSON array, or larger than the topic's messages may be. An offset of the protocol
//!   is the position of a message, `epoch_offset`, each with 16 digits: opaque to clients, ordered as text, and the same place that
//!   every other reader of the topic has.
//! * What the messages say of their writers stands in their headers: see [`fold`]. So an append with its producer's sequence and
//!   the end of the stream are one message, which is stored or is not.
//! * What else is known of a stream (its type, its time to live, its forks, that it was deleted, and from time to time
//!   a sum of its messages' headers) stands in a register, the log `$streams/{topic}`: see [`record`]. It is apart from the stream's own
//!   log, so that reading, which may prolong a stream's life, leaves no trace among the messages.
//!
//! Both are logs like any others. They survive a restart, every node reads them, and no node owns a stream.
//!
//! # How two writers agree
//!
//! An append is judged by all messages before it. So it is published on the condition that the newest message is the one it was judged by
//! (`expect`); if another came first, it is judged again. Several messages of one append follow their first without the
//! condition: others may come between them. Should the stream be closed between them by way of another node, what follows is not part
//! of the stream, and the append is answered with 409. Should the process end between them, the retry of an idempotent producer
//! completes the append: each message says which part of its request it is. The register is written on the same condition. Should
//! it be deleted, made anew, and written as often as before, all while one node thinks about one change of it, that change would win; nodes
//! do not think that long.
//!
//! # Topics that nobody created
//!
//! A topic that was published to by any other way in is a stream, too: of `application/json`, in which a message that is no JSON is
//! a string as in the JSON protocol. It is read, appended to and closed like any other, but not deleted: who may publish to a topic may
//! not therefore remove what others published.
//!
//! # Forks
//!
//! A fork's register says where its first messages are; its own log has the rest, counted on from there. The source's register
//! names its forks, and a source that is deleted stays until the last of them is.

mod append;
mod body;
mod create;
mod delete;
mod fold;
mod gone;
mod live;
mod offset;
mod read;
mod record;
mod view;
mod write;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::Request;
use axum::response::Response;
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::limits::PAGE_MESSAGES_MAX;
use bongsu_protocol::position::Position;
use bongsu_protocol::session::LogPage;
use bongsu_protocol::topic::Topic;
use http::Method;
use tokio::sync::watch;

use super::body::Bodies;
use super::door::{Caller, Door, topic_of};
use super::problem::Problem;
use crate::delivery::SharedDelivery;
use crate::limits::{STREAM_LINGER, STREAMS_MAX};
use crate::node::Node;

use body::Chunks;
use view::{State, View};

pub(super) use fold::is_end;
pub use record::register_of;
pub use view::forks_of;

/// The path of the streams.
const PREFIX: &str = "/v1/stream/";

/// What a stream takes.
const METHODS: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS";

/// The streams that somebody asks for on this node.
pub(super) struct Streams {
    node: Arc<Node>,
    views: Mutex<HashMap<Topic, Arc<View>>>,
    /// Answers that others ask for, too.
    chunks: Chunks,
    bodies: Arc<Bodies>,
}

/// Answers a request for a stream.
pub(super) async fn answer(door: Arc<Door>, streams: Arc<Streams>, request: Request) -> Response {
    // Boxed, so that a parked poll occupies no more than it needs to.
    let work = |caller, request| Box::pin(streams.dispatch(caller, request));
    door.pass(request, work).await
}

/// A topic's log, whose head is known without asking the store. Small: a poll may hold hundreds.
pub(super) struct Follower {
    view: Arc<View>,
    state: watch::Receiver<State>,
}

impl Follower {
    /// The place of the newest message.
    pub(super) fn head(&self) -> Position {
        self.state.borrow().log.head
    }

    /// The same; [`changed`](Self::changed) tells of what comes after this.
    pub(super) fn look(&mut self) -> Position {
        self.view.note_use();
        self.state.borrow_and_update().log.head
    }

    /// Waits for a change since it was looked.
    pub(super) async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// The messages after a place, as far as one page goes: from memory, or shared with others who ask for it.
    pub(super) async fn page(
        &self,
        node: &Arc<Node>,
        after: Position,
    ) -> Result<LogPage<SharedDelivery>, Problem> {
        let range = HistoryRange::Forward(Start::After(after));
        let limit = u32::try_from(PAGE_MESSAGES_MAX).unwrap_or(u32::MAX);
        let query = HistoryQuery { topic: self.view.topic.clone(), range, limit };
        Ok(node.history().catch_up(query).await?)
    }
}

impl Streams {
    /// Begins to remove streams whose time has come, for as long as the process lives.
    pub(super) fn begin(node: Arc<Node>, bodies: Arc<Bodies>) -> Arc<Self> {
        let streams = Arc::new(Self { node, views: Mutex::default(), chunks: Chunks::default(), bodies });
        tokio::spawn(delete::reap(Arc::clone(&streams)));
        let removals = streams.node.history().removals();
        tokio::spawn(gone::follow(Arc::clone(&streams), removals));
        streams
    }

    async fn dispatch(self: Arc<Self>, caller: Caller, request: Request) -> Result<Response, Problem> {
        let topic = topic_of(request.uri().path(), PREFIX)?;
        // What a GET needs depends on where it begins.
        if *request.method() == Method::HEAD {
            caller.check_history(&topic).or_else(|_| caller.check_subscribe(&topic))?;
        } else if *request.method() != Method::GET {
            caller.check_write(&topic)?;
        }
        if !self.node.policies().for_topic(&topic).is_durable() {
            return Err(Problem::not_found("this topic keeps no history, and so is no stream"));
        }
        match request.method().as_str() {
            "GET" => {
                let (parts, _) = request.into_parts();
                self.read(caller, topic, parts).await
            }
            "HEAD" => self.describe(&topic).await,
            "POST" | "PUT" | "DELETE" => {
                // A task of its own, so that what was begun is not left half done when the client goes away.
                let written =
                    tokio::spawn(async move { self.write_for(&caller, &topic, request).await }).await;
                written.unwrap_or_else(|_| Err(Problem::internal("writing the stream failed")))
            }
            _ => Err(Problem::method_not_allowed(METHODS)),
        }
    }

    async fn write_for(
        self: &Arc<Self>,
        caller: &Caller,
        topic: &Topic,
        request: Request,
    ) -> Result<Response, Problem> {
        if self.is_one_of_many() && *request.method() != Method::POST {
            // Another node may have made or deleted it a moment ago.
            let view = self.find(topic)?;
            view.ready().await?;
            view.refresh(&self.node).await?;
        }
        match *request.method() {
            Method::POST => self.append(caller, topic, request).await,
            Method::PUT => self.create(caller, topic, request).await,
            _ => self.delete(topic).await,
        }
    }

    pub(super) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Follows the log of a topic, whether anybody made a stream of it or not.
    pub(super) async fn follow(self: &Arc<Self>, topic: &Topic) -> Result<Follower, Problem> {
        let view = self.find(topic)?;
        view.ready().await?;
        Ok(Follower { state: view.subscribe(), view })
    }

    /// Whether a reader at this place has read everything, and there will never be more.
    pub(super) async fn is_over(self: &Arc<Self>, topic: &Topic, place: Position) -> bool {
        let Ok(follower) = self.follow(topic).await else { return false };
        let state = follower.state.borrow();
        state.exists() && state.is_closed() && state.log.tail.epoch == place.epoch && place >= state.log.tail
    }

    /// The view of a stream, which may not exist. What is past its time is removed first.
    async fn view(self: &Arc<Self>, topic: &Topic) -> Result<Arc<View>, Problem> {
        let view = self.find(topic)?;
        view.ready().await?;
        if view.is_expired() {
            self.expire(&view).await?;
        }
        Ok(view)
    }

    /// The view of a stream that exists.
    async fn existing(self: &Arc<Self>, topic: &Topic) -> Result<Arc<View>, Problem> {
        let view = self.view(topic).await?;
        let asks_store = self.is_one_of_many() && self.node.settings().http.streams_ask_store;
        if asks_store {
            view.refresh(&self.node).await?;
        }
        let check = |view: &View| {
            let state = view.state();
            if state.is_deleted() {
                return Err(Problem::gone("this stream was deleted; forks of it remain"));
            }
            if state.exists() { Ok(()) } else { Err(Problem::not_found("there is no such stream")) }
        };
        if check(&view).is_err() && self.is_one_of_many() && !asks_store {
            // Another node may have made it a moment ago.
            view.refresh(&self.node).await?;
        }
        check(&view)?;
        Ok(view)
    }

    /// Whether other nodes write to the same logs.
    fn is_one_of_many(&self) -> bool {
        self.node.bus_health().is_some()
    }

    fn find(self: &Arc<Self>, topic: &Topic) -> Result<Arc<View>, Problem> {
        let mut views = self.lock();
        let view = match views.get(topic) {
            Some(view) => Arc::clone(view),
            None if views.len() >= STREAMS_MAX => {
                return Err(Problem::busy("this node has as many streams open as it takes"));
            }
            None => {
                let view = View::new(topic).ok_or_else(|| {
                    Problem::bad_request("a stream's name has at most 246 bytes and no $ in front")
                })?;
                views.insert(topic.clone(), Arc::clone(&view));
                tokio::spawn(Arc::clone(&view).run(Arc::clone(self)));
                view
            }
        };
        view.note_use();
        Ok(view)
    }

    /// Forgets a view that nobody holds or asked for in a while. True if it did.
    fn forget_unused(&self, topic: &Topic) -> bool {
        let mut views = self.lock();
        // One is in the map, one with the view's own task. Others are made under this lock only.
        let is_unused = |view: &Arc<View>| Arc::strong_count(view) <= 2 && view.idle() >= STREAM_LINGER;
        if views.get(topic).is_some_and(is_unused) {
            views.remove(topic);
            return true;
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Topic, Arc<View>>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

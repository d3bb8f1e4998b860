//! Following what happens on connections while it does.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use http::header::{self, HeaderMap};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Shared;
use crate::audit::Change;
use crate::error::Error;
use crate::problem::Problem;
use crate::query::Query;
use crate::role::Role;
use crate::route::{Asked, Route};
use crate::schema::{Line, TopicName};
use crate::time::Timestamp;

/// A stream that has nothing to tell shows a sign of life this often: 15 s, so that proxies let it be and a reader that is gone is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What happens on connections, as it does.
pub trait Trace {
    /// Follows what is wanted on all nodes that are alive now. Dropping the stream ends it everywhere.
    ///
    /// A trace costs each frame that it concerns a look and a line; what its reader is too slow for is dropped, and told.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the filter makes no sense. [`Error::TooMany`]: so many are followed already.
    fn trace(&self, query: TraceQuery) -> BoxFuture<'_, Result<BoxStream<'static, TraceEvent>, Error>>;
}

/// What to follow: at least one of session, subject and topic; what is given must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TraceQuery {
    /// The session of this name.
    #[param(value_type = Option<Line>)]
    pub session: Option<String>,
    /// All sessions of this subject; the empty one is that of all anonymous clients.
    #[param(value_type = Option<Line>)]
    pub subject: Option<String>,
    /// What concerns this topic.
    #[param(value_type = Option<TopicName>)]
    pub topic: Option<String>,
    /// Whether messages are shown with their first 4 KiB. Takes the role admin.
    pub payloads: Option<bool>,
}

/// Something that happened on a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceEvent {
    /// When.
    pub time: Timestamp,
    /// On which node.
    pub node: String,
    /// In which session; empty where it is about the trace itself.
    pub session: String,
    /// Whose; empty for an anonymous client.
    pub subject: String,
    /// What.
    pub what: What,
    /// What kind of frame: `subscribe`, `publish`, `reply`, `message`, `goodbye`, or the command of STOMP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
    /// Its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The topics and filters that it names: the first ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
    /// Why: the code of an error, or the reason of an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The same in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// How many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The first 4 KiB of a message, where asked for: in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A node follows from now on.
    Follows,
    /// A connection began.
    Opened,
    /// A frame of the client.
    In,
    /// A frame for the client.
    Out,
    /// The client may do what it asked for, and it was done.
    Authorized,
    /// It was not done.
    Refused,
    /// Messages that the client does not get.
    Lost,
    /// A connection ended.
    Closed,
    /// So many events are not in this trace, since its reader was too slow.
    Dropped,
    /// A node does not answer: what happens there is not in this trace.
    Missing,
}

impl What {
    /// How it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Follows => "follows",
            Self::Opened => "opened",
            Self::In => "in",
            Self::Out => "out",
            Self::Authorized => "authorized",
            Self::Refused => "refused",
            Self::Lost => "lost",
            Self::Closed => "closed",
            Self::Dropped => "dropped",
            Self::Missing => "missing",
        }
    }
}

/// How a stream of events is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Server-sent events.
    Events,
    /// A line of JSON for each.
    Lines,
}

pub(crate) fn routes() -> Vec<Route<Shared>> {
    // It changes nothing, but whoever looks over a user's shoulder is in the audit log.
    vec![Route::change(Role::Operator, __path_follow, follow)]
}

/// Follows what happens on connections
///
/// Frames in both directions, what was allowed or refused and why, and what was lost, live and over all nodes: as server-sent events, or as
/// lines of JSON with `Accept: application/x-ndjson`. An empty line or a comment is a sign of life. It ends when its reader closes it.
#[utoipa::path(get, path = "/v1/trace", operation_id = "trace", tag = "connections", params(TraceQuery),
    responses((status = 200, description = "What happens, as it does.",
        content((TraceEvent = "application/x-ndjson"), (String = "text/event-stream")))))]
async fn follow(
    State(control): State<Shared>,
    asked: Asked,
    headers: HeaderMap,
    Query(query): Query<TraceQuery>,
) -> Result<Response, Problem> {
    if query.payloads == Some(true) && asked.actor.role < Role::Admin {
        return Err(Problem::lacks_role(asked.actor.role, Role::Admin));
    }
    if query.session.is_none() && query.subject.is_none() && query.topic.is_none() {
        return Err(Error::invalid("session", "say what to follow: a session, a subject or a topic").into());
    }
    let target = [&query.session, &query.subject, &query.topic].into_iter().flatten().next();
    let change = Change::new("connections.trace", target.cloned().unwrap_or_default())
        .with(serde_json::json!({ "session": query.session, "subject": query.subject, "topic": query.topic,
            "payloads": query.payloads.unwrap_or_default() }));
    let events = asked.change(&*control, change, control.trace(query)).await?;
    let wants_lines = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let form = match wants_lines.into_iter().any(|accept| accept.contains("application/x-ndjson")) {
        true => Form::Lines,
        false => Form::Events,
    };
    let content_type = match form {
        Form::Events => "text/event-stream",
        Form::Lines => "application/x-ndjson",
    };
    let body = Body::from_stream(written(events, form).map(Ok::<_, Infallible>));
    Ok(([(header::CONTENT_TYPE, content_type)], body).into_response())
}

/// Events as bytes, with signs of life between them.
fn written(events: BoxStream<'static, TraceEvent>, form: Form) -> impl futures_util::Stream<Item = Bytes> {
    stream::unfold(events, move |mut events| async move {
        let bytes = match tokio::time::timeout(HEARTBEAT, events.next()).await {
            Ok(None) => return None,
            Ok(Some(event)) => {
                // Texts and numbers: nothing that JSON cannot hold.
                let json = serde_json::to_string(&event).unwrap_or_default();
                match form {
                    Form::Events => format!("event: {}\ndata: {json}\n\n", event.what.as_str()),
                    Form::Lines => format!("{json}\n"),
                }
            }
            Err(_) if form == Form::Events => ":\n\n".to_owned(),
            Err(_) => "\n".to_owned(),
        };
        Some((Bytes::from(bytes), events))
    })
}

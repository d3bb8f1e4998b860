//! Events, from the schema's tree to nouns, and back.

use std::sync::Arc;

use super::request::{
    filter, headers_tree, integer, message, position, position_tree, topic, topic_position_tree,
};
use super::{Malformed, pb};
use crate::command::RequestId;
use crate::event::{
    Event, Lost, LostRange, Member, Page, Published, Reply, Subscribed, TokenExpiring, Welcome,
};
use crate::message::{Delivery, Time};
use crate::position::{Epoch, Offset};
use crate::reason::{CloseReason, Error, ErrorCode, Goodbye, Reconnect};

/// Takes an event.
///
/// # Errors
/// [`Malformed::Structure`]: the broker broke the schema.
pub(super) fn event(tree: pb::event::Event) -> Result<Option<Event>, Malformed> {
    take(tree).map_err(|error| Malformed::Structure(error.text))
}

/// Takes a member.
///
/// # Errors
/// As [`event`].
pub(super) fn member(tree: pb::Member) -> Result<Member, Malformed> {
    take_member(tree).map_err(|error| Malformed::Structure(error.text))
}

/// `None`: a reply that this crate does not know.
fn take(tree: pb::event::Event) -> Result<Option<Event>, Error> {
    use pb::event::Event as Tree;
    Ok(Some(match tree {
        Tree::Welcome(tree) => Event::Welcome(Welcome {
            session: tree.session,
            node: tree.node,
            subject: tree.subject,
            time: time(tree.time)?,
            heartbeat_ms: integer("heartbeat", tree.heartbeat_ms)?,
            frame_bytes_max: integer("frame limit", tree.frame_bytes_max)?,
        }),
        Tree::Reply(tree) => {
            let id = RequestId(integer("id", tree.id)?);
            let Some(result) = tree.result else { return Ok(None) };
            Event::Reply { id, result: reply(result)? }
        }
        Tree::Delivery(tree) => Event::Delivery(Arc::new(delivery(tree)?)),
        Tree::Lost(tree) => Event::Lost(lost(&tree)?),
        Tree::Reset(tree) => {
            Event::Reset { topic: topic(&tree.topic)?, epoch: Epoch(integer("epoch", tree.epoch)?) }
        }
        Tree::Unsubscribed(tree) => {
            let error = tree.error.ok_or_else(|| missing("error"))?;
            Event::Unsubscribed { filter: filter(&tree.filter)?, error: failure(error)? }
        }
        Tree::Heartbeat(pb::Heartbeat {}) => Event::Heartbeat,
        Tree::TokenExpiring(tree) => Event::TokenExpiring(TokenExpiring {
            expires_at: time(tree.expires_at)?,
            in_ms: integer("time left", tree.in_ms)?,
        }),
        Tree::Goodbye(tree) => Event::Goodbye(goodbye(tree)?),
    }))
}

fn reply(tree: pb::reply::Result) -> Result<Result<Reply, Error>, Error> {
    use pb::reply::Result as Tree;
    Ok(Ok(match tree {
        Tree::Error(tree) => return Ok(Err(failure(tree)?)),
        Tree::Authenticated(pb::Authenticated { subject }) => Reply::Authenticated { subject },
        Tree::Subscribed(tree) => {
            let results = tree.results.into_iter().map(|one| match one.result {
                Some(pb::subscribe_result::Result::Subscribed(tree)) => Ok(Ok(subscribed(tree)?)),
                Some(pb::subscribe_result::Result::Error(tree)) => Ok(Err(failure(tree)?)),
                None => Err(missing("result")),
            });
            Reply::Subscribed(results.collect::<Result<_, Error>>()?)
        }
        Tree::Unsubscribed(pb::Empty {}) => Reply::Unsubscribed,
        Tree::Published(tree) => {
            let results = tree.results.into_iter().map(|one| match one.result {
                Some(pb::publish_result::Result::Published(tree)) => {
                    let position = tree.position.map(position).transpose()?;
                    Ok(Ok(Published { position, duplicate: tree.duplicate }))
                }
                Some(pb::publish_result::Result::Error(tree)) => Ok(Err(failure(tree)?)),
                None => Err(missing("result")),
            });
            Reply::Published(results.collect::<Result<_, Error>>()?)
        }
        Tree::History(tree) => Reply::History(page(tree)?),
        Tree::Entered(pb::Empty {}) => Reply::Entered,
        Tree::Left(pb::Empty {}) => Reply::Left,
        Tree::Members(tree) => Reply::Members {
            members: tree.members.into_iter().map(take_member).collect::<Result<_, Error>>()?,
            total: integer("total", tree.total)?,
        },
        Tree::Pong(tree) => Reply::Pong { time: time(tree.time)? },
    }))
}

fn subscribed(tree: pb::Subscribed) -> Result<Subscribed, Error> {
    let positions = tree.positions.into_iter().map(|pair| {
        let at = pair.position.ok_or_else(|| missing("position"))?;
        Ok((topic(&pair.topic)?, position(at)?))
    });
    Ok(Subscribed {
        filter: filter(&tree.filter)?,
        since: time(tree.since)?,
        positions: positions.collect::<Result<_, Error>>()?,
    })
}

fn page(tree: pb::Page) -> Result<Page, Error> {
    let messages = tree.messages.into_iter().map(|tree| delivery(tree).map(Arc::new));
    Ok(Page {
        messages: messages.collect::<Result<_, Error>>()?,
        first: position(tree.first.unwrap_or_default())?,
        head: position(tree.head.unwrap_or_default())?,
        more: tree.more,
    })
}

fn take_member(tree: pb::Member) -> Result<Member, Error> {
    Ok(Member { session: tree.session, subject: tree.subject, info: tree.info, since: time(tree.since)? })
}

fn delivery(tree: pb::Delivery) -> Result<Delivery, Error> {
    Ok(Delivery {
        topic: topic(&tree.topic)?,
        position: tree.position.map(position).transpose()?,
        time: time(tree.time)?,
        publisher: tree.publisher,
        message: message(tree.payload, tree.content_type, tree.headers, tree.id),
        erased: tree.erased,
    })
}

fn lost(tree: &pb::Lost) -> Result<Lost, Error> {
    // Offsets begin at 1: 0 means that the topic has none.
    let range = if tree.from == 0 {
        None
    } else {
        Some(LostRange {
            epoch: Epoch(integer("epoch", tree.epoch)?),
            from: Offset(integer("from", tree.from)?),
            until: Offset(integer("until", tree.until)?),
        })
    };
    Ok(Lost { topic: topic(&tree.topic)?, range, count: integer("count", tree.count)? })
}

fn failure(tree: pb::Error) -> Result<Error, Error> {
    let code = ErrorCode::ALL.into_iter().find(|code| code.as_str() == tree.code);
    Ok(Error {
        // A later broker's code: retrying it with pauses is right more often than giving up.
        code: code.unwrap_or(ErrorCode::Internal),
        text: tree.text,
        retry_after_ms: tree.retry_after_ms.map(|ms| integer("retry after", ms)).transpose()?,
        head: tree.head.map(position).transpose()?,
    })
}

fn goodbye(tree: pb::Goodbye) -> Result<Goodbye, Error> {
    let retry_after_ms = tree.retry_after_ms.map(|ms| integer("retry after", ms)).transpose()?;
    let known = CloseReason::ALL.into_iter().find(|reason| reason.as_str() == tree.reason);
    Ok(match known {
        Some(reason) => Goodbye { reason, text: tree.text, retry_after_ms },
        // A later broker's reason becomes one with the same advice; its name stays in the text.
        None => {
            let reason = match tree.reconnect.as_str() {
                "never" => CloseReason::Forbidden,
                "now" => CloseReason::GoingAway,
                _ => CloseReason::Internal,
            };
            Goodbye { retry_after_ms, ..Goodbye::new(reason, format!("{}: {}", tree.reason, tree.text)) }
        }
    })
}

fn time(milliseconds: u64) -> Result<Time, Error> {
    integer("time", milliseconds).map(Time)
}

fn missing(what: &str) -> Error {
    super::bad_request(format!("an event lacks its {what}"))
}

/// The advice's name on the wire.
pub(super) const fn reconnect_name(reconnect: Reconnect) -> &'static str {
    match reconnect {
        Reconnect::Never => "never",
        Reconnect::Now => "now",
        Reconnect::Backoff => "backoff",
    }
}

/// The schema's tree of an event. Payloads are shared, texts are copied.
pub(super) fn event_tree(event: &Event) -> pb::event::Event {
    use pb::event::Event as Tree;
    match event {
        Event::Welcome(welcome) => Tree::Welcome(pb::Welcome {
            session: welcome.session.clone(),
            node: welcome.node.clone(),
            subject: welcome.subject.clone(),
            time: welcome.time.0,
            heartbeat_ms: welcome.heartbeat_ms,
            frame_bytes_max: welcome.frame_bytes_max,
        }),
        Event::Reply { id, result } => {
            let result = match result {
                Ok(reply) => reply_tree(reply),
                Err(error) => pb::reply::Result::Error(error_tree(error)),
            };
            Tree::Reply(pb::Reply { id: id.0, result: Some(result) })
        }
        Event::Delivery(delivery) => Tree::Delivery(delivery_tree(delivery)),
        Event::Lost(lost) => Tree::Lost(lost_tree(lost)),
        Event::Reset { topic, epoch } => Tree::Reset(pb::Reset { topic: topic.to_string(), epoch: epoch.0 }),
        Event::Unsubscribed { filter, error } => Tree::Unsubscribed(pb::Unsubscribed {
            filter: filter.to_string(),
            error: Some(error_tree(error)),
        }),
        Event::Heartbeat => Tree::Heartbeat(pb::Heartbeat {}),
        Event::TokenExpiring(TokenExpiring { expires_at, in_ms }) => {
            Tree::TokenExpiring(pb::TokenExpiring { expires_at: expires_at.0, in_ms: *in_ms })
        }
        Event::Goodbye(goodbye) => Tree::Goodbye(pb::Goodbye {
            reason: goodbye.reason.as_str().to_owned(),
            text: goodbye.text.clone(),
            reconnect: reconnect_name(goodbye.reason.reconnect()).to_owned(),
            retry_after_ms: goodbye.retry_after_ms,
        }),
    }
}

fn reply_tree(reply: &Reply) -> pb::reply::Result {
    use pb::reply::Result as Tree;
    match reply {
        Reply::Authenticated { subject } => {
            Tree::Authenticated(pb::Authenticated { subject: subject.clone() })
        }
        Reply::Subscribed(results) => {
            let results = results.iter().map(|result| {
                let result = match result {
                    Ok(subscribed) => pb::subscribe_result::Result::Subscribed(pb::Subscribed {
                        filter: subscribed.filter.to_string(),
                        since: subscribed.since.0,
                        positions: subscribed.positions.iter().map(topic_position_tree).collect(),
                    }),
                    Err(error) => pb::subscribe_result::Result::Error(error_tree(error)),
                };
                pb::SubscribeResult { result: Some(result) }
            });
            Tree::Subscribed(pb::SubscribeResults { results: results.collect() })
        }
        Reply::Unsubscribed => Tree::Unsubscribed(pb::Empty {}),
        Reply::Published(results) => {
            let results = results.iter().map(|result| {
                let result = match result {
                    Ok(published) => pb::publish_result::Result::Published(pb::Published {
                        position: published.position.map(position_tree),
                        duplicate: published.duplicate,
                    }),
                    Err(error) => pb::publish_result::Result::Error(error_tree(error)),
                };
                pb::PublishResult { result: Some(result) }
            });
            Tree::Published(pb::PublishResults { results: results.collect() })
        }
        Reply::History(page) => Tree::History(pb::Page {
            messages: page.messages.iter().map(|delivery| delivery_tree(delivery)).collect(),
            first: Some(position_tree(page.first)),
            head: Some(position_tree(page.head)),
            more: page.more,
        }),
        Reply::Entered => Tree::Entered(pb::Empty {}),
        Reply::Left => Tree::Left(pb::Empty {}),
        Reply::Members { members, total } => {
            let members = members.iter().map(|member| pb::Member {
                session: member.session.clone(),
                subject: member.subject.clone(),
                info: member.info.clone(),
                since: member.since.0,
            });
            Tree::Members(pb::Members { members: members.collect(), total: *total })
        }
        Reply::Pong { time } => Tree::Pong(pb::Pong { time: time.0 }),
    }
}

/// The schema's tree of a delivery. `encode_delivery` writes the same bytes without it.
pub(super) fn delivery_tree(delivery: &Delivery) -> pb::Delivery {
    pb::Delivery {
        topic: delivery.topic.to_string(),
        position: delivery.position.map(position_tree),
        time: delivery.time.0,
        publisher: delivery.publisher.clone(),
        payload: delivery.message.payload.clone(),
        content_type: delivery.message.content_type.clone(),
        headers: headers_tree(&delivery.message),
        id: delivery.message.id.clone(),
        erased: delivery.erased,
    }
}

fn lost_tree(lost: &Lost) -> pb::Lost {
    let topic = lost.topic.to_string();
    match lost.range {
        Some(LostRange { epoch, from, until }) => {
            pb::Lost { topic, epoch: epoch.0, from: from.0, until: until.0, count: lost.count }
        }
        None => pb::Lost { topic, epoch: 0, from: 0, until: 0, count: lost.count },
    }
}

fn error_tree(error: &Error) -> pb::Error {
    pb::Error {
        code: error.code.as_str().to_owned(),
        text: error.text.clone(),
        retry_after_ms: error.retry_after_ms,
        head: error.head.map(position_tree),
    }
}

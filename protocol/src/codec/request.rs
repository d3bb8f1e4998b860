//! Requests, from the schema's tree to nouns, and back. Every limit is checked here but those on the length of lists, which
//! the readers of both formats hold before they build one.

use bytes::Bytes;

use super::{bad_request, pb};
use crate::command::{Command, HistoryQuery, HistoryRange, Start, Subscription, Token};
use crate::limits::{
    FILTERS_PER_REQUEST_MAX, INFO_BYTES_MAX, INTEGER_MAX, MESSAGES_PER_PUBLISH_MAX, PAGE_MESSAGES_DEFAULT,
    PAGE_MESSAGES_MAX, TOKEN_BYTES_MAX,
};
use crate::message::{InvalidMessage, Message, NewMessage, Time};
use crate::position::{Offset, Position};
use crate::reason::{Error, ErrorCode};
use crate::topic::{InvalidTopic, Topic, TopicFilter};

/// Takes a command, if every limit holds.
///
/// # Errors
/// The answer to the request.
pub(super) fn command(tree: pb::request::Command) -> Result<Command, Error> {
    use pb::request::Command as Tree;
    Ok(match tree {
        Tree::Authenticate(pb::Authenticate { token }) => {
            if token.len() > TOKEN_BYTES_MAX {
                return Err(bad_request(format!("a token has at most {TOKEN_BYTES_MAX} bytes")));
            }
            Command::Authenticate(Token(token))
        }
        Tree::Subscribe(pb::Subscribe { subscriptions }) => {
            not_empty("subscriptions", &subscriptions, FILTERS_PER_REQUEST_MAX)?;
            Command::Subscribe(each("subscriptions", subscriptions, subscription)?)
        }
        Tree::Unsubscribe(pb::Unsubscribe { filters }) => {
            not_empty("filters", &filters, FILTERS_PER_REQUEST_MAX)?;
            Command::Unsubscribe(each("filters", filters, |text| filter(&text))?)
        }
        Tree::Publish(pb::Publish { messages }) => {
            not_empty("messages", &messages, MESSAGES_PER_PUBLISH_MAX)?;
            Command::Publish(each("messages", messages, new_message)?)
        }
        Tree::History(query) => Command::History(history(&query)?),
        Tree::Enter(pb::Enter { topic: name, info }) => {
            let topic = topic(&name)?;
            presence_topic(&topic)?;
            if info.len() > INFO_BYTES_MAX {
                let text = format!("info has at most {INFO_BYTES_MAX} bytes, this one has {}", info.len());
                return Err(Error::new(ErrorCode::TooLarge, text));
            }
            Command::Enter { topic, info }
        }
        Tree::Leave(pb::Leave { topic: name }) => Command::Leave { topic: topic(&name)? },
        Tree::Members(pb::MembersQuery { topic: name }) => Command::Members { topic: topic(&name)? },
        Tree::Ping(pb::Ping {}) => Command::Ping,
    })
}

/// Checks that a list has an element. That it has no more than `n_max`, each format's reader sees to before it builds the list.
fn not_empty<T>(what: &str, list: &[T], n_max: usize) -> Result<(), Error> {
    if list.is_empty() {
        return Err(bad_request(format!("{what}: 1 to {n_max} of them in one request")));
    }
    Ok(())
}

/// Takes every element, or says which one is wrong and why.
fn each<T, U>(what: &str, list: Vec<T>, take: impl Fn(T) -> Result<U, Error>) -> Result<Vec<U>, Error> {
    let taken = list.into_iter().enumerate().map(|(idx, element)| {
        take(element).map_err(|error| {
            // Made anew, so that the longer text is cut to its limit.
            let text = format!("{what}[{idx}]: {}", error.text);
            Error { text: Error::new(error.code, text).text, ..error }
        })
    });
    taken.collect()
}

fn subscription(tree: pb::Subscription) -> Result<Subscription, Error> {
    let filter = filter(&tree.filter)?;
    let from = tree.from.map_or(Ok(Start::Latest), start)?;
    if matches!(from, Start::After(_)) && filter.as_topic().is_none() {
        return Err(bad_request("`after` needs a filter that names a single topic; use `seen`"));
    }
    let mut seen = Vec::with_capacity(tree.seen.len());
    for pair in tree.seen {
        let topic = topic(&pair.topic)?;
        if !filter.matches(&topic) {
            return Err(bad_request(format!("`seen` names {topic}, which the filter does not match")));
        }
        let at =
            pair.position.ok_or_else(|| bad_request(format!("`seen` names {topic} without position")))?;
        seen.push((topic, position(at)?));
    }
    Ok(Subscription { filter, from, seen })
}

fn start(tree: pb::Start) -> Result<Start, Error> {
    use pb::start::Start as Tree;
    Ok(match tree.start {
        None | Some(Tree::Latest(_)) => Start::Latest,
        Some(Tree::Earliest(_)) => Start::Earliest,
        Some(Tree::Last(n)) => Start::Last(integer("last", n)?),
        Some(Tree::After(at)) => Start::After(position(at)?),
        Some(Tree::Time(time)) => Start::Time(Time(integer("time", time)?)),
    })
}

fn new_message(tree: pb::NewMessage) -> Result<NewMessage, Error> {
    let topic = topic(&tree.topic)?;
    if topic.is_reserved() {
        return Err(invalid_topic(InvalidTopic::Reserved));
    }
    let message = message(tree.payload, tree.content_type, tree.headers, tree.id);
    message.validate().map_err(|invalid| {
        let code = match invalid {
            InvalidMessage::PayloadTooLarge(_) => ErrorCode::TooLarge,
            _ => ErrorCode::BadRequest,
        };
        Error::new(code, invalid.to_string())
    })?;
    let expect = tree.expect.map(|offset| integer("expect", offset).map(Offset)).transpose()?;
    Ok(NewMessage { topic, message, expect })
}

/// Puts a message together, unchecked.
pub(super) fn message(payload: Bytes, content_type: String, headers: Vec<pb::Header>, id: String) -> Message {
    let headers = headers.into_iter().map(|header| (header.name, header.value)).collect();
    Message { payload, content_type, headers, id }
}

fn history(tree: &pb::HistoryQuery) -> Result<HistoryQuery, Error> {
    use pb::history_query::Range as Tree;
    let topic = topic(&tree.topic)?;
    let range = match tree.range {
        None => HistoryRange::Backward(None),
        Some(Tree::Forward(from)) => HistoryRange::Forward(start(from)?),
        Some(Tree::Backward(before)) => {
            let before = position(before)?;
            HistoryRange::Backward((before.offset.0 > 0).then_some(before))
        }
    };
    let limit = match tree.limit {
        0 => PAGE_MESSAGES_DEFAULT as u32,
        more => more.min(PAGE_MESSAGES_MAX as u32),
    };
    Ok(HistoryQuery { topic, range, limit })
}

/// Checks that joins and leaves can be told: `$presence/` and the topic must be a topic.
fn presence_topic(topic: &Topic) -> Result<(), Error> {
    match Topic::parse(&format!("$presence/{topic}")) {
        Ok(_) => Ok(()),
        Err(invalid) => Err(bad_request(format!("$presence/{topic} is no topic: {invalid}"))),
    }
}

pub(super) fn topic(name: &str) -> Result<Topic, Error> {
    Topic::parse(name).map_err(invalid_topic)
}

pub(super) fn filter(text: &str) -> Result<TopicFilter, Error> {
    TopicFilter::parse(text).map_err(invalid_topic)
}

fn invalid_topic(invalid: InvalidTopic) -> Error {
    bad_request(invalid.to_string())
}

pub(super) fn position(tree: pb::Position) -> Result<Position, Error> {
    Ok(Position::new(integer("epoch", tree.epoch)?, integer("offset", tree.offset)?))
}

pub(super) fn integer(what: &str, value: u64) -> Result<u64, Error> {
    if value <= INTEGER_MAX {
        return Ok(value);
    }
    Err(bad_request(format!(
        "{what} {value} is larger than {INTEGER_MAX}, the largest integer of the protocol"
    )))
}

/// The schema's tree of a command. Payloads are shared, texts are copied.
pub(super) fn command_tree(command: &Command) -> pb::request::Command {
    use pb::request::Command as Tree;
    match command {
        Command::Authenticate(Token(token)) => Tree::Authenticate(pb::Authenticate { token: token.clone() }),
        Command::Subscribe(list) => {
            Tree::Subscribe(pb::Subscribe { subscriptions: list.iter().map(subscription_tree).collect() })
        }
        Command::Unsubscribe(filters) => {
            Tree::Unsubscribe(pb::Unsubscribe { filters: filters.iter().map(ToString::to_string).collect() })
        }
        Command::Publish(list) => {
            Tree::Publish(pb::Publish { messages: list.iter().map(new_message_tree).collect() })
        }
        Command::History(query) => Tree::History(history_tree(query)),
        Command::Enter { topic, info } => {
            Tree::Enter(pb::Enter { topic: topic.to_string(), info: info.clone() })
        }
        Command::Leave { topic } => Tree::Leave(pb::Leave { topic: topic.to_string() }),
        Command::Members { topic } => Tree::Members(pb::MembersQuery { topic: topic.to_string() }),
        Command::Ping => Tree::Ping(pb::Ping {}),
    }
}

fn subscription_tree(subscription: &Subscription) -> pb::Subscription {
    pb::Subscription {
        filter: subscription.filter.to_string(),
        from: match subscription.from {
            Start::Latest => None,
            other => Some(start_tree(other)),
        },
        seen: subscription.seen.iter().map(topic_position_tree).collect(),
    }
}

pub(super) fn topic_position_tree((topic, at): &(Topic, Position)) -> pb::TopicPosition {
    pb::TopicPosition { topic: topic.to_string(), position: Some(position_tree(*at)) }
}

fn start_tree(start: Start) -> pb::Start {
    use pb::start::Start as Tree;
    let start = match start {
        Start::Latest => Tree::Latest(pb::Empty {}),
        Start::Earliest => Tree::Earliest(pb::Empty {}),
        Start::Last(n) => Tree::Last(n),
        Start::After(at) => Tree::After(position_tree(at)),
        Start::Time(time) => Tree::Time(time.0),
    };
    pb::Start { start: Some(start) }
}

fn new_message_tree(new: &NewMessage) -> pb::NewMessage {
    pb::NewMessage {
        topic: new.topic.to_string(),
        payload: new.message.payload.clone(),
        content_type: new.message.content_type.clone(),
        headers: headers_tree(&new.message),
        id: new.message.id.clone(),
        expect: new.expect.map(|offset| offset.0),
    }
}

pub(super) fn headers_tree(message: &Message) -> Vec<pb::Header> {
    let header = |(name, value): &(String, String)| pb::Header { name: name.clone(), value: value.clone() };
    message.headers.iter().map(header).collect()
}

fn history_tree(query: &HistoryQuery) -> pb::HistoryQuery {
    use pb::history_query::Range as Tree;
    let range = match query.range {
        HistoryRange::Forward(start) => Tree::Forward(start_tree(start)),
        HistoryRange::Backward(before) => Tree::Backward(position_tree(before.unwrap_or_default())),
    };
    pb::HistoryQuery { topic: query.topic.to_string(), range: Some(range), limit: query.limit }
}

pub(super) fn position_tree(position: Position) -> pb::Position {
    pb::Position { epoch: position.epoch.0, offset: position.offset.0 }
}

//! Destinations: what STOMP clients, RabbitMQ's and Spring's applications call a topic.
//!
//! | destination | is |
//! |---|---|
//! | `/topic/a/b`, `/topic/a.b` | the topic `a/b` |
//! | `/topic/a.*.#`, `/topic/a/*/**`, `/topic/a/+/#` | the filter `a/+/#`: RabbitMQ's, Spring's and MQTT's wildcards |
//! | `/topic/a/>` | the filter `a/+/#`: NATS's, which wants one level at least |
//! | `/queue/a`, `/amq/queue/a` | the topic `queue/a`, read as a work queue: each message goes to one consumer |
//! | `/queue/a-user8f3c21d7` | the topic `user-queue/a-user8f3c21d7`: what Spring makes of a user's destination, with one reader |
//! | `/exchange/amq.topic/a.b` | the topic `a/b`, whose name the default exchange of `/topic` is |
//! | `/exchange/amq.fanout/…` | the topic `exchange/amq.fanout` |
//! | `/exchange/name/a.b` | the topic `exchange/name/a/b` |
//! | `/user/queue/a`, read | the topics `user/<subject>/queue/a` and `user/<session>/queue/a` of the reader itself |
//! | `/user/<name>/queue/a`, sent to | the topic `user/<name>/queue/a`: a subject or a session |
//! | `/reply-queue/<session>/a`, sent to | the topic `reply/<session>/a`; `/temp-queue/a` in `reply-to` stands for it |
//! | `/app/a` | the topic `app/a`: what a Spring application reads |
//! | `a/b`, `/a/b` | the topic `a/b`, where the listener takes plain names |

use crate::topic::{Topic, TopicFilter};

use super::refusal::Refusal;

/// The prefixes, as the error about an unknown one names them.
const PREFIXES: &str = "/topic, /queue, /amq/queue, /exchange, /user, /temp-queue, /reply-queue, /app";

/// Characters of a Spring session id at least. Shorter ends of a name are part of the name.
const SPRING_SESSION_BYTES_MIN: usize = 8;

/// How a destination writes the levels of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Dialect {
    /// `chat/room/42`.
    #[default]
    Slash,
    /// `chat.room.42`, as RabbitMQ does.
    Dot,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 2] = [Self::Slash, Self::Dot];
}

/// What a dot in a destination below `/topic` without any further slash means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Dots {
    /// It separates levels.
    #[default]
    Separate,
    /// It is a character like any other.
    Literal,
}

/// What a destination without a known prefix is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PlainNames {
    /// A mistake.
    #[default]
    Refuse,
    /// The topic of that name.
    Accept,
}

/// How a listener reads destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Vocabulary {
    /// Whether dots separate levels.
    pub dots: Dots,
    /// Whether names without a prefix are topics.
    pub plain_names: PlainNames,
}

/// Who speaks, for the destinations that depend on it.
#[derive(Debug, Clone, Copy)]
pub struct Speaker<'a> {
    /// The token's subject; empty for an anonymous client.
    pub subject: &'a str,
    /// The session's name.
    pub session: &'a str,
}

/// What is read for a SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Every message of these topics. More than one filter only for a user's own destinations.
    Topics {
        /// Which topics.
        filters: Vec<TopicFilter>,
        /// How the destinations of its messages are written.
        dialect: Dialect,
    },
    /// Messages of this topic that no other consumer has.
    Queue(Topic),
}

/// The topic that a SEND to this destination publishes to.
///
/// # Errors
/// [`Refusal`]: the destination is not one, is a pattern, or cannot be sent to.
pub fn target(text: &str, vocabulary: Vocabulary) -> Result<Topic, Refusal> {
    let (kind, rest) = split(text);
    let invalid = || invalid(kind, rest);
    let name = match kind {
        "topic" => levels(inner(rest).ok_or_else(invalid)?, vocabulary.dots).1,
        "queue" | "amq/queue" => return queue_topic(kind, rest),
        "exchange" => exchange(rest).ok_or_else(invalid)?,
        "user" => {
            let (name, rest) = inner(rest).and_then(|rest| rest.split_once('/')).ok_or_else(invalid)?;
            format!("user/{}/{rest}", encode_name(&name.replace("%2F", "/")))
        }
        "reply-queue" => format!("reply/{}", inner(rest).ok_or_else(invalid)?),
        "app" => format!("app/{}", inner(rest).ok_or_else(invalid)?),
        "temp-queue" => return Err(unfit(text, "SEND")),
        _ => plain(text, vocabulary)?.to_owned(),
    };
    let is_pattern = name.split('/').any(|level| matches!(level, "*" | "**" | "+" | "#" | ">"));
    match Topic::parse(&name) {
        Ok(topic) if !is_pattern => Ok(topic),
        _ => Err(invalid()),
    }
}

/// What a SUBSCRIBE to this destination reads.
///
/// # Errors
/// [`Refusal`]: the destination is not one, or cannot be read.
pub fn source(text: &str, vocabulary: Vocabulary, speaker: Speaker<'_>) -> Result<Source, Refusal> {
    let (kind, rest) = split(text);
    let invalid = || invalid(kind, rest);
    let filter = |name: &str| parse_filter(name).ok_or_else(invalid);
    let (dialect, filters) = match kind {
        "topic" => {
            let (dialect, name) = levels(inner(rest).ok_or_else(invalid)?, vocabulary.dots);
            (dialect, vec![filter(&name)?])
        }
        "queue" | "amq/queue" => {
            let topic = queue_topic(kind, rest)?;
            if topic.as_str().starts_with("queue/") {
                return Ok(Source::Queue(topic));
            }
            (Dialect::Slash, vec![topic.into()])
        }
        "exchange" => (Dialect::Dot, vec![filter(&exchange(rest).ok_or_else(invalid)?)?]),
        "user" => {
            let rest = inner(rest).ok_or_else(invalid)?;
            let mut filters = Vec::with_capacity(2);
            for name in [speaker.subject, speaker.session] {
                let own = format!("user/{}/{rest}", encode_name(name));
                if !name.is_empty() && !filters.iter().any(|f: &TopicFilter| f.as_str() == own) {
                    filters.push(filter(&own)?);
                }
            }
            (Dialect::Slash, filters)
        }
        "app" => (Dialect::Slash, vec![filter(&format!("app/{}", inner(rest).ok_or_else(invalid)?))?]),
        "temp-queue" | "reply-queue" => return Err(unfit(text, "SUBSCRIBE")),
        _ => (Dialect::Slash, vec![filter(plain(text, vocabulary)?)?]),
    };
    Ok(Source::Topics { filters, dialect })
}

/// The topic of answers to `/temp-queue/name` of this session; `None` if that is no such destination.
#[must_use]
pub fn reply_topic(text: &str, speaker: Speaker<'_>) -> Option<Topic> {
    let name = text.strip_prefix("/temp-queue/").filter(|name| !name.contains('/'))?;
    Topic::parse(&format!("reply/{}/{name}", encode_name(speaker.session))).ok()
}

/// The filters of what a client may always read: its own user destinations and the answers to it.
#[must_use]
pub fn own_filters(speaker: Speaker<'_>) -> Vec<TopicFilter> {
    let mut texts = vec![
        format!("user/{}/#", encode_name(speaker.session)),
        format!("reply/{}/#", encode_name(speaker.session)),
    ];
    if !speaker.subject.is_empty() {
        texts.push(format!("user/{}/#", encode_name(speaker.subject)));
    }
    texts.iter().filter_map(|text| TopicFilter::parse(text).ok()).collect()
}

/// How a MESSAGE names its topic.
#[must_use]
pub fn render(topic: &Topic, dialect: Dialect) -> String {
    let name = topic.as_str();
    let (first, rest) = name.split_once('/').unwrap_or((name, ""));
    match (first, rest.split_once('/')) {
        ("queue" | "user-queue", None) if !rest.is_empty() => format!("/queue/{rest}"),
        ("app", _) if !rest.is_empty() => format!("/app/{rest}"),
        ("user", Some((_, rest))) => format!("/user/{rest}"),
        ("reply", Some(_)) => format!("/reply-queue/{rest}"),
        ("exchange", Some((exchange, key))) => format!("/exchange/{exchange}/{}", key.replace('/', ".")),
        ("exchange", None) if !rest.is_empty() => format!("/exchange/{rest}"),
        _ if dialect == Dialect::Dot && !name.contains('.') => format!("/topic/{}", name.replace('/', ".")),
        _ => format!("/topic/{name}"),
    }
}

/// The destination's kind and what follows it; an unknown kind is empty.
fn split(text: &str) -> (&'static str, &str) {
    const KINDS: [&str; 8] =
        ["topic", "queue", "amq/queue", "exchange", "user", "temp-queue", "reply-queue", "app"];
    for kind in KINDS {
        if let Some(rest) = text.strip_prefix('/').and_then(|text| text.strip_prefix(kind))
            && (rest.is_empty() || rest.starts_with('/'))
        {
            return (kind, rest);
        }
    }
    ("", text)
}

/// What follows the slash behind a kind.
fn inner(rest: &str) -> Option<&str> {
    rest.strip_prefix('/').filter(|inner| !inner.is_empty())
}

fn plain(text: &str, vocabulary: Vocabulary) -> Result<&str, Refusal> {
    match vocabulary.plain_names {
        PlainNames::Accept => Ok(text.strip_prefix('/').unwrap_or(text)),
        PlainNames::Refuse => {
            let types =
                format!("'{text}' is not a valid destination.\nValid destination types are: {PREFIXES}.");
            Err(Refusal::new("Unknown destination", types))
        }
    }
}

/// A name below `/topic` with its levels joined by slashes.
fn levels(name: &str, dots: Dots) -> (Dialect, String) {
    if dots == Dots::Separate && name.contains('.') && !name.contains('/') {
        (Dialect::Dot, name.replace('.', "/"))
    } else {
        (Dialect::Slash, name.to_owned())
    }
}

fn queue_topic(kind: &str, rest: &str) -> Result<Topic, Refusal> {
    let name = inner(rest).filter(|name| !name.contains(['/', '*', '#', '+']));
    let name = name.ok_or_else(|| invalid(kind, rest))?;
    let below = if is_spring_user_queue(name) { "user-queue" } else { "queue" };
    Topic::parse(&format!("{below}/{name}")).map_err(|_| invalid(kind, rest))
}

/// Whether Spring made this name from a user's destination and a session: `name-user` and the session's id.
fn is_spring_user_queue(name: &str) -> bool {
    let Some((_, session)) = name.rsplit_once("-user") else { return false };
    session.len() >= SPRING_SESSION_BYTES_MIN
        && session.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && session.bytes().any(|byte| byte.is_ascii_digit())
}

/// The topic or pattern of `/exchange/name` or `/exchange/name/key`.
fn exchange(rest: &str) -> Option<String> {
    let rest = inner(rest)?;
    let (name, key) = rest.split_once('/').map_or((rest, None), |(name, key)| (name, Some(key)));
    if key.is_some_and(|key| key.contains('/')) {
        return None;
    }
    match (name, key) {
        ("amq.topic", Some(key)) => Some(key.replace('.', "/")),
        ("amq.topic", None) => None,
        ("amq.direct", Some(key)) => Some(format!("exchange/amq.direct/{key}")),
        ("amq.fanout", _) | (_, None) => Some(format!("exchange/{name}")),
        (_, Some(key)) => Some(format!("exchange/{name}/{}", key.replace('.', "/"))),
    }
}

/// A filter from levels with anybody's wildcards.
fn parse_filter(name: &str) -> Option<TopicFilter> {
    let mut text = String::with_capacity(name.len() + 2);
    let mut levels = name.split('/').peekable();
    while let Some(level) = levels.next() {
        let is_last = levels.peek().is_none();
        text.push_str(match level {
            "*" => "+",
            "**" if is_last => "#",
            ">" if is_last => "+/#",
            level if level.contains('*') || level == ">" => return None,
            level => level,
        });
        if !is_last {
            text.push('/');
        }
    }
    TopicFilter::parse(&text).ok()
}

/// A name as one level of a topic.
fn encode_name(name: &str) -> String {
    let mut level = String::with_capacity(name.len());
    for character in name.chars() {
        if matches!(character, '%' | '/' | '+' | '#' | '*' | '>') || character.is_control() {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                level.push_str(&format!("%{byte:02X}"));
            }
        } else {
            level.push(character);
        }
    }
    level
}

fn invalid(kind: &str, rest: &str) -> Refusal {
    let kind = if kind.is_empty() { "topic" } else { kind };
    Refusal::new("Invalid destination", format!("'{rest}' is not a valid {kind} destination"))
}

fn unfit(text: &str, command: &str) -> Refusal {
    Refusal::new("Invalid destination", format!("'{text}' is not a valid destination for '{command}'"))
}

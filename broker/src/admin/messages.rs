//! Messages: pages of logs, searches in them, and single ones that are published, repeated or erased.

use bongsu_admin_api::Error;
use bongsu_admin_api::resources::messages::{
    ListMessages, Message, MessageList, Messages, Published, Republish, StartAt,
};
use bongsu_admin_api::resources::topics::Removed;
use bongsu_protocol::command::{HistoryQuery, HistoryRange, Start};
use bongsu_protocol::event::Page;
use bongsu_protocol::message::{Delivery, Message as Content, NewMessage};
use bongsu_protocol::position::{Epoch, Offset, Position};
use bongsu_protocol::topic::Topic;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::{Admin, refusal};
use crate::clock;
use crate::history::{self, Part};
use crate::limits::{
    ADMIN_SEARCH_MESSAGES_MAX, ADMIN_SEARCH_PAGE, ADMIN_SEARCH_TIME_MAX, ADMIN_TEXT_BYTES_MAX,
};
use crate::publisher::Completion;

/// Says where a message was published before: topic and position.
const REPUBLISHED_FROM: &str = "republished-from";

impl Messages for Admin {
    fn messages(&self, wanted: ListMessages) -> BoxFuture<'_, Result<MessageList, Error>> {
        self.look(wanted).boxed()
    }

    fn message<'a>(&'a self, topic: &'a Topic, offset: u64) -> BoxFuture<'a, Result<Message, Error>> {
        async move { Ok(Message::of(&self.single(topic, offset).await?)) }.boxed()
    }

    fn publish<'a>(
        &'a self,
        by: &'a str,
        topic: &'a Topic,
        content: Content,
    ) -> BoxFuture<'a, Result<Published, Error>> {
        async move {
            let message = NewMessage { topic: topic.clone(), message: content, expect: None };
            let (told, answer) = oneshot::channel();
            let publisher = self.node.publisher();
            if let Err(waiting) = publisher.publish(by, message, Completion::Caller(told)) {
                publisher.wait(waiting).await;
            }
            let published = answer.await.unwrap_or_else(|_| Err(history::unavailable())).map_err(refusal)?;
            let position = published.position.map(Into::into);
            Ok(Published { position, duplicate: published.duplicate })
        }
        .boxed()
    }

    fn republish<'a>(
        &'a self,
        by: &'a str,
        topic: &'a Topic,
        offset: u64,
        wanted: Republish,
    ) -> BoxFuture<'a, Result<Published, Error>> {
        async move {
            let found = self.single(topic, offset).await?;
            if found.erased {
                return Err(Error::Conflict(format!(
                    "message {offset} of {topic} was erased: there is nothing to publish"
                )));
            }
            let to = match wanted.to.as_deref().map(Topic::parse) {
                Some(Ok(to)) => to,
                Some(Err(error)) => return Err(Error::invalid("to", error.to_string())),
                None => topic.clone(),
            };
            let mut content = found.message.clone();
            content.id = wanted.id.unwrap_or_default();
            let place = found.position.unwrap_or_default();
            content.headers.retain(|(name, _)| name != REPUBLISHED_FROM);
            content.headers.push((REPUBLISHED_FROM.to_owned(), format!("{topic} {place}")));
            let too_large =
                |error| Error::Conflict(format!("with where it is from it is too large: {error}"));
            content.validate().map_err(too_large)?;
            self.publish(by, &to, content).await
        }
        .boxed()
    }

    fn erase<'a>(
        &'a self,
        by: &'a str,
        topic: &'a Topic,
        offset: u64,
    ) -> BoxFuture<'a, Result<Removed, Error>> {
        async move {
            self.single(topic, offset).await?;
            self.remove(by, topic, Part::Message(Offset(offset))).await
        }
        .boxed()
    }
}

impl Admin {
    /// One message, as the store has it.
    async fn single(&self, topic: &Topic, offset: u64) -> Result<Delivery, Error> {
        let missing = || Error::NotFound(format!("{topic} has no message {offset}"));
        let head = self.check_log(topic).await?;
        let before = Position { epoch: head.epoch, offset: Offset(offset.saturating_add(1)) };
        if offset == 0 || before.offset > head.next().offset {
            return Err(missing());
        }
        let page = self.page(topic, HistoryRange::Backward(Some(before)), 1).await?;
        let found = page
            .messages
            .into_iter()
            .find(|found| found.position.is_some_and(|place| place.offset.0 == offset));
        found.map(|found| Delivery::clone(&found)).ok_or_else(missing)
    }

    pub(super) async fn page(&self, topic: &Topic, range: HistoryRange, limit: u32) -> Result<Page, Error> {
        let query = HistoryQuery { topic: topic.clone(), range, limit };
        self.node.history().page(query).await.map_err(refusal)
    }

    /// What a start is in this log.
    pub(super) fn range(start: StartAt, epoch: Epoch) -> HistoryRange {
        let at = |offset| Position { epoch, offset: Offset(offset) };
        match start {
            StartAt::Earliest => HistoryRange::Forward(Start::Earliest),
            StartAt::Latest => HistoryRange::Backward(None),
            StartAt::Offset(offset) => HistoryRange::Forward(Start::After(at(offset.saturating_sub(1)))),
            StartAt::Since(time) => HistoryRange::Forward(Start::Time(time)),
            StartAt::Before(offset) => HistoryRange::Backward(Some(at(offset))),
            StartAt::After(place) => HistoryRange::Forward(Start::After(place)),
            StartAt::Below(place) => HistoryRange::Backward(Some(place)),
        }
    }

    /// Looks at messages until enough are found, or enough were looked at.
    async fn look(&self, wanted: ListMessages) -> Result<MessageList, Error> {
        let ListMessages { topic, start, search, limit } = wanted;
        let head = self.check_log(&topic).await?;
        if let StartAt::After(place) | StartAt::Below(place) = start
            && place.epoch != head.epoch
        {
            return Err(Error::Changed(format!("the log of {topic} was made anew since the page before")));
        }
        // A place behind the head is none that anybody could go on from.
        let start = match start {
            StartAt::Before(offset) if offset > head.offset.0 => StartAt::Latest,
            other => other,
        };
        let until = clock::monotonic() + ADMIN_SEARCH_TIME_MAX;
        let page_size = if search.is_some() {
            ADMIN_SEARCH_PAGE
        } else {
            u32::try_from(limit).unwrap_or(ADMIN_SEARCH_PAGE)
        };
        let mut range = Self::range(start, head.epoch);
        let (mut found, mut bytes, mut looked_at) = (Vec::new(), 0, 0);
        loop {
            let page = self.page(&topic, range, page_size).await?;
            let is_backward = matches!(range, HistoryRange::Backward(_));
            let mut last = None;
            for delivery in &page.messages {
                looked_at += 1;
                last = delivery.position;
                if search.as_deref().is_none_or(|text| has(delivery, text.as_bytes())) {
                    bytes += delivery.message.size_bytes();
                    found.push(Message::of(delivery));
                    if found.len() == limit || bytes >= ADMIN_TEXT_BYTES_MAX {
                        break;
                    }
                }
            }
            let is_full = found.len() == limit || bytes >= ADMIN_TEXT_BYTES_MAX;
            let is_tired = looked_at >= ADMIN_SEARCH_MESSAGES_MAX || clock::monotonic() >= until;
            let has_more = page.more || last != page.messages.last().and_then(|delivery| delivery.position);
            let next = last.filter(|_| has_more).map(|last| match is_backward {
                true => StartAt::Below(last),
                false => StartAt::After(last),
            });
            match next {
                Some(next) if !is_full && !is_tired => range = Self::range(next, head.epoch),
                _ => {
                    let next = next.and_then(StartAt::written);
                    let (first, head) = (page.first.into(), page.head.into());
                    return Ok(MessageList { messages: found, first, head, looked_at, next });
                }
            }
        }
    }
}

/// Whether a message has a text anywhere.
fn has(delivery: &Delivery, text: &[u8]) -> bool {
    let message = &delivery.message;
    let headers = message.headers.iter().flat_map(|(name, value)| [name, value]);
    let texts = [&message.id, &message.content_type, &delivery.publisher].into_iter().chain(headers);
    contains(&message.payload, text) || texts.into_iter().any(|part| contains(part.as_bytes(), text))
}

/// Whether bytes occur in others. Looks for the first of them, and then at what follows.
fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    let Some((first, rest)) = wanted.split_first() else { return true };
    let mut bytes = bytes;
    while let Some(place) = bytes.iter().position(|byte| byte == first) {
        bytes = &bytes[place + 1..];
        if bytes.starts_with(rest) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_wherever_they_are() {
        for (bytes, wanted, expected) in [
            ("abc", "abc", true),
            ("aab", "ab", true),
            ("ab", "abc", false),
            ("", "a", false),
            ("a", "", true),
            ("xyz", "z", true),
        ] {
            assert_eq!(contains(bytes.as_bytes(), wanted.as_bytes()), expected, "{wanted} in {bytes}");
        }
    }
}

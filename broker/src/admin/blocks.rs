//! Users who are kept out.

use std::ops::Bound;

use bongsu_admin_api::Error;
use bongsu_admin_api::page::After;
use bongsu_admin_api::resources::blocks::{Block, BlockList, Blocks, Wanted};
use bongsu_admin_api::time::Timestamp;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::Admin;
use crate::access::{Note, Refused, Target};
use crate::clock;
use crate::registers::ChangeError;

impl Blocks for Admin {
    fn blocks(&self, after: Option<String>, limit: usize) -> BoxFuture<'_, Result<BlockList, Error>> {
        async move {
            let version = self.node.control().access().current();
            let now = clock::wall();
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let held = version.document.blocks.range((from, Bound::Unbounded));
            let mut held = held.filter(|(_, note)| note.holds(now));
            let blocks: Vec<_> =
                held.by_ref().take(limit).map(|(subject, note)| told(subject, note)).collect();
            let has_more = held.next().is_some();
            let next = blocks.last().filter(|_| has_more).map(|last| After::written(&last.subject));
            Ok(BlockList { blocks, next })
        }
        .boxed()
    }

    fn block(&self, subject: String) -> BoxFuture<'_, Result<Block, Error>> {
        async move {
            let version = self.node.control().access().current();
            let target = Target::Block(subject);
            let note = version.document.note(&target, clock::wall());
            note.map(|note| told(target.name(), note)).ok_or_else(|| missing(&target))
        }
        .boxed()
    }

    fn put_block(
        &self,
        by: String,
        subject: String,
        wanted: Wanted,
        expected: Option<Option<Timestamp>>,
    ) -> BoxFuture<'_, Result<Block, Error>> {
        async move {
            let target = Target::Block(subject);
            let note = note(by, wanted.reason, wanted.until);
            let changed = self.node.control().bar(&target, &note, at(expected)).await;
            let version = changed.map_err(|error| not_changed(error, &target))?;
            let note = version.document.note(&target, clock::wall());
            note.map(|note| told(target.name(), note)).ok_or_else(|| missing(&target))
        }
        .boxed()
    }

    fn remove_block(
        &self,
        by: String,
        subject: String,
        expected: Option<Option<Timestamp>>,
    ) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let target = Target::Block(subject);
            let admitted = self.node.control().access().admit(&target, &by, at(expected)).await;
            admitted.map(drop).map_err(|error| not_changed(error, &target))
        }
        .boxed()
    }
}

fn told(subject: &str, note: &Note) -> Block {
    Block {
        subject: subject.to_owned(),
        reason: note.reason.clone(),
        until: note.until.map(Timestamp::from_millis),
        since: Timestamp::from_millis(note.at),
        by: note.by.clone(),
    }
}

/// What is written of somebody who is kept out from now on.
pub(super) fn note(by: String, reason: String, until: Option<Timestamp>) -> Note {
    Note { at: clock::wall().0, by, reason, until: until.map(|until| until.0.0) }
}

fn at(expected: Option<Option<Timestamp>>) -> Option<u64> {
    expected.map(|since| since.map_or(0, |since| since.0.0))
}

fn missing(target: &Target) -> Error {
    Error::NotFound(match target {
        Target::Block(subject) => format!("{subject} is not blocked"),
        Target::Token(id) => format!("the token {id} is not revoked"),
        Target::Subject { subject, .. } => format!("no tokens of {subject} are revoked"),
    })
}

/// Why the register was not changed, as the API says it.
pub(super) fn not_changed(error: ChangeError<Refused>, target: &Target) -> Error {
    match error {
        ChangeError::Refused(Refused::Missing) => missing(target),
        ChangeError::Refused(refused) => {
            let text = refused.to_string();
            match refused {
                Refused::Full => Error::TooLarge(text),
                Refused::Changed => Error::Changed(text),
                Refused::Over => Error::invalid("until", text),
                Refused::TooLong { what: "a reason", .. } => Error::invalid("reason", text),
                Refused::Anonymous | Refused::TooLong { .. } | Refused::Missing => {
                    Error::invalid(if matches!(target, Target::Token(_)) { "token" } else { "subject" }, text)
                }
            }
        }
        ChangeError::TooLarge { .. } => Error::TooLarge(Refused::Full.to_string()),
        ChangeError::Unreadable { .. } => Error::Conflict(error.to_string()),
        ChangeError::Conflict { .. } | ChangeError::Contended | ChangeError::Store(_) => {
            Error::Unavailable(error.to_string())
        }
    }
}

//! Tokens that are taken back.

use bongsu_admin_api::Error;
use bongsu_admin_api::page::After;
use bongsu_admin_api::resources::revocations::{Revocation, RevocationList, Revocations, Wanted};
use bongsu_admin_api::time::Timestamp;
use bongsu_protocol::message::Time;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::Admin;
use super::blocks::{not_changed, note};
use crate::access::{Ledger, Note, Target};
use crate::clock;

impl Revocations for Admin {
    fn revocations(
        &self,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<RevocationList, Error>> {
        async move {
            let version = self.node.control().access().current();
            let now = clock::wall();
            let Ledger { tokens, subjects, .. } = &*version.document;
            // By id: subjects come before tokens.
            let subjects = subjects.iter().map(|(subject, cutoff)| {
                let issued_before = Time(cutoff.issued_before);
                (Target::Subject { subject: subject.clone(), issued_before }, &cutoff.note)
            });
            let tokens = tokens.iter().map(|(id, note)| (Target::Token(id.clone()), note));
            let is_after = |id: &String| after.as_ref().is_none_or(|after| id > after);
            let mut held = subjects
                .chain(tokens)
                .filter(|(_, note)| note.holds(now))
                .map(|(target, note)| told(&target, note))
                .filter(|revocation| is_after(&revocation.id));
            let revocations: Vec<_> = held.by_ref().take(limit).collect();
            let has_more = held.next().is_some();
            let next = revocations.last().filter(|_| has_more).map(|last| After::written(&last.id));
            Ok(RevocationList { revocations, next })
        }
        .boxed()
    }

    fn revoke(&self, by: String, wanted: Wanted) -> BoxFuture<'_, Result<Revocation, Error>> {
        async move {
            let Wanted { token, subject, issued_before, reason, until } = wanted;
            let note = note(by, reason, until);
            let target = match (token, subject) {
                (Some(token), _) => Target::Token(token),
                (None, subject) => {
                    let issued_before = issued_before.map_or(Time(note.at), |time| time.0);
                    Target::Subject { subject: subject.unwrap_or_default(), issued_before }
                }
            };
            let changed = self.node.control().bar(&target, &note, None).await;
            let version = changed.map_err(|error| not_changed(error, &target))?;
            let ledger = &version.document;
            let held = match &target {
                Target::Subject { subject, .. } => {
                    let issued_before = ledger.subjects.get(subject).map_or(0, |cutoff| cutoff.issued_before);
                    Target::Subject { subject: subject.clone(), issued_before: Time(issued_before) }
                }
                target => target.clone(),
            };
            Ok(told(&held, ledger.note(&target, clock::wall()).unwrap_or(&note)))
        }
        .boxed()
    }

    fn remove_revocation(&self, by: String, id: String) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let target = match id.split_once(':') {
                Some(("token", id)) => Target::Token(id.to_owned()),
                Some(("subject", subject)) => {
                    Target::Subject { subject: subject.to_owned(), issued_before: Time(0) }
                }
                _ => return Err(Error::NotFound(format!("there is no revocation {id}"))),
            };
            let admitted = self.node.control().access().admit(&target, &by, None).await;
            admitted.map(drop).map_err(|error| not_changed(error, &target))
        }
        .boxed()
    }
}

fn told(target: &Target, note: &Note) -> Revocation {
    let (kind, token, subject, issued_before) = match target {
        Target::Token(id) => ("token", Some(id.clone()), None, None),
        Target::Subject { subject, issued_before } => {
            ("subject", None, Some(subject.clone()), Some(Timestamp(*issued_before)))
        }
        Target::Block(subject) => ("subject", None, Some(subject.clone()), None),
    };
    Revocation {
        id: format!("{kind}:{}", target.name()),
        token,
        subject,
        issued_before,
        reason: note.reason.clone(),
        until: note.until.map(Timestamp::from_millis),
        since: Timestamp::from_millis(note.at),
        by: note.by.clone(),
    }
}

//! Who is kept out, as the register holds it. Pure: time is an argument.

use std::collections::BTreeMap;

use bongsu_protocol::message::Time;
use serde::{Deserialize, Serialize};

use super::{Barred, Bearer, Why};
use crate::limits::{ACCESS_ENTRIES_MAX, ACCESS_NAME_BYTES_MAX, ACCESS_REASON_BYTES_MAX};

/// All revocations and blocks of a cluster: the document of the register `$register/access`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// Revoked tokens, by their ids.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tokens: BTreeMap<String, Note>,
    /// Subjects whose older tokens are revoked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub subjects: BTreeMap<String, Cutoff>,
    /// Subjects that are kept out, whatever they show.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub blocks: BTreeMap<String, Note>,
}

/// Why somebody is kept out, since when and until when.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// When this was written, in milliseconds since 1970.
    pub at: u64,
    /// Who wrote it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// Why, for whom it concerns. May be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// From when on it means nothing any more; `None`: it holds until somebody takes it away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// The revocation of all tokens of a subject from before a time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cutoff {
    /// Tokens that were issued before are revoked, in milliseconds since 1970; those that do not say when they were are older.
    pub issued_before: u64,
    /// Why, and until when.
    pub note: Note,
}

/// What is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The token with this id.
    Token(String),
    /// All tokens of a subject that were issued before a time.
    Subject {
        /// Whose.
        subject: String,
        /// Before when.
        issued_before: Time,
    },
    /// Everything of a subject, and whatever it will show.
    Block(String),
}

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There are as many as the register takes.
    #[error(
        "there are {ACCESS_ENTRIES_MAX} revocations and blocks, the most there may be: give those of tokens an end, take some away, \
         or revoke all tokens of a subject at once"
    )]
    Full,
    /// Nobody has no token, and everybody without one is nobody.
    #[error(
        "anonymous clients have no subject, so they cannot be kept out one by one: change auth.anonymous"
    )]
    Anonymous,
    /// A name or a reason is too long.
    #[error("{what} has at most {bytes_max} bytes")]
    TooLong {
        /// Which.
        what: &'static str,
        /// How long it may be.
        bytes_max: usize,
    },
    /// Its end is not after now.
    #[error("the end of it is over")]
    Over,
    /// There is no such revocation or block to take away.
    #[error("there is no such revocation or block")]
    Missing,
    /// It was changed since the version that was expected.
    #[error("it was changed meanwhile")]
    Changed,
}

impl Ledger {
    /// Whether and why the bearer of a credential is kept out at this time.
    #[must_use]
    pub fn judge(&self, bearer: &Bearer<'_>, now: Time) -> Option<Barred> {
        let Bearer { subject, token_id, issued_at } = *bearer;
        let barred = |why, note: &Note| note.holds(now).then(|| Barred { why, reason: note.reason.clone() });
        if let Some(barred) = self.blocks.get(subject).and_then(|note| barred(Why::Blocked, note)) {
            return Some(barred);
        }
        if let Some(note) = token_id.and_then(|token_id| self.tokens.get(token_id))
            && let Some(barred) = barred(Why::Revoked, note)
        {
            return Some(barred);
        }
        let cutoff = self.subjects.get(subject)?;
        let is_older = issued_at.is_none_or(|issued_at| issued_at.0 < cutoff.issued_before);
        if is_older { barred(Why::Revoked, &cutoff.note) } else { None }
    }

    /// The same with a revocation or a block more, and without those whose time is over. What there is already changes only where that
    /// keeps out more, or says something else.
    ///
    /// # Errors
    /// See [`Refused`]. `Missing` and `Changed` are of other functions.
    pub fn with(&self, target: &Target, note: &Note) -> Result<Self, Refused> {
        let name = target.name();
        let too_long = |what, bytes_max| Refused::TooLong { what, bytes_max };
        if name.is_empty() {
            return Err(Refused::Anonymous);
        }
        if name.len() > ACCESS_NAME_BYTES_MAX {
            return Err(too_long("the name of a token or a subject", ACCESS_NAME_BYTES_MAX));
        }
        if note.reason.len() > ACCESS_REASON_BYTES_MAX {
            return Err(too_long("a reason", ACCESS_REASON_BYTES_MAX));
        }
        if note.until.is_some_and(|until| until <= note.at) {
            return Err(Refused::Over);
        }
        let mut ledger = self.pruned(Time(note.at));
        let name = name.to_owned();
        match target {
            Target::Token(_) => put(&mut ledger.tokens, name, note),
            Target::Block(_) => put(&mut ledger.blocks, name, note),
            Target::Subject { issued_before, .. } => {
                let cutoff = ledger.subjects.entry(name).or_default();
                if !cutoff.note.says(note) || cutoff.issued_before < issued_before.0 {
                    cutoff.note = note.clone();
                }
                // Never earlier than before: what was revoked stays so until somebody takes the revocation away.
                cutoff.issued_before = cutoff.issued_before.max(issued_before.0);
            }
        }
        if ledger.len() > ACCESS_ENTRIES_MAX && ledger.len() > self.len() {
            return Err(Refused::Full);
        }
        Ok(ledger)
    }

    /// The same without a revocation or a block. Of a subject's revocation, the time says nothing.
    ///
    /// # Errors
    /// [`Refused::Missing`].
    pub fn without(&self, target: &Target, now: Time) -> Result<Self, Refused> {
        let mut ledger = self.pruned(now);
        let was_there = match target {
            Target::Token(id) => ledger.tokens.remove(id).is_some(),
            Target::Subject { subject, .. } => ledger.subjects.remove(subject).is_some(),
            Target::Block(subject) => ledger.blocks.remove(subject).is_some(),
        };
        if was_there { Ok(ledger) } else { Err(Refused::Missing) }
    }

    /// What is written of a target, if anything is that still holds.
    #[must_use]
    pub fn note(&self, target: &Target, now: Time) -> Option<&Note> {
        let note = match target {
            Target::Token(id) => self.tokens.get(id),
            Target::Subject { subject, .. } => self.subjects.get(subject).map(|cutoff| &cutoff.note),
            Target::Block(subject) => self.blocks.get(subject),
        };
        note.filter(|note| note.holds(now))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len() + self.subjects.len() + self.blocks.len()
    }

    /// Whether nobody is kept out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn pruned(&self, now: Time) -> Self {
        let mut ledger = self.clone();
        ledger.tokens.retain(|_, note| note.holds(now));
        ledger.subjects.retain(|_, cutoff| cutoff.note.holds(now));
        ledger.blocks.retain(|_, note| note.holds(now));
        ledger
    }
}

/// Writes a note where there is none that says the same: so that a change that is asked for twice is one.
fn put(notes: &mut BTreeMap<String, Note>, name: String, note: &Note) {
    let there = notes.entry(name).or_default();
    if !there.says(note) {
        *there = note.clone();
    }
}

impl Note {
    /// Whether its time is not over.
    #[must_use]
    pub fn holds(&self, now: Time) -> bool {
        self.until.is_none_or(|until| now.0 < until)
    }

    /// Whether it is written and says the same as another one, whoever wrote which when.
    fn says(&self, other: &Self) -> bool {
        self.at > 0 && self.reason == other.reason && self.until == other.until
    }
}

impl Target {
    /// Whom it concerns: a token's id, or a subject.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Token(name) | Self::Subject { subject: name, .. } | Self::Block(name) => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(at: u64, until: Option<u64>) -> Note {
        Note { at, by: "operator".to_owned(), reason: "lost phone".to_owned(), until }
    }

    fn ada(issued_before: u64) -> Target {
        Target::Subject { subject: "ada".to_owned(), issued_before: Time(issued_before) }
    }

    fn block(subject: &str) -> Target {
        Target::Block(subject.to_owned())
    }

    fn why(ledger: &Ledger, subject: &str, token_id: Option<&str>, issued_at: Option<u64>) -> Option<Why> {
        let bearer = Bearer { subject, token_id, issued_at: issued_at.map(Time) };
        ledger.judge(&bearer, Time(1000)).map(|barred| barred.why)
    }

    #[test]
    fn a_token_is_revoked_by_its_id_alone() {
        let ledger = Ledger::default().with(&Target::Token("t1".to_owned()), &note(500, None)).unwrap();
        assert_eq!(why(&ledger, "ada", Some("t1"), Some(900)), Some(Why::Revoked));
        assert_eq!(why(&ledger, "ada", Some("t2"), Some(900)), None);
        assert_eq!(why(&ledger, "ada", None, None), None);
        assert_eq!(why(&ledger, "t1", None, None), None, "a subject is no token");
    }

    #[test]
    fn tokens_of_a_subject_are_revoked_by_when_they_were_issued() {
        let ledger = Ledger::default().with(&ada(700), &note(500, None)).unwrap();
        assert_eq!(why(&ledger, "ada", None, Some(699)), Some(Why::Revoked));
        assert_eq!(why(&ledger, "ada", None, Some(700)), None);
        assert_eq!(why(&ledger, "ada", Some("t"), None), Some(Why::Revoked), "without a time it is older");
        assert_eq!(why(&ledger, "bob", None, Some(1)), None);
        assert_eq!(why(&ledger, "", None, None), None);
    }

    #[test]
    fn a_block_is_stronger_than_any_token_and_ends() {
        let ledger = Ledger::default().with(&block("ada"), &note(500, Some(1001))).unwrap();
        let ledger = ledger.with(&ada(700), &note(500, None)).unwrap();
        assert_eq!(why(&ledger, "ada", Some("new"), Some(999)), Some(Why::Blocked));
        let bearer = Bearer { subject: "ada", token_id: None, issued_at: Some(Time(999)) };
        assert_eq!(ledger.judge(&bearer, Time(1001)), None, "it ended");
        let barred = ledger.judge(&bearer, Time(1000)).unwrap();
        assert_eq!(barred, Barred { why: Why::Blocked, reason: "lost phone".to_owned() });
    }

    #[test]
    fn what_is_asked_for_twice_is_one_and_a_revocation_never_becomes_weaker() {
        let once = Ledger::default().with(&block("ada"), &note(500, None)).unwrap();
        let once = once.with(&ada(700), &note(500, None)).unwrap();
        let again = once.with(&block("ada"), &note(600, None)).unwrap();
        assert_eq!(again.with(&ada(600), &note(600, None)).unwrap(), once);
        let later = once.with(&ada(800), &note(600, None)).unwrap();
        assert_eq!((later.subjects["ada"].issued_before, later.subjects["ada"].note.at), (800, 600));
        let other = Note { reason: "found it".to_owned(), ..note(600, None) };
        assert_eq!(once.with(&block("ada"), &other).unwrap().blocks["ada"], other);
    }

    #[test]
    fn what_is_taken_away_is_gone_and_what_is_not_there_is_missing() {
        let ledger = Ledger::default().with(&block("ada"), &note(500, None)).unwrap();
        assert_eq!(ledger.without(&block("ada"), Time(1000)), Ok(Ledger::default()));
        assert_eq!(ledger.without(&ada(0), Time(1000)), Err(Refused::Missing));
        let over = Ledger::default().with(&block("ada"), &note(500, Some(900))).unwrap();
        assert_eq!(over.note(&block("ada"), Time(1000)), None);
        assert_eq!(over.without(&block("ada"), Time(1000)), Err(Refused::Missing));
    }

    #[test]
    fn whom_nobody_can_mean_and_what_nobody_can_hold_is_refused() {
        let refused = |target: &Target, note: &Note| Ledger::default().with(target, note).unwrap_err();
        assert_eq!(refused(&block(""), &note(1, None)), Refused::Anonymous);
        assert_eq!(refused(&block("ada"), &note(500, Some(500))), Refused::Over);
        let long = block(&"x".repeat(ACCESS_NAME_BYTES_MAX + 1));
        assert!(matches!(refused(&long, &note(1, None)), Refused::TooLong { .. }));
        let reason = "x".repeat(ACCESS_REASON_BYTES_MAX + 1);
        assert!(matches!(refused(&block("ada"), &Note { reason, ..note(1, None) }), Refused::TooLong { .. }));
    }

    #[test]
    fn a_full_ledger_refuses_more_and_takes_them_once_others_are_over() {
        let mut ledger = Ledger::default();
        for n in 0..ACCESS_ENTRIES_MAX {
            ledger.tokens.insert(n.to_string(), note(1, Some(1000)));
        }
        assert_eq!(ledger.with(&block("ada"), &note(999, None)), Err(Refused::Full));
        let again = ledger.with(&Target::Token("7".to_owned()), &Note { until: None, ..note(999, None) });
        assert_eq!(again.unwrap().len(), ACCESS_ENTRIES_MAX, "what is there may change");
        assert_eq!(ledger.with(&block("ada"), &note(1000, None)).unwrap().len(), 1);
    }

    #[test]
    fn it_stands_in_the_log_as_documented() {
        let ledger = Ledger::default().with(&ada(700), &note(500, None)).unwrap();
        let ledger = ledger.with(&Target::Token("t1".to_owned()), &note(500, Some(9))).unwrap_err();
        assert_eq!(ledger, Refused::Over);
        let ledger = Ledger::default().with(&ada(700), &note(500, None)).unwrap();
        let text = r#"{"subjects":{"ada":{"issued_before":700,"note":{"at":500,"by":"operator","reason":"lost phone"}}}}"#;
        assert_eq!(serde_json::to_string(&ledger).unwrap(), text);
        assert_eq!(serde_json::from_str::<Ledger>(text).unwrap(), ledger);
        assert!(serde_json::from_str::<Ledger>(r#"{"addresses":{}}"#).is_err(), "of a later version");
    }
}

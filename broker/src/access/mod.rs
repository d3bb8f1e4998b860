//! Whom operators keep out: revoked tokens, and blocked subjects.
//!
//! All revocations and blocks of a cluster are one register, the [`Ledger`], which every node follows. Whoever shows a token is judged by it
//! when the token is verified, when its connection takes its place, and again with every change. It decides and ends nothing by itself: what
//! has a place is ended by [`control`](crate::control).

mod ledger;

use bongsu_protocol::message::Time;
use bongsu_protocol::reason::{CloseReason, Error, ErrorCode, Goodbye};
use tokio::sync::watch;

use crate::clock;
use crate::limits::{STORE_DEADLINE, UNAVAILABLE_RETRY_MS};
use crate::registers::{ChangeError, Register, Registers, Versioned};

pub use ledger::{Cutoff, Ledger, Note, Refused, Target};

/// The name of the register.
const NAME: &str = "access";

/// Who is kept out, as this node knows it. A handle: cheap to clone.
#[derive(Debug, Clone)]
pub struct Access {
    register: Register<Ledger>,
}

/// What a credential says that can be kept out by.
#[derive(Debug, Clone, Copy)]
pub struct Bearer<'a> {
    /// Whose it is; empty for nobody's.
    pub subject: &'a str,
    /// Its own name, if it has one.
    pub token_id: Option<&'a str>,
    /// When it was issued, if it says so.
    pub issued_at: Option<Time>,
}

/// Why somebody is kept out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// The token was taken back; another one may be good.
    Revoked,
    /// The subject is blocked, whatever it shows.
    Blocked,
}

/// Somebody is kept out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barred {
    /// Why.
    pub why: Why,
    /// The operator's reason, for the user. May be empty.
    pub reason: String,
}

impl Access {
    /// Opens the register.
    #[must_use]
    pub fn open(registers: &Registers) -> Self {
        Self { register: registers.open(NAME) }
    }

    /// Whether the bearer of a credential is kept out, by what this node knows: that is at most a second old while the store is reached.
    ///
    /// # Errors
    /// Why.
    pub fn judge(&self, bearer: &Bearer<'_>) -> Result<(), Barred> {
        self.register.with(|ledger| ledger.judge(bearer, clock::wall())).map_or(Ok(()), Err)
    }

    /// Waits until the register was looked at once, which takes no time but while the node starts: nobody is let in by a node that does
    /// not know who is kept out.
    ///
    /// # Errors
    /// `unavailable`: the store does not say so.
    pub async fn ready(&self) -> Result<(), Error> {
        if self.register.is_known() {
            return Ok(());
        }
        let late = |_| {
            let text = "who is kept out is not known yet: the store does not answer";
            Error::new(ErrorCode::Unavailable, text).retry_after(UNAVAILABLE_RETRY_MS)
        };
        tokio::time::timeout(STORE_DEADLINE, self.register.looked_at()).await.map_err(late)
    }

    /// What holds now.
    #[must_use]
    pub fn current(&self) -> Versioned<Ledger> {
        self.register.current()
    }

    /// Tells of every change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Versioned<Ledger>> {
        self.register.watch()
    }

    /// Keeps somebody out, in the name of `note.by`. Where the same is said already, nothing changes. `expected`: when the note that is
    /// there was written, `Some(0)` where there must be none.
    ///
    /// # Errors
    /// See [`ChangeError`] and [`Refused`].
    pub async fn bar(
        &self,
        target: &Target,
        note: &Note,
        expected: Option<u64>,
    ) -> Result<Versioned<Ledger>, ChangeError<Refused>> {
        self.change(&note.by, |ledger| {
            expect(ledger, target, expected)?;
            ledger.with(target, note)
        })
        .await
    }

    /// Takes a revocation or a block away.
    ///
    /// # Errors
    /// See [`ChangeError`] and [`Refused`].
    pub async fn admit(
        &self,
        target: &Target,
        by: &str,
        expected: Option<u64>,
    ) -> Result<Versioned<Ledger>, ChangeError<Refused>> {
        self.change(by, |ledger| {
            expect(ledger, target, expected)?;
            ledger.without(target, clock::wall())
        })
        .await
    }

    async fn change(
        &self,
        by: &str,
        change: impl Fn(&Ledger) -> Result<Ledger, Refused> + Send + Sync,
    ) -> Result<Versioned<Ledger>, ChangeError<Refused>> {
        // Refused with nothing: what is wanted is there.
        let change = |ledger: &Ledger| match change(ledger) {
            Ok(changed) if changed == *ledger => Err(None),
            changed => changed.map_err(Some),
        };
        match self.register.change(None, by, change).await {
            Ok(version) => Ok(version),
            Err(ChangeError::Refused(None)) => Ok(self.current()),
            Err(ChangeError::Refused(Some(refused))) => Err(ChangeError::Refused(refused)),
            Err(ChangeError::Conflict { newest }) => Err(ChangeError::Conflict { newest }),
            Err(ChangeError::Contended) => Err(ChangeError::Contended),
            Err(ChangeError::Unreadable { head }) => Err(ChangeError::Unreadable { head }),
            Err(ChangeError::TooLarge { bytes }) => Err(ChangeError::TooLarge { bytes }),
            Err(ChangeError::Store(error)) => Err(ChangeError::Store(error)),
        }
    }
}

/// Refuses a change of what somebody else changed meanwhile.
fn expect(ledger: &Ledger, target: &Target, expected: Option<u64>) -> Result<(), Refused> {
    let Some(expected) = expected else { return Ok(()) };
    let at = ledger.note(target, clock::wall()).map_or(0, |note| note.at);
    if at == expected { Ok(()) } else { Err(Refused::Changed) }
}

impl Barred {
    /// What is said of it to its user: what was done, and why.
    fn text(&self) -> String {
        let done = match self.why {
            Why::Revoked => "this token was revoked",
            Why::Blocked => "you are blocked",
        };
        if self.reason.is_empty() { done.to_owned() } else { format!("{done}: {}", self.reason) }
    }

    /// The end of a connection.
    #[must_use]
    pub fn goodbye(&self) -> Goodbye {
        let reason = match self.why {
            Why::Revoked => CloseReason::Unauthenticated,
            Why::Blocked => CloseReason::Forbidden,
        };
        Goodbye::new(reason, self.text())
    }
}

impl From<Barred> for Error {
    fn from(barred: Barred) -> Self {
        let code = match barred.why {
            Why::Revoked => ErrorCode::Unauthenticated,
            Why::Blocked => ErrorCode::Forbidden,
        };
        Self::new(code, barred.text())
    }
}

//! Why tokens are refused.

/// Why a token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenRefusal {
    /// It is none of the known ones, and no JWT.
    Unknown,
    /// It cannot be read.
    Malformed,
    /// Its algorithm is none that is taken here, or none of its issuer's.
    Algorithm,
    /// It wants an extension that is not known.
    Critical,
    /// It is a token for something else.
    Type,
    /// Nobody who signs tokens for this broker is called so.
    Issuer,
    /// It is for somebody else.
    Audience,
    /// It has ended.
    Expired,
    /// It does not hold yet.
    Early,
    /// It never ends, or not for too long.
    Lifetime,
    /// Its key is not in its issuer's set.
    Key,
    /// Its issuer's keys are not known just now.
    KeysUnavailable,
    /// Its signature is not its issuer's.
    Signature,
    /// A claim cannot be taken.
    Claims,
    /// Its subject is none, or cannot stand where it should.
    Subject,
    /// It names somebody else than the token before it.
    OtherSubject,
    /// It was a ticket that is used, has ended, or never was.
    Ticket,
}

impl TokenRefusal {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Unknown,
        Self::Malformed,
        Self::Algorithm,
        Self::Critical,
        Self::Type,
        Self::Issuer,
        Self::Audience,
        Self::Expired,
        Self::Early,
        Self::Lifetime,
        Self::Key,
        Self::KeysUnavailable,
        Self::Signature,
        Self::Claims,
        Self::Subject,
        Self::OtherSubject,
        Self::Ticket,
    ];

    /// The label's value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Critical => "critical",
            Self::Type => "type",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::Early => "early",
            Self::Lifetime => "lifetime",
            Self::Key => "key",
            Self::KeysUnavailable => "keys-unavailable",
            Self::Signature => "signature",
            Self::Claims => "claims",
            Self::Subject => "subject",
            Self::OtherSubject => "other-subject",
            Self::Ticket => "ticket",
        }
    }
}

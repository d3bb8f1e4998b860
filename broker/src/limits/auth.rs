//! Limits of tokens and of the keys that they are checked with.

use std::time::Duration;

/// Claims of one token. More are refused: a token of 8 KiB with hundreds of claims is no token that somebody wrote on purpose.
pub const TOKEN_CLAIMS_MAX: usize = 64;

/// Filters that one token names in all of its capabilities. Every publish and every subscription walks them. More are refused.
pub const TOKEN_FILTERS_MAX: usize = 256;

/// Audiences that one token names. More are refused.
pub const TOKEN_AUDIENCES_MAX: usize = 32;

/// Bytes of the id of a token (`jti`): revocations keep it. A longer one is refused.
pub const TOKEN_ID_BYTES_MAX: usize = 128;

/// Bytes of a file with a key: 256 KiB, more than a set of [`JWKS_KEYS_MAX`] keys with their certificates takes. A larger one is refused.
pub const KEY_FILE_BYTES_MAX: u64 = 256 << 10;

/// Keys of one set. A set with more is refused as a whole: each could have to be tried.
pub const JWKS_KEYS_MAX: usize = 64;

/// How long a fetch of a set of keys may take, from looking up the name to the last byte: 5 s.
pub const JWKS_DEADLINE: Duration = Duration::from_secs(5);

/// The least time between two fetches of a set that tokens ask for by an unknown `kid`: 10 s. Whoever sends tokens with random ones makes
/// no more requests than that.
pub const JWKS_MISS_INTERVAL: Duration = Duration::from_secs(10);

/// The longest pause between two attempts to fetch a set while its server does not answer: 30 s. They begin with one second and double.
pub const JWKS_RETRY_MAX: Duration = Duration::from_secs(30);

/// How often files with keys are looked at: once a second.
pub const KEY_FILE_INTERVAL: Duration = Duration::from_secs(1);

/// Issuers whose tokens name the same `iss`: 4, so that a token costs at most as many signatures. More are refused at start.
pub const SAME_ISSUER_MAX: usize = 4;

/// How long before its end the bearer of a token is warned: 60 s, enough to get another one from a server that is busy.
pub const TOKEN_WARNING: Duration = Duration::from_secs(60);

/// How long a connect ticket is good: 30 s, from a page's request for it to its handshake.
pub const TICKET_LIFETIME: Duration = Duration::from_secs(30);

/// How long the store knows that a ticket was used: 10 minutes, far longer than it is good, even where nodes' clocks are apart.
pub const TICKET_GUARD: Duration = Duration::from_secs(600);

/// How long tickets are kept in their log: an hour, for whoever wants to know later what happened.
pub const TICKETS_KEPT: Duration = Duration::from_secs(3600);

/// Tickets that a node looks up at the same time: 16. Others wait, so that whoever guesses tickets leaves the store to others.
pub const TICKETS_REDEEMED_MAX: usize = 16;

/// How long a token is good that an administrator had signed without saying so: an hour.
pub const MINTED_TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// Bits of an RSA key: what ring checks signatures with.
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

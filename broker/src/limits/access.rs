//! Limits of what keeps clients out.

/// Revocations and blocks of one cluster together: 5,000, some 100 bytes each, so that all of them are one register. More are refused; those
/// whose time is over make room by themselves.
pub const ACCESS_ENTRIES_MAX: usize = 5000;

/// Bytes of a token's id or of a subject that is revoked or blocked: 256.
pub const ACCESS_NAME_BYTES_MAX: usize = 256;

/// Bytes of the reason for a revocation or a block, which its user reads: 256.
pub const ACCESS_REASON_BYTES_MAX: usize = 256;

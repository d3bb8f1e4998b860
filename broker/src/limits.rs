//! The broker's limits that cannot be configured, each with its unit, its reason and what happens when it is reached.
//!
//! What an operator may choose stands in [`config::settings`](crate::config::settings) with its default and its bounds,
//! and never goes past `bongsu_protocol::limits`, which hold for every peer.

/// Bytes of a configuration file: 1 MiB, some thousand policies. A larger file is refused at start: it is not a
/// configuration, and reading it whole must not cost memory without end (`/dev/zero` is a file too).
pub const CONFIG_FILE_BYTES_MAX: u64 = 1 << 20;

/// Entries of a list in the settings (policies, tokens, filters of one token). Each new topic walks the policies and
/// each handshake the tokens, so both walks stay short. More are refused at start.
pub const LIST_ENTRIES_MAX: usize = 1024;

//! Settings: what an operator may choose, where each value came from, and what is wrong with it.
//!
//! Later layers win: defaults, then a TOML file, then the environment (`BONGSU_WEBSOCKET__PING_INTERVAL`), then flags.
//! Lists are replaced as a whole, never merged.
//!
//! | module | what it holds |
//! |---|---|
//! | [`settings`] | every setting with its default, bounds and meaning: the one source of the structs, the checks and the documentation |
//! | `schema` | the macro and traits that make structs, readers and descriptions out of such a declaration |
//! | `network`, `prefix`, `ratio`, `url`, `value`, `web`, `word` | the types a setting can have, and how each is written |
//! | `auth` | the settings of who may do what, which `settings` shows as its own |
//! | `layers` | file, environment and flags, as sources for the `config` crate |
//! | `policy` | what holds for a topic, resolved from the ordered list of policies |
//! | `live`, `live_limits` | the policies and limits that operators change while nodes run |
//! | `check` | rules that concern more than one setting |
//! | `explain` | the effective values as text, and `docs/configuration.md` |
//! | `error` | what is wrong, with the key, the value, its origin and what is allowed |

mod auth;
mod check;
mod error;
mod explain;
mod layers;
mod live;
mod live_limits;
mod network;
mod policy;
mod prefix;
mod ratio;
mod schema;
pub mod settings;
#[cfg(test)]
mod tests;
mod url;
mod value;
mod web;
mod word;

use std::ffi::OsString;

pub use error::{Error, Errors};
pub use explain::{explain, markdown};
pub use layers::SettingsArgs;
pub use live::{LivePolicies, LivePolicy};
pub use live_limits::{LiveLimits, show_limits};
pub use network::Network;
pub use policy::{Changes as PolicyChanges, Kind, Policies, Policy, PublishRate, TOLD};
pub use prefix::PathPrefix;
pub use ratio::Ratio;
pub use schema::{Origin, Origins, Tables};
pub use settings::{Events as EventSettings, Limits as LimitSettings, Settings, Webhook as WebhookSettings};
pub use url::ServerUrl;
pub use value::{AllowedOrigin, ByteSize, Grant, LogFilter, Name, Sha256};
pub use web::ScriptUrl;
pub use word::{
    AdminRole, Algorithm, Dots, Forwarding, LogFormat, Port, Reject, SessionEvents, SlowReader, StorageKind,
    Synchronous, TopicKind,
};

use schema::{Reader, Setting, Spec};

/// Settings that passed every check, and where each value came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The effective values.
    pub settings: Settings,
    /// Which layer gave each of them.
    pub origins: Origins,
}

/// Reads all layers: the file that the flags or `BONGSU_CONFIG` name, this process's environment, and the flags.
///
/// # Errors
/// Everything that is wrong, not only the first of it. The operator must correct it; starting anyway is not safe.
pub fn load(args: &SettingsArgs) -> Result<Loaded, Errors> {
    load_with(args, std::env::vars_os())
}

/// As [`load`], with the environment given by the caller.
///
/// # Errors
/// As [`load`].
pub fn load_with(
    args: &SettingsArgs,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Errors> {
    let layered = layers::read(args, environment)?;
    let mut reader = Reader::default();
    let settings = Settings::read(&mut reader, "", Some(&layered), &Spec::SECTION);
    let (origins, mut errors) = reader.finish();
    // A value that could not be read leaves no tree; rules across settings would then judge the wrong values.
    let Some(mut settings) = settings.filter(|_| errors.is_empty()) else { return Err(Errors(errors)) };
    check::derive(&mut settings, &origins);
    errors.extend(settings.validate(&origins));
    if errors.is_empty() { Ok(Loaded { settings, origins }) } else { Err(Errors(errors)) }
}

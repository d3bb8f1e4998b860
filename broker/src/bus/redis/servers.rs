//! From settings to servers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::access::{Access, Tls};
use super::address::{Address, Kind, Secret};
use crate::config::settings::Redis;
use crate::config::{ServerUrl, Settings};

/// The servers that the settings name, and how to connect to them.
pub struct Servers {
    pub(super) kind: Kind,
    pub(super) access: Access,
    /// How to connect to sentinels.
    pub(super) sentinel_access: Access,
    /// The name of the cluster of nodes.
    pub(super) cluster: String,
}

/// A setting that can never work. None of them shows a password.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The URL has no form that is known.
    #[error("{key} {rule}")]
    Url {
        /// The setting.
        key: &'static str,
        /// What holds for it.
        rule: String,
    },
    /// Two settings that say the same, or half of what belongs together.
    #[error("{0}")]
    Rule(&'static str),
    /// A file that a setting names cannot be read.
    #[error("{key}: cannot read {}", path.display())]
    File {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The certificates are not what they should be.
    #[error("redis.ca, redis.certificate or redis.key: {0}")]
    Certificates(String),
}

impl Servers {
    /// What the settings say; `None` where they name no Redis.
    ///
    /// # Errors
    /// What can never work: the node should not start.
    pub fn from_settings(settings: &Settings) -> Result<Option<Self>, SettingsError> {
        let redis = &settings.redis;
        let Some((key, url)) = url(redis)? else { return Ok(None) };
        let address = Address::parse(url.reveal()).map_err(|rule| SettingsError::Url { key, rule })?;
        let tls = if address.is_tls { Some(Arc::new(tls(redis)?)) } else { None };
        if tls.is_none() && (redis.ca.is_some() || redis.certificate.is_some() || redis.key.is_some()) {
            return Err(SettingsError::Rule(
                "redis.ca, redis.certificate and redis.key need a URL that begins with rediss",
            ));
        }
        let file = "redis.sentinel_password_file";
        let password = redis.sentinel_password_file.as_deref().map(|path| read(file, path)).transpose()?;
        let password = password.map(|bytes| Secret(String::from_utf8_lossy(&bytes).trim().to_owned()));
        let user = redis.sentinel_user.as_ref().map(|name| name.as_str().to_owned());
        let sentinel_access = Access { user, password, database: 0, tls: tls.clone() };
        let access =
            Access { user: address.user, password: address.password, database: address.database, tls };
        access.check().map_err(|error| SettingsError::Certificates(error.to_string()))?;
        let cluster = settings.cluster.name.as_str().to_owned();
        Ok(Some(Self { kind: address.servers, access, sentinel_access, cluster }))
    }
}

/// The URL and the setting that gave it.
fn url(redis: &Redis) -> Result<Option<(&'static str, ServerUrl)>, SettingsError> {
    let key = "redis.url_file";
    let url = match (&redis.url, &redis.url_file) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(SettingsError::Rule("redis.url and redis.url_file say the same: give one"));
        }
        (Some(url), None) => return Ok(Some(("redis.url", url.clone()))),
        (None, Some(path)) => String::from_utf8_lossy(&read(key, path)?).trim().to_owned(),
    };
    let rule =
        || SettingsError::Url { key, rule: "must name a file with a URL in it and nothing else".to_owned() };
    Ok(Some((key, ServerUrl::parse(&url).ok_or_else(rule)?)))
}

fn tls(redis: &Redis) -> Result<Tls, SettingsError> {
    let roots = redis.ca.as_deref().map(|path| read("redis.ca", path)).transpose()?;
    let identity = match (&redis.certificate, &redis.key) {
        (Some(certificate), Some(key)) => {
            Some((read("redis.certificate", certificate)?, read("redis.key", key)?))
        }
        (None, None) => None,
        _ => {
            return Err(SettingsError::Rule(
                "redis.certificate and redis.key belong together: give both or none",
            ));
        }
    };
    Ok(Tls { roots, identity })
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, SettingsError> {
    std::fs::read(path).map_err(|source| SettingsError::File { key, path: path.to_owned(), source })
}

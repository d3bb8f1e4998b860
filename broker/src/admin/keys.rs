//! Keys of administrators.

use bongsu_admin_api::Error;
use bongsu_admin_api::resources::keys::{self, KeyList, Keys, NewKey, Replace, WantedKey};
use bongsu_admin_api::time::Timestamp;
use bongsu_protocol::message::Time;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Admin, not_changed, unavailable};
use crate::clock;
use crate::keys::{Before, Key, Refusal};

impl Keys for Admin {
    fn keys(&self) -> BoxFuture<'_, Result<KeyList, Error>> {
        async {
            let keys = self.node.decisions().keys().list().await.map_err(unavailable)?;
            let keys = keys.into_iter().map(|(name, key, used)| shown(name, key, used));
            Ok(KeyList { keys: keys.collect::<Result<_, _>>()? })
        }
        .boxed()
    }

    fn make_key(
        &self,
        by: String,
        name: String,
        wanted: WantedKey,
        replace: Replace,
    ) -> BoxFuture<'_, Result<NewKey, Error>> {
        async move {
            if wanted.expires.is_some_and(|expires| expires.0 <= clock::wall()) {
                return Err(Error::invalid("expires", "it is over"));
            }
            let before = match replace {
                Replace::Either => Before::Either,
                Replace::No => Before::Nothing,
                Replace::Only => Before::One,
            };
            let (role, expires) = (wanted.role.as_str(), wanted.expires.map(|expires| expires.0));
            let made = self.node.decisions().keys().make(&by, &name, role, expires, before).await;
            let (key, secret) = made.map_err(|error| not_changed(error, refused))?;
            Ok(NewKey { key: shown(name, key, None)?, secret })
        }
        .boxed()
    }

    fn revoke_key(&self, by: String, name: String) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let revoked = self.node.decisions().keys().revoke(&by, &name).await;
            revoked.map_err(|error| not_changed(error, refused))
        }
        .boxed()
    }
}

fn shown(name: String, key: Key, used: Option<Time>) -> Result<keys::Key, Error> {
    let role = key.role.parse().map_err(|_| {
        Error::Internal(format!("the role of the key {name} is one of a later version of the broker"))
    })?;
    let (made, expires, used) = (
        Timestamp::from_millis(key.made_ms),
        key.expires_ms.map(Timestamp::from_millis),
        used.map(Timestamp::from),
    );
    Ok(keys::Key { name, role, begins: key.begins, made, by: key.by, expires, used })
}

fn refused(refusal: Refusal) -> Error {
    let detail = refusal.to_string();
    match refusal {
        Refusal::Exists => Error::Changed(detail),
        Refusal::Missing => Error::NotFound(detail),
        Refusal::Full => Error::Conflict(detail),
        Refusal::Name => Error::invalid("name", detail),
    }
}

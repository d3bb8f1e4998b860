//! One look at all registers, so that a node asks the store one thing where nothing changed, however many registers there are.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use bongsu_persistence::store::{Error, Store, TopicsQuery};
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::{Topic, TopicFilter};
use tokio::sync::watch;

use super::PREFIX;
use crate::bus::Listener;
use crate::limits::{REGISTER_INTERVAL, REGISTERS_MAX, STORE_DEADLINE};

/// The newest version of each register that was ever changed; `None` until the store was asked.
pub(super) type Heads = Option<Arc<HashMap<Topic, Position>>>;

static REGISTERS: LazyLock<TopicFilter> =
    LazyLock::new(|| TopicFilter::parse(&format!("{PREFIX}#")).expect("it is a filter"));

/// Tells `heads` what there is, from time to time and whenever it is rung, until nobody listens.
pub(super) async fn look_out(store: Arc<dyn Store>, heads: watch::Sender<Heads>, mut bell: Listener) {
    let mut is_failing = false;
    while !heads.is_closed() {
        tokio::select! {
            biased;
            () = bell.rung() => {}
            () = tokio::time::sleep(REGISTER_INTERVAL) => {}
        }
        match ask(&store).await {
            Ok(found) => {
                is_failing = false;
                heads.send_replace(Some(Arc::new(found)));
            }
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(%error, "changes of registers cannot be read; they will be");
                }
            }
        }
    }
}

async fn ask(store: &Arc<dyn Store>) -> Result<HashMap<Topic, Position>, Error> {
    let query = TopicsQuery { filter: REGISTERS.clone(), after: None, limit: REGISTERS_MAX };
    let late = |_| Error::Unavailable("it did not answer in time".to_owned());
    let logs = tokio::time::timeout(STORE_DEADLINE, store.topics(query)).await.map_err(late)??;
    Ok(logs.into_iter().map(|log| (log.topic, log.head)).collect())
}

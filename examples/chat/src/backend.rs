//! The application's back end: a client like any other, with a token that lets it hear of sessions and say who is here.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use bongsu_client::{Client, Error, Item, Start, Subscription};

use crate::who::{Here, Sessions};

/// What the broker tells of the sessions on all of its nodes, a topic for each.
const EVENTS: &str = "$sys/sessions/+";

/// A window that is loaded again leaves and enters within this time, which is no news to anybody.
const QUIET: Duration = Duration::from_millis(50);

/// Events that are taken before the news is told, however fast more of them come.
const EVENTS_MAX: usize = 1000;

/// Publishes who is in each room, whenever that changes, as long as the broker is there.
///
/// It keeps nothing of its own: all that is kept of the events, from the oldest on, tells who is here, also who left while this was not
/// running. Whatever breaks meanwhile, the client reads on behind what it has.
///
/// # Errors
/// The broker ended the subscription, or did not take a list.
pub(crate) async fn run(broker: &str, token: String) -> anyhow::Result<()> {
    let client = Client::builder(broker).fixed_token(token).connect().await.context("the back end")?;
    let mut events =
        client.subscribe(EVENTS).from(Start::Earliest).await.context("the events of sessions")?;
    let mut sessions = Sessions::default();
    let mut told = BTreeMap::new();
    loop {
        take(&mut events, &mut sessions).await?;
        for (room, here) in sessions.rooms() {
            if told.get(&room) != Some(&here) {
                tell(&client, &room, &here).await?;
                told.insert(room, here);
            }
        }
    }
}

/// Takes what there is, at least one event, until it is quiet.
async fn take(events: &mut Subscription, sessions: &mut Sessions) -> anyhow::Result<()> {
    let mut next = events.next().await;
    for _ in 0..EVENTS_MAX {
        match next {
            Some(Item::Message(it)) => sessions.take(it.topic.as_str(), &it.message.payload),
            Some(Item::Reset { topic, .. }) => sessions.forget(topic.as_str()),
            // Too old to be kept. Who entered so long ago and never since is not listed until the window is loaded again.
            Some(Item::Lost(_)) => {}
            Some(Item::Ended(error)) => return Err(error.into()),
            None => return Err(Error::Closed(None).into()),
        }
        match tokio::time::timeout(QUIET, events.next()).await {
            Ok(more) => next = more,
            Err(_) => break,
        }
    }
    Ok(())
}

async fn tell(client: &Client, room: &str, here: &Here) -> anyhow::Result<()> {
    let list = serde_json::to_vec(here).context("the list has a JSON form")?;
    let topic = format!("chat/{room}/who");
    client.publish(&topic, list).content_type("application/json").await?;
    tracing::debug!(room, here = here.here.len(), "told who is here");
    Ok(())
}

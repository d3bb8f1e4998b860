//! Webhooks: durable readers that are told by HTTP. `docs/events.md` says what receivers get.
//!
//! ```text
//!   store ── changes ──▶ runner ── a topic at a time ──▶ worker ── POST, signed ──▶ receiver
//!   $webhook/{name} ◀── how far, who ──┘                   └── given up ──▶ $sys/webhooks/{name}/dead
//! ```
//!
//! A webhook reads logs only, so that nothing it should tell can be missed: the store says which logs changed, and the webhook's
//! register, a small log with compare-and-append, how far each was delivered and which node delivers. That one dies: another finds
//! the register silent, and goes on where it stands. How deliveries went is told in a log beside it, `$deliveries/{name}`.

mod deliveries;
mod desk;
mod post;
mod progress;
mod runner;
mod signature;
mod worker;

use std::sync::Arc;

use bongsu_persistence::store::Store;
use bongsu_protocol::topic::Topic;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::WebhookSettings;
use crate::publisher::Publisher;

pub use deliveries::{Attempt, Went};
pub use desk::{Again, Desk, Refused};

use progress::Progress;
use runner::Runner;
use worker::Worker;

/// What the names of the topics of dead letters begin with. No webhook is told of messages there: it could be told of its own failure
/// for ever.
const DEAD_LETTERS: &str = "$sys/webhooks/";

/// The webhooks of a node. They end with the process, or in good order with [`stop`](Self::stop).
#[derive(Debug)]
pub struct Webhooks {
    ending: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Webhooks {
    /// Starts them on this node. `process` names this process among all that ever were; `is_alone` says that no other has the same store.
    #[must_use]
    pub fn start(
        webhooks: &[WebhookSettings],
        store: &Arc<dyn Store>,
        publisher: &Arc<Publisher>,
        node: &str,
        process: &str,
        is_alone: bool,
    ) -> Self {
        let (ending, is_ending) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for settings in webhooks {
            let own_topic =
                |text: String| Topic::parse(&text).expect("a webhook's name is a level of a topic");
            let worker = Worker::new(settings, store, publisher, node);
            let runner = Runner {
                settings: settings.clone(),
                store: Arc::clone(store),
                worker: Arc::new(worker),
                process: process.to_owned(),
                is_alone,
                ending: is_ending.clone(),
                register: own_topic(format!("$webhook/{}", settings.name)),
                progress: Progress::default(),
                number: 0,
            };
            tasks.spawn(runner.run());
        }
        Self { ending, tasks }
    }

    /// Ends them and leaves what is to be delivered to other nodes, at once. What is being sent right then is sent again by another.
    pub async fn stop(mut self) {
        self.ending.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

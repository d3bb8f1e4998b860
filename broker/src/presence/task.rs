//! The task that owns the members of this node, and brings the registry to what it holds.

use std::sync::Arc;

use bongsu_protocol::command::RequestId;
use bongsu_protocol::event::{Member, Reply};
use bongsu_protocol::reason::{Error, ErrorCode};
use bongsu_protocol::topic::Topic;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, oneshot, watch};

use super::held::{Held, too_many};
use super::pending::{Batch, Key, Pending, Unwritten, Waiting};
use super::questions::{Question, Questions};
use super::{Announcer, Command, announced_on, reply};
use crate::clock;
use crate::cluster::{self, Change, Cluster, Listing, Membership, Outcome, Registration};
use crate::config::{Policies, PolicyChanges};
use crate::limits::{MEMBERS_READS_MAX, PRESENCE_BATCH_MAX, UNAVAILABLE_RETRY_MS};
use crate::outbound::Outbound;

/// See the [module](self).
pub(super) struct Task {
    held: Held,
    pending: Pending,
    questions: Questions<(Arc<Outbound>, RequestId)>,
    /// Who waits until nothing is pending.
    settling: Vec<oneshot::Sender<()>>,
    calls: FuturesUnordered<BoxFuture<'static, Done>>,
    n_reads: usize,
    link: Link,
    cluster: Cluster,
    membership: watch::Receiver<Membership>,
    announcer: Announcer,
    policies: Arc<Policies>,
    changes: PolicyChanges,
    members_max: usize,
}

/// How this node and the registry stand.
#[derive(Debug)]
enum Link {
    /// There is no registry: this node knows everything.
    None,
    /// It answers, and this node is registered.
    Up(Arc<Registration>),
    /// It will soon: this node registers again.
    Renewing(Arc<Registration>),
    /// It does not answer; this node was registered there before, or never yet.
    Away(Option<Arc<Registration>>),
}

/// A call to the registry that came back.
enum Done {
    Applied(Arc<Registration>, Batch, Result<Vec<Outcome>, cluster::Error>),
    Listed(Arc<Registration>, Question, Result<Listing, cluster::Error>),
}

impl Task {
    pub(super) fn new(
        announcer: Announcer,
        policies: Arc<Policies>,
        cluster: Cluster,
        members_max: usize,
    ) -> Self {
        Self {
            held: Held::new(members_max),
            pending: Pending::default(),
            questions: Questions::default(),
            settling: Vec::new(),
            calls: FuturesUnordered::new(),
            n_reads: 0,
            link: if cluster.registry().is_some() { Link::Away(None) } else { Link::None },
            membership: cluster.membership(),
            cluster,
            announcer,
            changes: policies.changes(),
            policies,
            members_max,
        }
    }

    /// Takes commands as long as there is anybody to send them.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let is_alone = matches!(self.link, Link::None);
        loop {
            self.start_calls();
            if self.pending.is_empty() {
                self.settling.drain(..).for_each(|settled| {
                    let _ = settled.send(());
                });
            }
            tokio::select! {
                biased;
                // Answers free what waits; there are as many as calls were started here.
                Some(done) = self.calls.next() => match done {
                    Done::Applied(registration, batch, result) => {
                        self.applied(&registration, batch, result).await
                    }
                    Done::Listed(registration, question, result) => {
                        self.listed(&registration, &question, result)
                    }
                },
                () = self.changes.next() => self.look_at_policies().await,
                Ok(()) = self.membership.changed(), if !is_alone => self.look_at_membership().await,
                command = queue.recv() => match command {
                    Some(command) => self.handle(command).await,
                    None => return,
                },
            }
        }
    }

    async fn handle(&mut self, command: Command) {
        match command {
            Command::Enter { outbound, id, topic, member } => {
                if let Err(error) = self.enter(&outbound, id, &topic, member).await {
                    reply(&outbound, id, Err(error));
                }
            }
            Command::Leave { outbound, id, topic } => {
                let connection = outbound.id();
                match self.held.leave(connection, &topic) {
                    Some(member) => {
                        let waiting = Waiting { outbound, id, reply: Reply::Left };
                        self.changed((topic, connection), &member.session, Some(waiting)).await;
                    }
                    None => reply(&outbound, id, Ok(Reply::Left)),
                }
            }
            Command::Members { outbound, id, topic } => match self.link {
                Link::None => {
                    let Listing { members, total } = self.held.list(&topic);
                    reply(&outbound, id, Ok(Reply::Members { members, total }));
                }
                Link::Away(_) => reply(&outbound, id, Err(unavailable(UNAVAILABLE_RETRY_MS))),
                Link::Up(_) | Link::Renewing(_) => {
                    self.questions.ask(topic, self.pending.mark(), (outbound, id));
                }
            },
            Command::Gone(connection) => {
                for topic in self.held.entered(connection) {
                    if let Some(member) = self.held.leave(connection, &topic) {
                        self.changed((topic, connection), &member.session, None).await;
                    }
                }
            }
            Command::Settle(settled) => self.settling.push(settled),
        }
    }

    /// Policies changed: nobody is present any more where they say that nobody can be seen.
    async fn look_at_policies(&mut self) {
        let mut hidden: Vec<Key> = Vec::new();
        let mut last: Option<(&Topic, bool)> = None;
        for (topic, connection, _) in self.held.iter() {
            let is_shown = match last {
                Some((same, is_shown)) if same == topic => is_shown,
                _ => self.policies.for_topic(topic).presence,
            };
            last = Some((topic, is_shown));
            if !is_shown {
                hidden.push((topic.clone(), connection));
            }
        }
        // In an order that is the same when a run is repeated.
        hidden.sort_unstable();
        for (topic, connection) in hidden {
            if let Some(member) = self.held.leave(connection, &topic) {
                self.changed((topic, connection), &member.session, None).await;
            }
        }
    }

    async fn enter(
        &mut self,
        outbound: &Arc<Outbound>,
        id: RequestId,
        topic: &Topic,
        mut member: Member,
    ) -> Result<(), Error> {
        if !self.policies.for_topic(topic).presence {
            return Err(Error::new(ErrorCode::NotFound, "this topic shows no presence"));
        }
        announced_on(topic)?;
        member.since = clock::wall();
        let member = self.held.enter(outbound.id(), topic, member)?;
        let waiting = Waiting { outbound: Arc::clone(outbound), id, reply: Reply::Entered };
        self.changed((topic.clone(), outbound.id()), &member.session, Some(waiting)).await;
        Ok(())
    }

    /// A membership of this node changed: lets the registry know, and answers the request afterwards; without it, at once.
    async fn changed(&mut self, key: Key, session: &str, waiting: Option<Waiting>) {
        match self.link {
            Link::Up(_) | Link::Renewing(_) => {
                self.pending.push(key, session).waiting.extend(waiting);
                return;
            }
            Link::Away(_) => self.pending.push(key.clone(), session).is_promised = true,
            Link::None => {}
        }
        self.announce(&key, session).await;
        answer(waiting);
    }

    /// Tells how a membership is, as this node knows it.
    async fn announce(&mut self, (topic, connection): &Key, session: &str) {
        match self.held.get(*connection, topic) {
            Some(member) => self.announcer.joined(topic, member.clone()).await,
            None => self.announcer.left(topic, session.to_owned()).await,
        }
    }

    /// Writes and asks what can be written and asked.
    fn start_calls(&mut self) {
        let (Link::Up(registration), Some(registry)) = (&self.link, self.cluster.registry()) else { return };
        if !self.pending.is_in_flight()
            && let Some(batch) = self
                .pending
                .take(PRESENCE_BATCH_MAX, |(topic, connection)| self.held.get(*connection, topic).cloned())
        {
            let (registry, registration) = (registry.clone(), Arc::clone(registration));
            let members_max = self.members_max;
            self.calls.push(Box::pin(async move {
                let changes = batch.changes();
                let result = registry.apply(&registration, &changes, members_max).await;
                Done::Applied(registration, batch, result)
            }));
        }
        while self.n_reads < MEMBERS_READS_MAX {
            let pending = &self.pending;
            let question = self.questions.start(pending.mark(), |mark| pending.is_written_until(mark));
            let Some(question) = question else { return };
            self.n_reads += 1;
            let (registry, registration) = (registry.clone(), Arc::clone(registration));
            self.calls.push(Box::pin(async move {
                let result = registry.members(&registration, &question.topic).await;
                Done::Listed(registration, question, result)
            }));
        }
    }

    /// A batch came back.
    async fn applied(
        &mut self,
        registration: &Arc<Registration>,
        mut batch: Batch,
        result: Result<Vec<Outcome>, cluster::Error>,
    ) {
        let outcomes = match result {
            Ok(outcomes) => outcomes,
            Err(cluster::Error::Lapsed) => {
                let is_in_doubt = matches!(&self.link, Link::Up(new) if !new.is_of_the_era_of(registration));
                batch.note_doubt(is_in_doubt);
                self.pending.put_back(batch);
                return self.renew(registration);
            }
            Err(_) => {
                batch.note_doubt(true);
                self.pending.put_back(batch);
                return self.go_on_alone().await;
            }
        };
        self.pending.done();
        for ((key, unwritten, member), outcome) in batch.entries.into_iter().zip(outcomes) {
            let (topic, connection) = &key;
            let is_news = match outcome {
                Outcome::Joined | Outcome::Changed | Outcome::Left => true,
                Outcome::Same | Outcome::Absent => unwritten.is_in_doubt,
                Outcome::Full => {
                    // Unless it changed again since: then that is what counts.
                    if !self.pending.contains(&key) {
                        self.held.leave(*connection, topic);
                    }
                    for Waiting { outbound, id, reply: promised } in unwritten.waiting {
                        let is_enter = matches!(promised, Reply::Entered);
                        reply(&outbound, id, if is_enter { Err(too_many()) } else { Ok(promised) });
                    }
                    continue;
                }
            };
            if is_news {
                match member {
                    Some(member) => self.announcer.joined(topic, member).await,
                    None => self.announcer.left(topic, unwritten.session).await,
                }
            }
            answer(unwritten.waiting);
        }
    }

    fn listed(
        &mut self,
        registration: &Arc<Registration>,
        question: &Question,
        result: Result<Listing, cluster::Error>,
    ) {
        self.n_reads -= 1;
        let result = match result {
            Ok(Listing { members, total }) => Ok(Reply::Members { members, total }),
            Err(cluster::Error::Restoring(left)) => {
                Err(unavailable(u64::try_from(left.as_millis()).unwrap_or(UNAVAILABLE_RETRY_MS)))
            }
            Err(error) => {
                if error == cluster::Error::Lapsed {
                    self.renew(registration);
                }
                Err(unavailable(UNAVAILABLE_RETRY_MS))
            }
        };
        for (outbound, id) in self.questions.answered(question) {
            reply(&outbound, id, result.clone());
        }
    }

    /// The registration lapsed: nothing is written until there is another, which there may be already.
    fn renew(&mut self, lapsed: &Arc<Registration>) {
        if let Link::Up(registration) = &self.link
            && Arc::ptr_eq(registration, lapsed)
        {
            self.link = Link::Renewing(Arc::clone(registration));
            self.cluster.suspect();
        }
    }

    /// The registry is away: says what it knows itself to those who wait, and goes on without it.
    async fn go_on_alone(&mut self) {
        self.link = match std::mem::replace(&mut self.link, Link::None) {
            Link::Up(registration) | Link::Renewing(registration) => Link::Away(Some(registration)),
            link => link,
        };
        self.cluster.suspect();
        for (outbound, id) in self.questions.take_all() {
            reply(&outbound, id, Err(unavailable(UNAVAILABLE_RETRY_MS)));
        }
        let mut news = Vec::new();
        for (key, unwritten) in self.pending.iter_mut() {
            unwritten.is_promised = true;
            if !unwritten.waiting.is_empty() || unwritten.is_in_doubt {
                news.push((key.clone(), unwritten.session.clone()));
            }
            answer(std::mem::take(&mut unwritten.waiting));
        }
        for (key, session) in news {
            self.announce(&key, &session).await;
        }
    }

    /// The node's registration changed, or was found good.
    async fn look_at_membership(&mut self) {
        let membership = self.membership.borrow_and_update().clone();
        if !membership.is_reachable {
            if matches!(self.link, Link::Up(_) | Link::Renewing(_)) {
                self.go_on_alone().await;
            }
            return;
        }
        // Without a registration, the next news are of another one.
        let Some(registration) = membership.registration else {
            if let Link::Up(lapsed) = &self.link {
                self.link = Link::Renewing(Arc::clone(lapsed));
            }
            return;
        };
        let before = match &self.link {
            Link::None => return,
            Link::Up(before) | Link::Renewing(before) => Some(before),
            Link::Away(before) => before.as_ref(),
        };
        let is_new = before.is_none_or(|before| !Arc::ptr_eq(before, &registration));
        let is_new_era = before.is_some_and(|before| !before.is_of_the_era_of(&registration));
        if !is_new && matches!(self.link, Link::Renewing(_)) {
            // News from before the registration was found to have lapsed.
            return;
        }
        self.link = Link::Up(registration);
        if is_new_era {
            // Nobody else told of those who left: the registry that knew of them is gone.
            for (_, unwritten) in self.pending.iter_mut() {
                unwritten.is_in_doubt = true;
            }
        }
        if is_new {
            for (topic, connection, member) in self.held.iter() {
                self.pending.push((topic.clone(), connection), &member.session).is_promised = true;
            }
        }
    }
}

impl Batch {
    fn note_doubt(&mut self, is_in_doubt: bool) {
        for (_, unwritten, _) in &mut self.entries {
            unwritten.is_in_doubt |= is_in_doubt;
        }
    }

    fn changes(&self) -> Vec<Change> {
        let change = |((topic, _), unwritten, member): &(Key, Unwritten, Option<Member>)| {
            let topic = topic.clone();
            match member.clone() {
                Some(member) => Change::Enter { topic, member, is_promised: unwritten.is_promised },
                None => Change::Leave { topic, session: unwritten.session.clone() },
            }
        };
        self.entries.iter().map(change).collect()
    }
}

fn answer(waiting: impl IntoIterator<Item = Waiting>) {
    for Waiting { outbound, id, reply: answer } in waiting {
        reply(&outbound, id, Ok(answer));
    }
}

/// The answer to who is present while some would be left out.
fn unavailable(retry_after_ms: u64) -> Error {
    let text = "who is present on other nodes is not known right now";
    Error::new(ErrorCode::Unavailable, text).retry_after(retry_after_ms.max(1))
}

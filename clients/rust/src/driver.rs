//! The one task that owns a client's connection: it feeds the engine and does what the engine asks.

use std::collections::HashMap;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;

use bongsu_protocol::command::{Command, Token};
use bongsu_protocol::event::{Event, Welcome};
use bongsu_protocol::reason::Reconnect;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;
use crate::builder::{Builder, TokenFuture};
use crate::call::{Ask, Waiter};
use crate::connection::{self, Connection, Happened};
use crate::engine::{Engine, Output, SubscriptionId, Time};
use crate::error::{Disconnected, Error};
use crate::item::Item;
use crate::limits::{CALL_QUEUE, CLOSE_PATIENCE, CONNECTION_PROVEN};
use crate::mailbox::{Mailbox, Standing};
use crate::state::State;

type Opened = Result<(Box<Connection>, Welcome, Vec<Event>), Disconnected>;

/// What lies between the client and its broker.
enum Link {
    Connecting(Pin<Box<dyn Future<Output = Opened> + Send>>),
    /// Until the next attempt.
    Waiting(Instant),
    Open(Box<Connection>),
}

/// What happened to the link.
enum LinkEvent {
    Opened(Opened),
    WaitIsOver,
    Connection(Result<Happened, Disconnected>),
}

/// See the [module](self).
pub(crate) struct Driver {
    options: Builder,
    engine: Engine<Waiter>,
    link: Link,
    backoff: Backoff,
    /// There was a connection before.
    was_open: bool,
    mailboxes: HashMap<SubscriptionId, Arc<Mailbox>>,
    /// Some mailbox is full.
    full: bool,
    asks: mpsc::Receiver<Ask>,
    /// A mailbox has room again, or nobody reads it any more.
    attention: Arc<Notify>,
    state: watch::Sender<State>,
    /// The zero of the engine's time.
    zero: Instant,
    /// Fetches another token, for the connection that there is.
    refreshing: Option<TokenFuture>,
    /// The client is to be closed: when at the latest, and whom to tell.
    closing: Option<(Instant, Vec<oneshot::Sender<()>>)>,
}

impl Driver {
    pub(crate) fn new(
        options: Builder,
        asks: mpsc::Receiver<Ask>,
        state: watch::Sender<State>,
        attention: Arc<Notify>,
    ) -> Self {
        let zero = Instant::now();
        Self {
            engine: Engine::new(options.request_deadline),
            link: Link::Waiting(zero),
            backoff: Backoff::new(options.backoff_min, options.backoff_max),
            was_open: false,
            mailboxes: HashMap::new(),
            full: false,
            asks,
            attention,
            state,
            zero,
            refreshing: None,
            closing: None,
            options,
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            // Before the socket, so that a busy one cannot keep the application's calls waiting.
            for _ in 0..CALL_QUEUE {
                if !self.engine.wants_calls() {
                    break;
                }
                let Ok(ask) = self.asks.try_recv() else { break };
                self.take(ask);
            }
            let timeout = match self.step() {
                Ok(timeout) => timeout,
                Err(cause) => return self.end(cause).await,
            };
            let reads = self.engine.wants_input();
            tokio::select! {
                biased;
                // Rare, and it must not wait for a busy socket to pause.
                () = self.attention.notified() => self.check_mailboxes(),
                token = fetched(&mut self.refreshing) => self.show(token),
                event = self.link.next(reads) => {
                    if let Err(cause) = self.handle_link(event) {
                        return self.end(Some(cause)).await;
                    }
                }
                ask = self.asks.recv(), if self.closing.is_none() && self.engine.wants_calls() => match ask {
                    Some(ask) => self.take(ask),
                    // Every handle is gone.
                    None => self.closing = Some((Instant::now() + CLOSE_PATIENCE, Vec::new())),
                },
                () = sleep_until_some(timeout) => {}
            }
        }
    }

    /// Does what is due and hands over what is ready. When to do so again; an error, perhaps with a cause, ends the client.
    fn step(&mut self) -> Result<Option<Instant>, Option<Arc<Disconnected>>> {
        let now = Instant::now();
        if self.engine.poll_timeout().is_some_and(|due| due <= now - self.zero) {
            self.engine.handle_timeout(now - self.zero);
        }
        if let Link::Open(connection) = &mut self.link {
            if !self.engine.wants_input() {
                connection.forgive_silence();
            } else if connection.dead_at() <= now {
                let cause = connection.silent();
                self.lose(cause).map_err(Some)?;
            }
        }
        self.hand_out();
        if let Link::Open(connection) = &mut self.link
            && connection.is_idle()
            && let Some(frame) = self.engine.poll_frame()
        {
            connection.send(frame);
            // A message may have been refused on the way into the frame.
            self.hand_out();
        }
        let mut timeout = self.engine.poll_timeout().map(|due| self.zero + due);
        if let Link::Open(connection) = &self.link {
            let dead_at = connection.dead_at();
            timeout = Some(timeout.map_or(dead_at, |due| due.min(dead_at)));
        }
        if let Some((at_latest, _)) = &self.closing {
            if *at_latest <= now || !self.engine.has_publishes() {
                return Err(None);
            }
            timeout = Some(timeout.map_or(*at_latest, |due| due.min(*at_latest)));
        }
        Ok(timeout)
    }

    fn now(&self) -> Time {
        self.zero.elapsed()
    }

    fn take(&mut self, ask: Ask) {
        let now = self.now();
        match ask {
            Ask::Call { command, waiter } => self.engine.call(now, command, waiter),
            Ask::Publish { messages, waiter } => self.engine.publish(now, messages, waiter),
            Ask::Subscribe { id, filter, from, seen, mailbox, waiter } => {
                self.mailboxes.insert(id, mailbox);
                self.engine.subscribe(now, id, filter, from, seen, waiter);
            }
            Ask::Close { done } => {
                let begin = || (Instant::now() + CLOSE_PATIENCE, Vec::new());
                self.closing.get_or_insert_with(begin).1.push(done);
            }
        }
    }

    /// Hands the engine's answers and items to those who wait for them.
    fn hand_out(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Settled(waiter, result) => {
                    // The call may have been given up.
                    let _ = waiter.reply.send(result);
                }
                Output::Started(id, subscribed) => {
                    if let Some(mailbox) = self.mailboxes.get(&id) {
                        mailbox.start(subscribed);
                    }
                }
                Output::Item(id, item) => {
                    if let Some(mailbox) = self.mailboxes.get(&id)
                        && mailbox.push(item) == Standing::Full
                        && !self.full
                    {
                        self.check_mailboxes();
                    }
                }
                Output::Ended(id, error) => {
                    let Some(mailbox) = self.mailboxes.remove(&id) else { continue };
                    if !matches!(error, Error::Closed(None)) {
                        mailbox.push(Item::Ended(error));
                    }
                    mailbox.end();
                }
                Output::TokenExpiring => {
                    // Without a source, the application was told by whoever gave it the token.
                    let source = self.options.token.as_ref();
                    self.refreshing = source.map(|source| (source.0)());
                }
            }
        }
    }

    /// Shows the broker another token. Where that fails, the connection ends with the old one, and the next one asks for a token anyway.
    fn show(&mut self, token: Result<String, String>) {
        self.refreshing = None;
        match token {
            Ok(token) => {
                // Nobody waits for the answer.
                let (reply, _) = oneshot::channel();
                let command = Command::Authenticate(Token(token));
                self.engine.call(self.now(), command, Waiter { reply, _permit: None });
            }
            Err(error) => tracing::warn!(error, "no token that could take the place of the one that ends"),
        }
    }

    fn check_mailboxes(&mut self) {
        let engine = &mut self.engine;
        let mut full = false;
        self.mailboxes.retain(|id, mailbox| match mailbox.standing() {
            Standing::HasRoom => true,
            Standing::Full => {
                full = true;
                true
            }
            Standing::Abandoned => {
                engine.unsubscribe(*id);
                false
            }
        });
        self.full = full;
        self.engine.handle_full(self.zero.elapsed(), full);
    }

    /// Takes what happened to the link. An error ends the client.
    fn handle_link(&mut self, event: LinkEvent) -> Result<(), Arc<Disconnected>> {
        match event {
            LinkEvent::WaitIsOver => {
                let options = self.options.clone();
                self.link = Link::Connecting(Box::pin(async move { connection::open(&options).await }));
                self.state.send_replace(State::Connecting);
                Ok(())
            }
            LinkEvent::Opened(Err(cause)) | LinkEvent::Connection(Err(cause)) => self.lose(cause),
            LinkEvent::Opened(Ok((connection, welcome, events))) => {
                tracing::debug!(session = welcome.session, node = welcome.node, "connected");
                self.was_open = true;
                self.engine.handle_open(&welcome);
                self.link = Link::Open(connection);
                self.state.send_replace(State::Open(Arc::new(welcome)));
                self.handle_events(events)
            }
            LinkEvent::Connection(Ok(Happened::Written)) => Ok(()),
            LinkEvent::Connection(Ok(Happened::Frame(events))) => self.handle_events(events),
        }
    }

    fn handle_events(&mut self, events: Vec<Event>) -> Result<(), Arc<Disconnected>> {
        let now = self.now();
        for event in events {
            if let Err(cause) = self.engine.handle_event(now, event) {
                return self.lose(cause);
            }
        }
        Ok(())
    }

    /// There is no connection, and why. An error if there will be none.
    fn lose(&mut self, cause: Disconnected) -> Result<(), Arc<Disconnected>> {
        if let Link::Open(connection) = &self.link {
            self.engine.handle_lost();
            self.refreshing = None;
            if connection.since.elapsed() >= CONNECTION_PROVEN {
                self.backoff.reset();
            }
        }
        let mut reconnect = cause.reconnect(self.was_open);
        if reconnect == Reconnect::Never && cause.wants_token() && self.options.token.is_some() {
            reconnect = Reconnect::Backoff;
        }
        let pause = self.backoff.pause(reconnect, cause.retry_after(), rand::random());
        let cause = Arc::new(cause);
        let Some(pause) = pause else { return Err(cause) };
        tracing::debug!(%cause, ?pause, "not connected");
        self.link = Link::Waiting(Instant::now() + pause);
        self.state.send_replace(State::Waiting { pause, cause });
        Ok(())
    }

    /// The client is over: tells everyone.
    async fn end(mut self, cause: Option<Arc<Disconnected>>) {
        let (_, mut dones) = self.closing.take().unwrap_or((self.zero, Vec::new()));
        self.state.send_replace(State::Closed(cause.clone()));
        // Calls fail from here on, those not yet taken by being dropped.
        self.asks.close();
        while let Ok(ask) = self.asks.try_recv() {
            if let Ask::Close { done } = ask {
                dones.push(done);
            }
        }
        self.engine.close(&Error::Closed(cause));
        self.hand_out();
        if let Link::Open(connection) = std::mem::replace(&mut self.link, Link::Waiting(self.zero)) {
            connection.close().await;
        }
        for done in dones {
            // Whoever asked may have gone.
            let _ = done.send(());
        }
    }
}

impl Link {
    /// Waits for what happens next. Dropping the future loses nothing.
    async fn next(&mut self, reads: bool) -> LinkEvent {
        match self {
            Self::Connecting(opening) => LinkEvent::Opened(opening.await),
            Self::Waiting(until) => {
                sleep_until(*until).await;
                LinkEvent::WaitIsOver
            }
            Self::Open(connection) => LinkEvent::Connection(connection.next(reads).await),
        }
    }
}

/// The token that is fetched, once it is there.
async fn fetched(refreshing: &mut Option<TokenFuture>) -> Result<String, String> {
    match refreshing {
        Some(token) => token.await,
        None => pending().await,
    }
}

async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

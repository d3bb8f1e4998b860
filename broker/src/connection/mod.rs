//! One task per connection: it reads the socket, drives the session, and carries out what that asks for.
//!
//! One loop, one owner. Nothing in the loop waits for the socket to take bytes: what cannot be written stays in the
//! [`Outbound`], which bounds it, and is written when the socket is ready again.

pub(crate) mod answers;
mod beats;
mod io;
mod quota;
mod stomp;
mod timers;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;

use bongsu_protocol::codec::Format;
use bongsu_protocol::command::RequestId;
use bongsu_protocol::event::{Member, Welcome};
use bongsu_protocol::limits::FRAME_BYTES_MAX;
use bongsu_protocol::message::NewMessage;
use bongsu_protocol::reason::{CloseReason, Goodbye};
use bongsu_protocol::session;
use bongsu_protocol::sockjs::Close;
use bytes::Bytes;
use tokio::time::Instant;

use crate::auth::{self, Identity};
use crate::carrier::Carrier;
use crate::clock;
use crate::control::{Holder, Place};
use crate::dialog::{Dialog, Effect, Heard, Language};
use crate::drain::Phase;
use crate::events::{Visitor, Witness};
use crate::metrics::{METRICS, TokenRefusal, Transport};
use crate::node::Node;
use crate::outbound::Outbound;
use crate::presence;
use crate::publisher::Completion;
use crate::quota::Seat;
use crate::websocket::decoder::{Incoming, Violation};
use crate::websocket::deflate::Agreed;
use crate::websocket::frame;

pub use io::{Duplex, Io};

use answers::{Answer, Answers};
use io::{Input, Turn};
use quota::Quota;
use timers::{Due, Timers};

/// How a connection's bytes are framed: settled by where it connected, and its handshake.
#[derive(Debug)]
pub enum Framing {
    /// WebSocket.
    WebSocket {
        /// How messages are compressed, if they are.
        deflate: Option<Agreed>,
    },
    /// None: STOMP over TCP.
    Bytes,
    /// SockJS within WebSocket, never compressed: messages are shared as they stand in a frame.
    SockJs,
    /// SockJS over requests that come and go; the one that came first counts for this transport.
    Relay(Transport),
}

/// A connection whose handshake, if there is one, succeeded.
pub struct Opened {
    /// Its socket.
    pub io: Io,
    /// What the client sent before it had the handshake's answer.
    pub read_ahead: Bytes,
    /// What is spoken.
    pub language: Language,
    /// How it is framed.
    pub framing: Framing,
    /// Who the client is, or why it may not even connect: then it is told so and sent away.
    pub identity: Result<Arc<Identity>, Goodbye>,
    /// Where it connected from.
    pub peer: SocketAddr,
    /// Its place among the node's connections.
    pub admission: Seat,
}

struct Connection {
    node: Arc<Node>,
    outbound: Arc<Outbound>,
    /// Where those who want to end it find it.
    place: Place,
    name: String,
    input: Input,
    answers: Answers,
    /// Messages that found the publisher's queues full, in order; the first of them is waiting there.
    backlog: VecDeque<(RequestId, usize, NewMessage)>,
    timers: Timers,
    /// Who comes with the session, until that is told.
    visitor: Option<Visitor>,
    /// Tells of the session what others may want to know.
    witness: Witness,
    /// Its place among the sessions of its user, and what it and its credential may publish.
    quota: Quota,
}

/// Runs a connection to its end.
pub async fn run(node: Arc<Node>, opened: Opened) {
    let Opened { mut io, read_ahead, language, framing, identity, peer, admission } = opened;
    let id = node.next_connection();
    let name = node.sessions().session_name(id);
    let transport = transport_of(&language, &framing);
    let (input, carrier) = match framing {
        Framing::WebSocket { deflate } => (
            Input::web_socket(FRAME_BYTES_MAX, deflate),
            Carrier::WebSocket { window: deflate.map(|agreed| agreed.window) },
        ),
        Framing::Bytes => (Input::Bytes, Carrier::Bytes),
        Framing::SockJs => (Input::sockjs(FRAME_BYTES_MAX), Carrier::SockJs),
        Framing::Relay(_) => (Input::Relay, Carrier::Relay),
    };
    let mut quota = Quota::default();
    let admitted = identity.and_then(|identity| match quota.admit(&node, &identity) {
        Ok(()) => Ok(identity),
        Err(refused) => Err(refused.goodbye()),
    });
    let (identity, refused) = match admitted {
        Ok(identity) => (identity, None),
        Err(goodbye) => (Arc::default(), Some(goodbye)),
    };
    let mut timing = node.timing();
    if let Carrier::SockJs = carrier {
        timing.ping_interval = node.settings().sockjs.heartbeat;
    }
    let mut timers = Timers::new(timing, carrier.has_pings());
    let is_farewell = matches!(language, Language::Farewell);
    if matches!(language, Language::Stomp(_)) {
        timers.await_login();
    }
    timers.identify(&identity);
    let is_refused = refused.is_some();
    // Whoever speaks STOMP says who it is in its first frame.
    let is_known = matches!(language, Language::Native(_));
    let dialog =
        Dialog::new(language, quota.bounds(node.bounds()), name.clone(), Arc::clone(&identity.grants));
    let outbound = Outbound::new(id, dialog, carrier, io.shared());
    let subject = String::new();
    let visitor = Visitor { session: name.clone(), subject, peer: Some(peer), transport: transport.name() };
    let holder = Holder { identity, peer: Some(peer), transport };
    let mut connection = Connection {
        name,
        visitor: Some(visitor).filter(|_| !is_refused),
        witness: Witness::silent(id),
        quota,
        place: node.sessions().enter(&outbound, holder),
        input,
        answers: Answers::default(),
        backlog: VecDeque::new(),
        timers,
        node,
        outbound,
    };
    METRICS.count_open(transport);
    let opened_at = clock::monotonic();
    if is_known {
        connection.introduce();
    }
    connection.greet(refused);
    if is_farewell {
        connection.outbound.lock().close_as(&Close::go_away());
    }
    // Consumed here: even an empty slice would keep the HTTP server's buffer of 16 KiB as long as the connection.
    let first = io::decode(&mut connection.input, &mut Vec::from(read_ahead));
    connection.take_turn(first);
    let reason = connection.converse(&mut io).await;
    connection.place.note_end(reason);
    connection.leave().await;
    connection.witness.disconnected(reason);
    drop(admission);
    METRICS.count_close(transport, reason);
    let seconds = (clock::monotonic() - opened_at).as_secs();
    tracing::info!(session = %connection.name, %peer, %reason, seconds, "connection ended");
}

const fn transport_of(language: &Language, framing: &Framing) -> Transport {
    match (language, framing) {
        (_, Framing::SockJs) => Transport::SockjsWebsocket,
        (_, Framing::Relay(transport)) => *transport,
        (Language::Native(Format::Json) | Language::Echo | Language::Farewell, _) => Transport::WebsocketJson,
        (Language::Native(Format::Binary), _) => Transport::WebsocketBinary,
        (Language::Stomp(_), Framing::WebSocket { .. }) => Transport::WebsocketStomp,
        (Language::Stomp(_), Framing::Bytes) => Transport::TcpStomp,
    }
}

impl Connection {
    fn greet(&self, refused: Option<Goodbye>) {
        let mut state = self.outbound.lock();
        state.dialog.greet(|grants| Welcome {
            session: self.name.clone(),
            node: self.node.name().to_owned(),
            subject: grants.subject.clone(),
            time: clock::wall(),
            heartbeat_ms: self.timers.heartbeat_ms(),
            frame_bytes_max: FRAME_BYTES_MAX as u64,
        });
        if let Some(goodbye) = refused {
            state.say_goodbye(goodbye);
        }
    }

    /// Tells others of the session, once it is known whose it is.
    fn introduce(&mut self) {
        if let Some(visitor) = self.visitor.take() {
            let subject = self.outbound.lock().dialog.session().grants().subject.clone();
            self.witness = self.node.events().connected(self.outbound.id(), Visitor { subject, ..visitor });
        }
    }

    /// The loop. Ends with the reason why the connection does.
    async fn converse(&mut self, io: &mut Io) -> CloseReason {
        let mut phase = self.node.drain().subscribe();
        self.timers.handle_phase(*phase.borrow_and_update());
        let sleep = tokio::time::sleep_until(Instant::now());
        tokio::pin!(sleep);
        loop {
            self.carry_out().await;
            if matches!(io, Io::Tcp(_)) {
                self.outbound.flush();
            }
            if self.outbound.lock().is_close_sent() {
                if self.timers.peer_closed() {
                    return self.reason();
                }
                // The client's own goodbye is waited for a moment, so that the socket closes in order.
                self.timers.close_soon();
                if matches!(self.input, Input::Bytes) {
                    // Without a close frame, the end of the stream is ours.
                    io.end_output().await;
                }
            }
            let (wants_input, due) = self.next_wait();
            if let Some(due) = due
                && sleep.deadline() != due
            {
                sleep.as_mut().reset(due);
            }
            let Self { outbound, input, answers, .. } = self;
            tokio::select! {
                biased;
                // A connection that is sent away leaves at once, whatever else goes on.
                changed = phase.changed() => self.timers.handle_phase(match changed {
                    Ok(()) => *phase.borrow_and_update(),
                    Err(_) => Phase::Draining,
                }),
                // Before what others may keep ready for ever.
                () = &mut sleep, if due.is_some() => {
                    if let Some(reason) = self.take_time() {
                        return reason;
                    }
                }
                // Answers make room for more requests.
                answer = answers.next(), if !answers.is_empty() => self.take_answer(answer),
                turn = poll_fn(|cx| io.poll_turn(cx, outbound, input, wants_input)) => {
                    if let Some(reason) = self.take_turn(turn) {
                        return reason;
                    }
                }
                () = outbound.called() => {}
            }
        }
    }

    /// Carries out what the session asks for. Queues that it waits for here are served without regard to this connection.
    async fn carry_out(&mut self) {
        loop {
            let effect = {
                let mut state = self.outbound.lock();
                state.dialog.poll(clock::monotonic());
                state.dialog.poll_effect()
            };
            match effect {
                None => return,
                Some(Effect::Session(effect)) => self.carry_out_for_session(effect).await,
                Some(Effect::Stomp(effect)) => self.carry_out_for_stomp(effect),
            }
        }
    }

    async fn carry_out_for_session(&mut self, effect: session::Effect) {
        use session::Effect;
        let (node, outbound) = (&self.node, &self.outbound);
        match effect {
            Effect::Authenticate { id, token } => {
                self.answers.authenticate(node, id, token);
            }
            Effect::Publish { id, messages } => {
                self.backlog.extend(messages.into_iter().map(|(part, message)| (id, part, message)));
                self.publish();
            }
            Effect::History { id, query } => self.answers.history(node, id, query),
            Effect::Enter { id, topic, info } => {
                let subject = outbound.lock().session().grants().subject.clone();
                let member = Member { session: self.name.clone(), subject, info, since: clock::wall() };
                let outbound = Arc::clone(outbound);
                node.presence().send(presence::Command::Enter { outbound, id, topic, member }).await;
            }
            Effect::Leave { id, topic } => {
                let outbound = Arc::clone(outbound);
                node.presence().send(presence::Command::Leave { outbound, id, topic }).await;
            }
            Effect::Members { id, topic } => {
                let outbound = Arc::clone(outbound);
                node.presence().send(presence::Command::Members { outbound, id, topic }).await;
            }
            Effect::Watch { filter } => {
                self.witness.subscribed(&filter);
                node.interest().watch(Arc::clone(outbound), filter).await;
            }
            Effect::Unwatch { filter } => {
                self.witness.unsubscribed(&filter);
                node.interest().unwatch(outbound.id(), filter).await;
            }
            Effect::Read { query } => {
                METRICS.pages_asked.add(1);
                self.answers.catch_up(node, query);
            }
            Effect::List { filter, after } => self.answers.list(node, filter, after),
            Effect::Close => self.timers.close_soon(),
        }
    }

    /// Publishes the backlog as far as there is room, and then waits for room.
    fn publish(&mut self) {
        if self.answers.is_waiting_for_room() {
            return;
        }
        let subject = self.outbound.lock().session().grants().subject.clone();
        while let Some((id, part, message)) = self.backlog.pop_front() {
            if let Err(error) = self.quota.publish(&self.node, message.message.payload.len()) {
                METRICS.publish_refused.add(1);
                self.outbound.lock().dialog.tell(|session| session.published(id, part, Err(error)));
                continue;
            }
            let completion = Completion::Connection { outbound: Arc::clone(&self.outbound), id, part };
            if let Err(waiting) = self.node.publisher().publish(&subject, message, completion) {
                return self.answers.wait_for_room(&self.node, waiting);
            }
        }
        self.backlog = VecDeque::new();
    }

    /// Whether to read the socket, and until when to wait at most.
    fn next_wait(&mut self) -> (bool, Option<Instant>) {
        let mut state = self.outbound.lock();
        let is_ending = state.dialog.is_closing();
        // A connection that ends is read on, so that the client's close frame is seen; what comes is dropped.
        let wants_input = is_ending || (state.wants_input() && self.backlog.is_empty());
        self.timers.listen(wants_input);
        (wants_input, self.timers.next_due(&state).map(clock::instant))
    }

    fn take_answer(&mut self, answer: Answer) {
        let now = clock::monotonic();
        match answer {
            Answer::Room => self.publish(),
            Answer::Identified(id, result) => {
                let judged = self.quota.judge(&self.node, result);
                let grants = judged.as_ref().map(|judged| Arc::clone(&judged.identity.grants));
                let is_taken = self.outbound.lock().dialog.authenticated(id, grants.map_err(Clone::clone));
                match judged {
                    Ok(judged) if is_taken => {
                        let identity = self.quota.take(judged);
                        self.outbound.lock().dialog.tell(|session| self.quota.bind(&self.node, session));
                        self.timers.identify(&identity);
                        self.witness.authenticated(identity.subject());
                        self.place.identify(identity);
                    }
                    Ok(_) => METRICS.count_token_refused(TokenRefusal::OtherSubject),
                    Err(_) => {}
                }
            }
            Answer::LoggedIn(result) => self.handle_login(result),
            Answer::Reply(id, result) => {
                self.outbound.lock().dialog.tell(|session| session.reply(id, result));
            }
            Answer::Page(result) => {
                METRICS.pages.add(1);
                self.outbound.lock().dialog.tell(|session| session.read_done(now, result));
            }
            Answer::Listed(filter, result) => {
                self.outbound.lock().dialog.tell(|session| session.listed(&filter, result));
            }
        }
    }

    /// Takes what the socket brought. `Some` if the connection is over.
    fn take_turn(&mut self, turn: Turn) -> Option<CloseReason> {
        match turn {
            Turn::Written => {}
            Turn::Incoming(incoming) => self.take_incoming(incoming),
            Turn::Violation(incoming, violation) => {
                self.take_incoming(incoming);
                self.refuse(&violation);
            }
            Turn::BrokenFraming(incoming) => {
                self.take_incoming(incoming);
                METRICS.malformed.add(1);
                let mut state = self.outbound.lock();
                state.dialog.end();
                // Abruptly, without a frame of SockJS: the protocol's suite wants it so, and clients see the same code.
                let Close { code, reason } = Close::broken_framing();
                state.close_with(frame::close_with(code, &reason));
            }
            Turn::Gone => return Some(self.reason()),
        }
        None
    }

    fn take_incoming(&mut self, incoming: Vec<Incoming>) {
        self.timers.heard_bytes();
        if incoming.is_empty() {
            return;
        }
        self.timers.heard();
        for incoming in incoming {
            match incoming {
                Incoming::Text(body) => self.hear(&Heard::Text(body)),
                Incoming::Binary(body) => self.hear(&Heard::Binary(body)),
                Incoming::Ping(payload) => self.outbound.lock().pong(&payload),
                Incoming::Pong(_) => {}
                Incoming::Close { code, .. } => {
                    let mut state = self.outbound.lock();
                    let is_closing = state.dialog.is_closing();
                    if !is_closing {
                        // What still waits would only be read by nobody.
                        state.dialog.end();
                    }
                    // A STOMP client that said DISCONNECT is the first to close.
                    if !is_closing || state.dialog.close_reason() == Some(CloseReason::Normal) {
                        state.close_with(frame::close_echo(code));
                    }
                    drop(state);
                    self.timers.handle_peer_closed();
                }
            }
        }
    }

    fn hear(&self, heard: &Heard) {
        self.outbound.lock().hear(clock::wall(), heard);
    }

    fn refuse(&mut self, violation: &Violation) {
        METRICS.malformed.add(1);
        self.close(violation.reason, violation.text);
    }

    fn close(&mut self, reason: CloseReason, text: &str) {
        self.outbound.lock().say_goodbye(Goodbye::new(reason, text));
    }

    /// Does what the time asks for. `Some` if the connection is over.
    fn take_time(&mut self) -> Option<CloseReason> {
        let due = self.timers.take_due(&mut self.outbound.lock());
        match due {
            Due::Nothing => None,
            Due::GoAway => {
                let retry_after = self.node.reconnect_after_ms();
                let goodbye = Goodbye::new(CloseReason::GoingAway, "this node is going away");
                let goodbye = Goodbye { retry_after_ms: Some(retry_after), ..goodbye };
                self.outbound.lock().say_goodbye(goodbye);
                None
            }
            Due::Dead => {
                self.close(CloseReason::PingTimeout, "neither data nor a pong came in time");
                None
            }
            Due::Stranger => {
                self.close(CloseReason::ProtocolError, "no CONNECT came in time");
                None
            }
            Due::Expired => {
                self.outbound.lock().dialog.close(auth::farewell());
                None
            }
            Due::Leave => {
                self.outbound.lock().close(&Goodbye::new(CloseReason::Normal, ""));
                None
            }
            // Nothing that would still be written would arrive.
            Due::Stuck => Some(CloseReason::WriteTimeout),
            Due::Over => Some(self.reason()),
        }
    }

    /// Why the connection ends: what was said to the client, or that its side just ended.
    fn reason(&self) -> CloseReason {
        self.outbound.lock().dialog.close_reason().unwrap_or(CloseReason::Normal)
    }

    /// Takes the connection out of everything that knows it.
    async fn leave(&mut self) {
        let filters = {
            let mut state = self.outbound.lock();
            state.dialog.end();
            state.session().filters()
        };
        self.node.queues().gone(self.outbound.id());
        self.node.interest().forget(self.outbound.id(), filters).await;
        self.node.presence().send(presence::Command::Gone(self.outbound.id())).await;
    }
}

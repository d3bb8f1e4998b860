//! The client against a scripted broker, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bongsu_client::{
    Builder, Bytes, Client, Delivery, Disconnected, Error, Item, Message, Page, Position, Published, Start,
    State, Subscribed, Subscription, Time, Topic, Welcome,
};
use bongsu_protocol::codec::{Format, decode_requests, encode_events};
use bongsu_protocol::command::{Command, Request, RequestId};
use bongsu_protocol::event::{Event, Reply};
use bongsu_protocol::reason::{CloseReason, Goodbye};
use bytes::BytesMut;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::handshake::server::{Request as Handshake, Response};

/// A broker that does what a test says.
struct Broker(TcpListener);

/// One connection to it.
struct Peer {
    socket: WebSocketStream<TcpStream>,
    /// What the handshake said of the token.
    authorization: Option<String>,
    heartbeat_ms: u64,
}

impl Broker {
    async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn client(&self) -> Builder {
        let url = format!("ws://{}/v1/ws", self.0.local_addr().unwrap());
        // Reconnects come soon; what a broker asks for with "now" is spread over a second, so these tests use others.
        Client::builder(url).backoff(Duration::from_millis(1), Duration::from_millis(10))
    }

    /// The next connection, not yet welcomed.
    #[expect(clippy::result_large_err, reason = "the library's signature")]
    async fn accept(&self) -> Peer {
        let (socket, _) = self.0.accept().await.unwrap();
        let mut authorization = None;
        let callback = |request: &Handshake, mut response: Response| {
            let protocol = request.headers()["sec-websocket-protocol"].clone();
            assert_eq!(protocol, "bongsu.v1.proto");
            response.headers_mut().insert("sec-websocket-protocol", protocol);
            let value = request.headers().get("authorization");
            authorization = value.map(|value| value.to_str().unwrap().to_owned());
            Ok(response)
        };
        let socket = tokio_tungstenite::accept_hdr_async(socket, callback).await.unwrap();
        Peer { socket, authorization, heartbeat_ms: 60_000 }
    }

    async fn welcome(&self) -> Peer {
        let mut peer = self.accept().await;
        peer.welcome().await;
        peer
    }

    async fn connect(&self, client: Builder) -> (Client, Peer) {
        let (client, peer) = tokio::join!(client.connect(), self.welcome());
        (client.unwrap(), peer)
    }
}

impl Peer {
    async fn welcome(&mut self) {
        self.send(Event::Welcome(Welcome {
            session: "s".to_owned(),
            node: "n".to_owned(),
            subject: String::new(),
            time: Time(1000),
            heartbeat_ms: self.heartbeat_ms,
            frame_bytes_max: 2 << 20,
        }))
        .await;
    }

    async fn send(&mut self, event: Event) {
        let mut frame = BytesMut::new();
        encode_events(Format::Binary, &[event], &mut frame);
        self.socket.send(Frame::Binary(frame.freeze())).await.unwrap();
    }

    async fn reply(&mut self, id: RequestId, reply: Reply) {
        self.send(Event::Reply { id, result: Ok(reply) }).await;
    }

    /// The next request; they come one to a frame here.
    async fn request(&mut self) -> Request {
        loop {
            if let Frame::Binary(frame) = self.socket.next().await.unwrap().unwrap() {
                let mut requests = decode_requests(Format::Binary, &frame).unwrap();
                assert_eq!(requests.len(), 1, "{requests:?}");
                return requests.remove(0).unwrap();
            }
        }
    }

    /// The next request, which is a subscription to one filter: answers it, and says where it starts.
    async fn subscribed(&mut self, positions: &[Position]) -> Start {
        let Request { id, command: Command::Subscribe(mut wanted) } = self.request().await else {
            panic!("no subscribe")
        };
        let wanted = wanted.remove(0);
        let positions = positions.iter().map(|position| (topic(), *position)).collect();
        let subscribed = Subscribed { filter: wanted.filter, since: Time(1), positions };
        self.reply(id, Reply::Subscribed(vec![Ok(subscribed)])).await;
        wanted.from
    }

    async fn deliver(&mut self, offset: u64, payload: &[u8]) {
        self.send(Event::Delivery(Arc::new(Delivery {
            topic: topic(),
            position: Some(at(offset)),
            time: Time(1),
            publisher: String::new(),
            message: Message::new(Bytes::copy_from_slice(payload)),
            erased: false,
        })))
        .await;
    }

    /// The ids of the messages of the next request, which publishes.
    async fn published(&mut self) -> (RequestId, Vec<String>) {
        match self.request().await {
            Request { id, command: Command::Publish(messages) } => {
                (id, messages.into_iter().map(|new| new.message.id).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    async fn acknowledge(&mut self, id: RequestId, offset: u64) {
        let published = Published { position: Some(at(offset)), duplicate: false };
        self.reply(id, Reply::Published(vec![Ok(published)])).await;
    }
}

fn topic() -> Topic {
    Topic::parse("t").unwrap()
}

fn at(offset: u64) -> Position {
    Position::new(1, offset)
}

async fn offset(subscription: &mut Subscription) -> u64 {
    match subscription.next().await {
        Some(Item::Message(delivery)) => delivery.position.unwrap().offset.0,
        other => panic!("{other:?}"),
    }
}

/// A client with one subscription, at offset 0.
async fn subscribed(broker: &Broker, client: Builder) -> (Client, Subscription, Peer) {
    let (client, mut peer) = broker.connect(client).await;
    let subscribe = async { client.subscribe("t").from(Start::Earliest).await };
    let start = [at(0)];
    let (subscription, from) = tokio::join!(subscribe, peer.subscribed(&start));
    assert_eq!(from, Start::Earliest);
    (client, subscription.unwrap(), peer)
}

#[tokio::test]
async fn a_subscription_goes_on_behind_its_last_message_after_the_connection_broke() {
    let broker = Broker::start().await;
    let (_client, mut subscription, mut peer) = subscribed(&broker, broker.client()).await;
    peer.deliver(1, b"x").await;
    assert_eq!(offset(&mut subscription).await, 1);
    drop(peer);
    let mut peer = broker.welcome().await;
    assert_eq!(peer.subscribed(&[at(1)]).await, Start::After(at(1)));
    peer.deliver(1, b"x").await;
    peer.deliver(2, b"x").await;
    assert_eq!(offset(&mut subscription).await, 2);
}

#[tokio::test]
async fn a_publish_without_an_answer_is_repeated_with_its_id_and_resolves() {
    let broker = Broker::start().await;
    let (client, mut peer) = broker.connect(broker.client()).await;
    let acknowledgment = client.publish("t", "x").send().await.unwrap();
    let (_, ids) = peer.published().await;
    drop(peer);
    let mut peer = broker.welcome().await;
    let (id, again) = peer.published().await;
    assert_eq!(again, ids);
    assert!(!ids[0].is_empty());
    peer.acknowledge(id, 7).await;
    assert_eq!(acknowledgment.await.unwrap().position, Some(at(7)));
}

#[tokio::test]
async fn a_publish_beyond_the_window_waits() {
    let broker = Broker::start().await;
    let (client, mut peer) = broker.connect(broker.client().window_bytes(1000)).await;
    let first = client.publish("t", vec![0; 700]).send().await.unwrap();
    let second = client.publish("t", vec![0; 700]).send();
    tokio::pin!(second);
    let (id, _) = peer.published().await;
    assert!(second.as_mut().now_or_never().is_none());
    peer.acknowledge(id, 1).await;
    first.await.unwrap();
    let (second, (id, _)) = tokio::join!(second, peer.published());
    peer.acknowledge(id, 2).await;
    assert_eq!(second.unwrap().await.unwrap().position, Some(at(2)));
}

#[tokio::test]
async fn a_slow_reader_loses_nothing_and_its_calls_are_answered() {
    const N_MESSAGES: u64 = 200;
    let broker = Broker::start().await;
    let (client, mut subscription, mut peer) =
        subscribed(&broker, broker.client().subscription_bytes(8 << 10)).await;
    for offset in 1..=N_MESSAGES {
        peer.deliver(offset, &[0; 1000]).await;
    }
    // The answer is behind messages that nobody takes.
    let call = async { client.history("t").await.unwrap() };
    let answer = async {
        let mut answered = false;
        let mut ended = false;
        while !(answered && ended) {
            let Request { id, command } = peer.request().await;
            match command {
                Command::History(_) => {
                    let page = Page { messages: Vec::new(), first: at(1), head: at(0), more: false };
                    peer.reply(id, Reply::History(page)).await;
                    answered = true;
                }
                Command::Unsubscribe(_) => {
                    peer.reply(id, Reply::Unsubscribed).await;
                    ended = true;
                }
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::join!(call, answer);
    let again = async {
        let Start::After(position) = peer.subscribed(&[]).await else { panic!("not resumed") };
        assert!(position.offset.0 < 20, "the buffer holds {position}");
        for offset in position.offset.0 + 1..=N_MESSAGES {
            peer.deliver(offset, &[0; 1000]).await;
        }
    };
    let read = async {
        for expected in 1..=N_MESSAGES {
            assert_eq!(offset(&mut subscription).await, expected);
        }
    };
    tokio::join!(again, read);
}

#[tokio::test]
async fn a_dropped_subscription_ends_at_the_broker() {
    let broker = Broker::start().await;
    let (_client, subscription, mut peer) = subscribed(&broker, broker.client()).await;
    drop(subscription);
    assert!(matches!(peer.request().await.command, Command::Unsubscribe(_)));
}

#[tokio::test]
async fn each_connection_brings_a_new_token() {
    let broker = Broker::start().await;
    let n_tokens = Arc::new(AtomicU64::new(0));
    let token = move || {
        let n = n_tokens.fetch_add(1, Ordering::Relaxed);
        async move { Ok::<_, String>(format!("token-{n}")) }
    };
    let (_client, mut peer) = broker.connect(broker.client().token(token)).await;
    assert_eq!(peer.authorization.as_deref(), Some("Bearer token-0"));
    // Its token ran out.
    peer.send(Event::Goodbye(Goodbye::new(CloseReason::Unauthenticated, "expired"))).await;
    let peer = broker.welcome().await;
    assert_eq!(peer.authorization.as_deref(), Some("Bearer token-1"));
}

#[tokio::test]
async fn a_goodbye_for_good_closes_the_client_and_says_why() {
    let broker = Broker::start().await;
    let (client, mut subscription, mut peer) = subscribed(&broker, broker.client()).await;
    let acknowledgment = client.publish("t", "x").send().await.unwrap();
    peer.published().await;
    peer.send(Event::Goodbye(Goodbye::new(CloseReason::Forbidden, "out"))).await;
    let is_goodbye = |error: &Error| matches!(error, Error::Closed(Some(cause)) if matches!(**cause, Disconnected::Goodbye(_)));
    assert!(acknowledgment.await.is_err_and(|error| is_goodbye(&error)));
    assert!(matches!(subscription.next().await, Some(Item::Ended(error)) if is_goodbye(&error)));
    assert!(subscription.next().await.is_none());
    assert!(client.publish("t", "x").await.is_err_and(|error| is_goodbye(&error)));
    assert!(matches!(&*client.state().borrow(), State::Closed(Some(_))));
}

#[tokio::test]
async fn a_refused_handshake_fails_the_connect_with_what_the_server_said() {
    let broker = Broker::start().await;
    let refuse = async {
        let (mut socket, _) = broker.0.accept().await.unwrap();
        let _ = socket.read(&mut [0; 4096]).await.unwrap();
        let answer = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 8\r\n\r\nno token";
        socket.write_all(answer.as_bytes()).await.unwrap();
        socket
    };
    let (error, _socket) = tokio::join!(broker.client().connect(), refuse);
    let Err(Error::Connect(cause)) = error else { panic!("{error:?}") };
    assert!(matches!(&*cause, Disconnected::Rejected { status: 401, .. }), "{cause}");
}

#[tokio::test]
async fn what_does_not_welcome_is_no_broker() {
    let broker = Broker::start().await;
    let impostor = async {
        let mut peer = broker.accept().await;
        peer.send(Event::Heartbeat).await;
        peer
    };
    let (error, _peer) = tokio::join!(broker.client().connect(), impostor);
    let Err(Error::Connect(cause)) = error else { panic!("{error:?}") };
    assert!(matches!(&*cause, Disconnected::Protocol(_)), "{cause}");
}

#[tokio::test]
async fn a_connection_without_a_sign_of_life_is_made_again() {
    let broker = Broker::start().await;
    let accept = async {
        let mut peer = broker.accept().await;
        peer.heartbeat_ms = 20;
        peer.welcome().await;
        peer
    };
    let (client, _silent) = tokio::join!(broker.client().connect(), accept);
    let client = client.unwrap();
    let mut state = client.state();
    let told = state.wait_for(|state| matches!(state, State::Waiting { .. })).await.unwrap().clone();
    let State::Waiting { cause, .. } = told else { panic!("{told:?}") };
    assert!(matches!(*cause, Disconnected::Silent(_)), "{cause}");
    broker.welcome().await;
}

#[tokio::test]
async fn a_call_without_an_answer_fails_at_its_deadline() {
    let broker = Broker::start().await;
    let (client, _peer) = broker.connect(broker.client().request_deadline(Duration::from_millis(20))).await;
    assert!(matches!(client.publish("t", "x").await, Err(Error::Timeout)));
    assert!(matches!(client.subscribe("t").await.map(drop), Err(Error::Timeout)));
}

#[tokio::test]
async fn closing_waits_for_acknowledgments_and_says_goodbye() {
    let broker = Broker::start().await;
    let (client, mut subscription, mut peer) = subscribed(&broker, broker.client()).await;
    let acknowledgment = client.publish("t", "x").send().await.unwrap();
    let serve = async {
        let (id, _) = peer.published().await;
        peer.acknowledge(id, 1).await;
        let Frame::Close(Some(close)) = peer.socket.next().await.unwrap().unwrap() else {
            panic!("no close")
        };
        // Answers the close frame.
        while peer.socket.next().await.is_some() {}
        u16::from(close.code)
    };
    let ((), code) = tokio::join!(client.close(), serve);
    assert_eq!(code, 1000);
    assert_eq!(acknowledgment.await.unwrap().position, Some(at(1)));
    assert!(subscription.next().await.is_none());
    assert!(matches!(client.publish("t", "x").await, Err(Error::Closed(None))));
}

#[tokio::test]
async fn dropping_every_handle_sends_what_was_published_and_closes() {
    let broker = Broker::start().await;
    let (client, mut peer) = broker.connect(broker.client()).await;
    drop(client.publish("t", "x").send().await.unwrap());
    drop(client);
    let (id, _) = peer.published().await;
    peer.acknowledge(id, 1).await;
    assert!(peer.socket.next().await.unwrap().unwrap().is_close());
}

//! A client of the native protocol over each of its carriers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use bongsu_protocol::codec::{self, Format};
use bongsu_protocol::command::{Command, Request, RequestId, Start, Subscription};
use bongsu_protocol::event::{Event, Reply};
use bongsu_protocol::message::Delivery;
use bongsu_protocol::reason::{Error, Goodbye};
use bongsu_protocol::topic::TopicFilter;
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::support::PATIENCE;
use crate::support::http::ask;
use crate::world::World;

/// What carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Binary,
    Json,
    SockJsWebSocket,
    SockJsPolling,
}

impl Way {
    pub(crate) const ALL: [Self; 4] = [Self::Binary, Self::Json, Self::SockJsWebSocket, Self::SockJsPolling];
}

enum Carrier {
    Socket(Box<WebSocketStream<TcpStream>>),
    /// The address, the session's path and the query with the token.
    Polling(std::net::SocketAddr, String, String),
}

pub(crate) struct Native {
    carrier: Carrier,
    way: Way,
    last_id: u64,
    came: VecDeque<Event>,
    /// Deliveries and whatever else came while a reply was waited for.
    kept: VecDeque<Event>,
    pub(crate) goodbye: Option<Goodbye>,
    is_over: bool,
}

static SESSIONS: AtomicU64 = AtomicU64::new(0);

impl Native {
    /// Connects, with a token or with the empty one; a refusal is told by the first event.
    pub(crate) async fn connect(world: &World, way: Way, token: &str) -> Self {
        Self::try_connect(world, way, token).await.unwrap()
    }

    /// The same, or the status that the handshake was refused with.
    pub(crate) async fn try_connect(world: &World, way: Way, token: &str) -> Result<Self, u16> {
        let address = world.address;
        let session = format!("/sockjs/000/s{}", SESSIONS.fetch_add(1, Ordering::Relaxed));
        let query = if token.is_empty() { String::new() } else { format!("?access_token={token}") };
        let carrier = if way == Way::SockJsPolling {
            Carrier::Polling(address, session, query)
        } else {
            let path = match way {
                Way::SockJsWebSocket => format!("{session}/websocket{query}"),
                _ => format!("/v1/ws{query}"),
            };
            let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
            let format = if way == Way::Binary { Format::Binary } else { Format::Json };
            if way != Way::SockJsWebSocket {
                let name = format.sub_protocol().parse().unwrap();
                request.headers_mut().insert("sec-websocket-protocol", name);
            }
            let stream = TcpStream::connect(address).await.unwrap();
            match client_async(request, stream).await {
                Ok((socket, _)) => Carrier::Socket(Box::new(socket)),
                Err(tungstenite::Error::Http(answer)) => return Err(answer.status().as_u16()),
                Err(error) => panic!("{error}"),
            }
        };
        let (came, kept) = (VecDeque::new(), VecDeque::new());
        let mut native = Self { carrier, way, last_id: 0, came, kept, goodbye: None, is_over: false };
        let first = native.next().await;
        assert!(matches!(first, Some(Event::Welcome(_) | Event::Goodbye(_))), "{way:?}: {first:?}");
        Ok(native)
    }

    fn format(&self) -> Format {
        if self.way == Way::Binary { Format::Binary } else { Format::Json }
    }

    /// The next event; `None` at the end.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        match self.kept.pop_front() {
            Some(event) => Some(event),
            None => self.next().await,
        }
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.came.pop_front() {
                if let Event::Goodbye(goodbye) = &event {
                    self.goodbye = Some(goodbye.clone());
                } else {
                    assert!(self.goodbye.is_none(), "after the goodbye: {event:?}");
                }
                return Some(event);
            }
            if self.is_over {
                return None;
            }
            tokio::time::timeout(PATIENCE, self.receive()).await.expect("something comes in time");
        }
    }

    async fn receive(&mut self) {
        let is_sockjs = matches!(self.way, Way::SockJsWebSocket | Way::SockJsPolling);
        let frame = match &mut self.carrier {
            Carrier::Socket(socket) => match socket.next().await {
                Some(Ok(Message::Text(text))) => Bytes::copy_from_slice(text.as_bytes()),
                Some(Ok(Message::Binary(bytes))) => bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => return,
                Some(Ok(Message::Close(_)) | Err(_)) | None => {
                    self.is_over = true;
                    return;
                }
            },
            Carrier::Polling(address, session, query) => {
                let answer = ask(*address, "POST", &format!("{session}/xhr{query}"), &[], "");
                if answer.status != 200 {
                    self.is_over = true;
                    return;
                }
                Bytes::from(answer.body)
            }
        };
        if !is_sockjs {
            return self.decode(&frame);
        }
        let text = String::from_utf8(frame.to_vec()).unwrap();
        if text.starts_with('c') {
            self.is_over = true;
        }
        if let Some(array) = text.trim_end().strip_prefix('a') {
            let texts: Vec<String> = serde_json::from_str(array).unwrap();
            for text in texts {
                self.decode(&Bytes::from(text));
            }
        }
    }

    fn decode(&mut self, frame: &Bytes) {
        let events = codec::decode_events(self.format(), frame).unwrap();
        self.came.extend(events.into_iter().filter(|event| *event != Event::Heartbeat));
    }

    /// Sends a request; false if the connection is over.
    pub(crate) async fn begin(&mut self, command: Command) -> bool {
        self.last_id += 1;
        let request = Request { id: RequestId(self.last_id), command };
        let mut frame = BytesMut::new();
        codec::encode_requests(self.format(), &[request], &mut frame);
        let text = || String::from_utf8(frame.to_vec()).unwrap();
        match &mut self.carrier {
            Carrier::Socket(socket) => {
                let message = match self.way {
                    Way::Binary => Message::binary(frame.to_vec()),
                    Way::SockJsWebSocket => Message::text(serde_json::to_string(&[text()]).unwrap()),
                    _ => Message::text(text()),
                };
                socket.send(message).await.is_ok()
            }
            Carrier::Polling(address, session, query) => {
                let body = serde_json::to_string(&[text()]).unwrap();
                ask(*address, "POST", &format!("{session}/xhr_send{query}"), &[], &body).status == 204
            }
        }
    }

    /// Asks, and waits for the answer; `None` if the connection ends first.
    pub(crate) async fn try_ask(&mut self, command: Command) -> Option<Result<Reply, Error>> {
        if !self.begin(command).await {
            return None;
        }
        loop {
            match self.next().await? {
                Event::Reply { id, result } if id.0 == self.last_id => return Some(result),
                event => self.kept.push_back(event),
            }
        }
    }

    pub(crate) async fn ask(&mut self, command: Command) -> Result<Reply, Error> {
        self.try_ask(command).await.expect("an answer before the end")
    }

    pub(crate) async fn subscribe(&mut self, filter: &str, from: Start) -> Result<(), Error> {
        let filter = TopicFilter::parse(filter).unwrap();
        let subscription = Subscription { filter, from, seen: Vec::new() };
        match self.ask(Command::Subscribe(vec![subscription])).await? {
            Reply::Subscribed(mut results) => results.remove(0).map(drop),
            other => panic!("no answer to a subscription: {other:?}"),
        }
    }

    /// The next delivery; `None` at the end.
    pub(crate) async fn delivery(&mut self) -> Option<std::sync::Arc<Delivery>> {
        loop {
            match self.event().await? {
                Event::Delivery(delivery) => return Some(delivery),
                Event::Goodbye(_) => {}
                other => panic!("no delivery but {other:?}"),
            }
        }
    }

    /// What was delivered by now, as far as the node has offered it.
    pub(crate) async fn deliveries(&mut self) -> Vec<std::sync::Arc<Delivery>> {
        self.ask(Command::Ping).await.unwrap();
        let kept = self.kept.drain(..).filter_map(|event| match event {
            Event::Delivery(delivery) => Some(delivery),
            _ => None,
        });
        kept.collect()
    }

    /// Reads to the end, and says why it was.
    pub(crate) async fn end(&mut self) -> Goodbye {
        while self.event().await.is_some() {}
        self.goodbye.clone().expect("a goodbye before the end")
    }
}

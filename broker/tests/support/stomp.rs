//! A STOMP client over TCP, TLS or WebSocket that says whatever it is told to.

use std::net::SocketAddr;

use bongsu_protocol::stomp::{Command, Decoder, Frame, Version};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};

use super::PATIENCE;

pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A connection, logged in or not.
pub struct Stomp {
    carrier: Carrier,
    decoder: Decoder,
    /// Bytes that are no part of a frame: heart-beats.
    pub beats: usize,
}

enum Carrier {
    Stream(Box<dyn Socket>),
    WebSocket(Box<WebSocketStream<TcpStream>>),
}

/// What comes from the broker.
#[derive(Debug)]
pub enum Came {
    Frame(Frame),
    /// The connection is over: with the close frame's code, on a WebSocket.
    End(Option<u16>),
}

impl Stomp {
    /// A TCP connection on which nothing was said.
    pub async fn silent(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("the broker takes connections"))
    }

    /// The same over any stream.
    pub fn over(stream: impl Socket + 'static) -> Self {
        Self { carrier: Carrier::Stream(Box::new(stream)), decoder: decoder(), beats: 0 }
    }

    /// A WebSocket on which nothing was said, and the sub-protocol that it got.
    pub async fn web_socket(address: SocketAddr, path: &str, offer: &str) -> (Self, Option<String>) {
        let mut request = format!("ws://{address}{path}").into_client_request().expect("a request");
        if !offer.is_empty() {
            request.headers_mut().insert("sec-websocket-protocol", offer.parse().expect("a header"));
        }
        let stream = TcpStream::connect(address).await.expect("the broker takes connections");
        // The library of this client refuses answers that the client need not refuse, so it is asked for nothing.
        let (socket, answer) = client(request, stream).await;
        let carrier = Carrier::WebSocket(Box::new(socket));
        (Self { carrier, decoder: decoder(), beats: 0 }, answer)
    }

    /// Logs in over TCP.
    pub async fn connect(address: SocketAddr, version: &str) -> Self {
        let mut stomp = Self::silent(address).await;
        stomp.log_in(version, "").await;
        stomp
    }

    /// Logs in, with further header lines, each with its line end.
    pub async fn log_in(&mut self, version: &str, lines: &str) -> Frame {
        self.say(&format!("CONNECT\naccept-version:{version}\nhost:/\n{lines}\n^")).await;
        let connected = self.hear_one(Command::Connected).await;
        let version = Version::negotiate(Some(version)).expect("a version");
        self.decoder.use_version(version);
        connected
    }

    /// Sends this, with `^` for NUL.
    pub async fn say(&mut self, text: &str) {
        assert!(self.send(text.replace('^', "\0").as_bytes()).await, "the broker reads");
    }

    /// Sends bytes; false if the broker has closed.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = async {
            match &mut self.carrier {
                Carrier::Stream(stream) => {
                    stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok()
                }
                Carrier::WebSocket(socket) => {
                    let message = match std::str::from_utf8(bytes) {
                        Ok(text) => Message::text(text),
                        Err(_) => Message::binary(bytes.to_vec()),
                    };
                    socket.send(message).await.is_ok()
                }
            }
        };
        tokio::time::timeout(PATIENCE, sent).await.expect("the broker reads in time")
    }

    /// What comes next.
    pub async fn hear(&mut self) -> Came {
        loop {
            if let Some(frame) = self.decoder.next_frame().expect("the broker's frames are right") {
                return Came::Frame(frame);
            }
            let came = tokio::time::timeout(PATIENCE, self.receive()).await.expect("something comes in time");
            match came {
                Ok(bytes) => {
                    if self.decoder.buffered_bytes() == 0 {
                        self.beats += bytes.iter().take_while(|byte| **byte == b'\n').count();
                    }
                    self.decoder.push(&bytes);
                }
                Err(code) => return Came::End(code),
            }
        }
    }

    async fn receive(&mut self) -> Result<Vec<u8>, Option<u16>> {
        match &mut self.carrier {
            Carrier::Stream(stream) => {
                let mut bytes = vec![0; 64 << 10];
                match stream.read(&mut bytes).await {
                    Ok(0) | Err(_) => Err(None),
                    Ok(n_read) => {
                        bytes.truncate(n_read);
                        Ok(bytes)
                    }
                }
            }
            Carrier::WebSocket(socket) => match socket.next().await {
                Some(Ok(Message::Text(text))) => Ok(text.as_bytes().to_vec()),
                Some(Ok(Message::Binary(bytes))) => Ok(bytes.to_vec()),
                Some(Ok(Message::Close(Some(frame)))) => Err(Some(frame.code.into())),
                Some(Ok(Message::Close(None)) | Err(_)) | None => Err(None),
                Some(Ok(_)) => Ok(Vec::new()),
            },
        }
    }

    /// The next frame, which has this command.
    pub async fn hear_one(&mut self, command: Command) -> Frame {
        match self.hear().await {
            Came::Frame(frame) if frame.command == command => frame,
            other => panic!("no {command:?} but {other:?}"),
        }
    }

    /// Sends, and waits for the receipt that it asks for; messages before it are given out.
    pub async fn ask(&mut self, text: &str) -> Vec<Frame> {
        self.say(text).await;
        let mut messages = Vec::new();
        loop {
            match self.hear().await {
                Came::Frame(frame) if frame.command == Command::Receipt => return messages,
                Came::Frame(frame) if frame.command == Command::Message => messages.push(frame),
                other => panic!("no receipt but {other:?}"),
            }
        }
    }

    /// The next message's body, as text.
    pub async fn message(&mut self) -> String {
        let message = self.hear_one(Command::Message).await;
        String::from_utf8(message.body.to_vec()).expect("as text")
    }

    /// The ERROR and what follows it: the end, with the close frame's code on a WebSocket.
    pub async fn refused(&mut self) -> (Frame, Option<u16>) {
        let mut error = None;
        loop {
            match self.hear().await {
                Came::Frame(frame) if frame.command == Command::Error => error = Some(frame),
                Came::Frame(_) => assert!(error.is_none(), "an ERROR is the last frame"),
                Came::End(code) => return (error.expect("the broker says why"), code),
            }
        }
    }

    /// Waits for the end, whatever comes before.
    pub async fn ended(&mut self) -> Option<u16> {
        loop {
            if let Came::End(code) = self.hear().await {
                return code;
            }
        }
    }

    /// Closes the client's side; over TCP without a word.
    pub async fn close(self) {
        if let Carrier::WebSocket(mut socket) = self.carrier {
            let _ = socket.as_mut().close(None).await;
        }
    }
}

/// Frames of the broker are no strangers' ones.
fn decoder() -> Decoder {
    let mut decoder = Decoder::new();
    decoder.use_version(Version::V10);
    decoder
}

/// The opening handshake by hand, so that an answer without a sub-protocol is taken.
async fn client(
    request: tungstenite::handshake::client::Request,
    mut stream: TcpStream,
) -> (WebSocketStream<TcpStream>, Option<String>) {
    let mut text = format!("GET {} HTTP/1.1\r\n", request.uri().path());
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().expect("text")));
    }
    text.push_str("\r\n");
    stream.write_all(text.as_bytes()).await.expect("the broker reads");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.expect("the handshake is answered"));
    }
    let answer = String::from_utf8(answer).expect("as text");
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    let header = answer.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
    let chosen = header.map(str::to_owned);
    let role = tungstenite::protocol::Role::Client;
    (WebSocketStream::from_raw_socket(stream, role, None).await, chosen)
}

//! A WebSocket server that sends back what it gets, made of the broker's own wire and nothing else of the broker.
//!
//! `cargo xtask autobahn` tests the wire with it. It is also the shortest complete use of `bongsu::websocket`:
//! one read buffer per thread, none per connection; frames that are written several per system call; a close that the
//! client gets to see.
//!
//! `cargo run --example echo [address]` listens on the address, or on a free loopback port, and prints where.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, ErrorKind, IoSlice};
use std::time::Duration;

use bongsu::websocket::decoder::{Decoder, Incoming};
use bongsu::websocket::deflate::{self, Agreed};
use bongsu::websocket::frame::{self, Kind};
use bongsu::websocket::handshake::{self, Choice, Deflate, Origins, OwnHosts, Settings};
use bongsu::websocket::upgrade::{self, Socket};
use bytes::{Buf as _, Bytes};
use http::{Request, Response};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

/// What Autobahn's largest messages have, in bytes.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Bytes that one read takes at most.
const READ_BYTES_MAX: usize = 64 << 10;

/// Frames in one write. More make no difference: a write of 64 small frames costs what one large frame of their size does.
const FRAMES_PER_WRITE_MAX: usize = 64;

/// How long a client has to send its request, and to close after it was told to.
const PATIENCE: Duration = Duration::from_secs(5);

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES_MAX]);
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("ws://{}/", listener.local_addr()?);
    loop {
        let (stream, _peer) = listener.accept().await?;
        // Without it each answer waits for the acknowledgment of the one before, up to 40 ms.
        stream.set_nodelay(true)?;
        tokio::spawn(serve(stream));
    }
}

/// Speaks HTTP until the request was answered; the connection goes on in a task of its own.
async fn serve(stream: TcpStream) {
    let service = service_fn(|mut request| async move { Ok::<_, Infallible>(answer_request(&mut request)) });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    // A client that breaks HTTP was answered by hyper; there is nothing to do about it.
    let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

fn answer_request<B>(request: &mut Request<B>) -> Response<String> {
    let settings = Settings {
        subprotocols: &[],
        choice: Choice::Clients,
        default_subprotocol: None,
        origins: Origins::Any,
        own_hosts: OwnHosts::Any,
        deflate: Deflate::On,
    };
    let accepted = match handshake::check(request, &settings) {
        Ok(accepted) => accepted,
        Err(rejected) => return rejected.response(),
    };
    let on_upgrade = hyper::upgrade::on(request);
    let response = accepted.response();
    let deflate = accepted.deflate;
    tokio::spawn(async move {
        let Ok(upgraded) = on_upgrade.await else { return };
        let socket = upgrade::into_socket(upgraded).expect("this port serves TCP");
        if let Err(error) = echo(socket, deflate).await {
            eprintln!("{error}");
        }
    });
    response
}

/// Answers messages until one side closes.
async fn echo(
    Socket { io: mut stream, read_ahead }: Socket<TcpStream>,
    deflate: Option<Agreed>,
) -> io::Result<()> {
    let mut connection =
        Connection { decoder: Decoder::new(MESSAGE_BYTES_MAX, deflate), deflate, outbound: VecDeque::new() };
    let mut is_open = connection.handle(&mut Vec::from(read_ahead));
    loop {
        write_all(&stream, &mut connection.outbound).await?;
        if !is_open {
            break;
        }
        match read(&stream, |bytes| connection.handle(bytes)).await? {
            Some(still_open) => is_open = still_open,
            // The client went without a close frame.
            None => return Ok(()),
        }
    }
    // Closing a socket that has unread bytes resets it, and the client might lose the close frame: read to the end.
    stream.shutdown().await?;
    let drain = async {
        while read(&stream, |_| ()).await?.is_some() {}
        io::Result::Ok(())
    };
    tokio::time::timeout(PATIENCE, drain).await.unwrap_or(Ok(()))
}

/// One client's state.
struct Connection {
    decoder: Decoder,
    deflate: Option<Agreed>,
    /// Frames that are not written yet. Bounded by what one read can ask for, since nothing is read before they are out.
    outbound: VecDeque<Bytes>,
}

impl Connection {
    /// Takes what was read and says whether to read on.
    fn handle(&mut self, mut input: &mut [u8]) -> bool {
        loop {
            let frame = match self.decoder.poll(&mut input) {
                Ok(None) => return true,
                Ok(Some(Incoming::Text(body))) => self.message(Kind::Text, &body),
                Ok(Some(Incoming::Binary(body))) => self.message(Kind::Binary, &body),
                Ok(Some(Incoming::Ping(payload))) => frame::pong(&payload),
                Ok(Some(Incoming::Pong(_))) => continue,
                Ok(Some(Incoming::Close { code, .. })) => {
                    self.outbound.push_back(frame::close_echo(code));
                    return false;
                }
                Err(violation) => {
                    self.outbound.push_back(frame::close(&violation.goodbye()));
                    return false;
                }
            };
            self.outbound.push_back(frame);
        }
    }

    fn message(&self, kind: Kind, body: &[u8]) -> Bytes {
        self.deflate
            .and_then(|agreed| deflate::compress(kind, body, agreed.window))
            .unwrap_or_else(|| frame::message(kind, body))
    }
}

/// Waits for bytes, reads them into the thread's buffer and lets `take` have them; `None` at the end of the stream.
async fn read<R>(stream: &TcpStream, mut take: impl FnMut(&mut [u8]) -> R) -> io::Result<Option<R>> {
    loop {
        stream.readable().await?;
        let taken = READ_BUFFER.with_borrow_mut(|buffer| match stream.try_read(buffer) {
            Ok(0) => Ok(None),
            Ok(length) => Ok(Some(take(&mut buffer[..length]))),
            Err(error) => Err(error),
        });
        match taken {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            taken => return taken,
        }
    }
}

/// Writes all frames, as many at once as the socket takes.
async fn write_all(stream: &TcpStream, frames: &mut VecDeque<Bytes>) -> io::Result<()> {
    while !frames.is_empty() {
        stream.writable().await?;
        let slices: Vec<IoSlice<'_>> =
            frames.iter().take(FRAMES_PER_WRITE_MAX).map(|frame| IoSlice::new(frame)).collect();
        let mut written = match stream.try_write_vectored(&slices) {
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        while let Some(front) = frames.front_mut() {
            if front.len() > written {
                front.advance(written);
                break;
            }
            written -= front.len();
            frames.pop_front();
        }
    }
    Ok(())
}

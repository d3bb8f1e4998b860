//! Ways to misbehave, each bounded and paced.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::socket::Socket;
use crate::load::PATIENCE;
use crate::machine;

/// Bad tokens a second.
const TOKENS_PER_SECOND: u64 = 10_000;

/// Of them, requests that are sent together.
const TOKENS_TOGETHER: u64 = 50;

/// Connections that say one byte at a time: half of them to each port.
const SLOW_CONNECTIONS: usize = 600;

/// Connections a second of the attacks that need a new one each time.
const CONNECTIONS_PER_SECOND: u32 = 200;

/// Filters that one connection asks for.
const SUBSCRIPTIONS: usize = 100_000;

/// A way to misbehave.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attack {
    Tokens,
    SlowHandshakes,
    Headers,
    Subscriptions,
    Frames,
}

impl Attack {
    pub(super) const ALL: &[Self] =
        &[Self::Tokens, Self::SlowHandshakes, Self::Headers, Self::Subscriptions, Self::Frames];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Tokens => "10,000 bad tokens a second",
            Self::SlowHandshakes => "600 handshakes a byte at a time",
            Self::Headers => "200 floods of headers a second",
            Self::Subscriptions => "100,000 subscriptions of one connection",
            Self::Frames => "200 frames of 1 TiB a second",
        }
    }

    /// Misbehaves until it is over. Counts what was refused.
    pub(super) fn run(self, clients: SocketAddr, stomp: SocketAddr, over: &AtomicBool, refused: &AtomicU64) {
        let ended = match self {
            Self::Tokens => tokens(clients, over, refused),
            Self::SlowHandshakes => slow_handshakes(clients, stomp, over, refused),
            Self::Headers => one_after_another(over, refused, || flood_of_headers(clients)),
            Self::Subscriptions => subscriptions(clients, over, refused),
            Self::Frames => one_after_another(over, refused, || long_frame(clients)),
        };
        if let Err(error) = ended {
            eprintln!("bench: {}: {error:#}", self.name());
        }
    }
}

fn is_over(over: &AtomicBool) -> bool {
    over.load(Ordering::Relaxed)
}

/// Requests with tokens that nobody knows, at a pace that does not wait for answers that are late.
fn tokens(clients: SocketAddr, over: &AtomicBool, refused: &AtomicU64) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(clients)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let begun = Instant::now();
    let (mut n_sent, mut bytes) = (0_u64, vec![0; 64 << 10]);
    while !is_over(over) {
        let mut requests = String::new();
        for number in n_sent..n_sent + TOKENS_TOGETHER {
            requests.push_str(&format!(
                "GET /v1/poll?topic=bench/x HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer bad-{number}\r\n\r\n"
            ));
        }
        stream.write_all(requests.as_bytes())?;
        n_sent += TOKENS_TOGETHER;
        let mut n_answered = 0;
        while n_answered < TOKENS_TOGETHER {
            let n_bytes = stream.read(&mut bytes)?;
            anyhow::ensure!(n_bytes > 0, "the connection ended");
            // What is cut in two between reads is not counted here, so the answers' ends are: each is one object.
            n_answered += bytes[..n_bytes].iter().filter(|byte| **byte == b'}').count() as u64;
        }
        refused.fetch_add(n_answered, Ordering::Relaxed);
        let due = Duration::from_secs_f64(n_sent as f64 / TOKENS_PER_SECOND as f64);
        machine::pause(due.saturating_sub(begun.elapsed()));
    }
    Ok(())
}

/// Handshakes that go on for ever, a byte at a time, until the broker ends them; then they begin anew.
fn slow_handshakes(
    clients: SocketAddr,
    stomp: SocketAddr,
    over: &AtomicBool,
    refused: &AtomicU64,
) -> anyhow::Result<()> {
    let kinds: [(SocketAddr, &[u8]); 2] = [
        (clients, b"GET /v1/ws HTTP/1.1\r\nhost: localhost\r\nx-slow: "),
        (stomp, b"CONNECT\naccept-version:1.2\nx-slow:"),
    ];
    let open = |place: usize| -> std::io::Result<(TcpStream, usize)> {
        let stream = TcpStream::connect(kinds[place % 2].0)?;
        stream.set_nonblocking(true)?;
        Ok((stream, 0))
    };
    let mut sockets = (0..SLOW_CONNECTIONS).map(open).collect::<Result<Vec<_>, _>>()?;
    while !is_over(over) {
        let begun = Instant::now();
        for (place, (stream, n_sent)) in sockets.iter_mut().enumerate() {
            let text = kinds[place % 2].1;
            let byte = text.get(*n_sent).copied().unwrap_or(b'a');
            *n_sent += 1;
            let has_ended = match stream.write(&[byte]) {
                Ok(_) => matches!(stream.read(&mut [0; 512]), Ok(0)),
                Err(error) => error.kind() != ErrorKind::WouldBlock,
            };
            if has_ended {
                refused.fetch_add(1, Ordering::Relaxed);
                (*stream, *n_sent) = open(place)?;
            }
        }
        machine::pause(Duration::from_millis(100).saturating_sub(begun.elapsed()));
    }
    Ok(())
}

/// Does something on a connection of its own, again and again.
fn one_after_another(
    over: &AtomicBool,
    refused: &AtomicU64,
    mut once: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (begun, mut n_done) = (Instant::now(), 0);
    while !is_over(over) {
        // A reset is a refusal too.
        let _ = once();
        refused.fetch_add(1, Ordering::Relaxed);
        n_done += 1;
        machine::pause(
            (Duration::from_secs(1) / CONNECTIONS_PER_SECOND * n_done).saturating_sub(begun.elapsed()),
        );
    }
    Ok(())
}

/// A header that has no end, until nobody reads it.
fn flood_of_headers(clients: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(clients)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /v1/ws HTTP/1.1\r\nhost: localhost\r\n")?;
    for number in 0..2000 {
        stream.write_all(format!("x-{number}: {}\r\n", "a".repeat(100)).as_bytes())?;
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(())
}

/// A frame that says it has 1 TiB, and its beginning.
fn long_frame(clients: SocketAddr) -> anyhow::Result<()> {
    let mut socket = Socket::web_socket(clients)?;
    let length = (1_u64 << 40).to_be_bytes();
    socket.send_raw(&[&[0x82, 0x80 | 127][..], &length, &[0; 1024]].concat())?;
    while socket.receive().is_ok() {}
    Ok(())
}

/// One connection that asks for more than it may have, and goes on asking.
fn subscriptions(clients: SocketAddr, over: &AtomicBool, refused: &AtomicU64) -> anyhow::Result<()> {
    let mut socket = Socket::web_socket(clients)?;
    let (mut id, mut number) = (0, 0);
    while !is_over(over) {
        id += 1;
        let filters: Vec<String> =
            (0..100).map(|n| format!(r#"{{"filter":"bench/s/{}"}}"#, number + n)).collect();
        number = (number + 100) % SUBSCRIPTIONS;
        socket.send(&format!(r#"{{"id":{id},"subscribe":{{"subscriptions":[{}]}}}}"#, filters.join(",")))?;
        loop {
            let event = socket.receive()?;
            if event.contains("\"reply\"") {
                refused.fetch_add(event.matches("too_many").count() as u64, Ordering::Relaxed);
                break;
            }
        }
    }
    Ok(())
}

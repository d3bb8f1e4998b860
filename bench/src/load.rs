//! Many sockets, driven by one thread.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fd::OwnedFd;

use crate::wire::{self, Compression, Frame, Scanner};

/// Handshakes that wait for their answer at the same time: far below the kernel's queue of 4,096.
const HANDSHAKES_MAX: usize = 256;

/// Bytes that one read takes at most.
const READ_BYTES: usize = 64 << 10;

/// How long whatever is waited for may take, before a run is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Connections from one loopback address at most.
const CONNECTIONS_PER_SOURCE: usize = 20_000;

/// What a connection says first.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Opening {
    /// A WebSocket handshake.
    WebSocket(Compression),
    /// Nothing: a floor knows its connections by their order.
    Bare,
}

/// Connections of one thread.
pub(crate) struct Load {
    epoll: OwnedFd,
    sockets: Vec<Socket>,
    buffer: Box<[u8]>,
    events: Vec<epoll::Event>,
    /// Connections that were greeted.
    n_open: usize,
}

#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    state: State,
    /// The broker's first event came, which is about the connection and is not handed on.
    is_greeted: bool,
}

#[derive(Debug)]
enum State {
    /// What came of the handshake's answer so far.
    Opening(Vec<u8>, Compression),
    Open(Scanner),
}

impl Load {
    /// No connections yet.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            sockets: Vec::new(),
            buffer: vec![0; READ_BYTES].into(),
            events: Vec::with_capacity(1024),
            n_open: 0,
        })
    }

    /// Opens connections as fast as they are answered, and waits until all are greeted.
    pub(crate) fn open(
        &mut self,
        address: SocketAddr,
        n_connections: usize,
        opening: Opening,
    ) -> anyhow::Result<()> {
        for _ in 0..n_connections {
            let mut stream = connect(address, self.sockets.len()).context("a connection was refused")?;
            stream.set_nodelay(true)?;
            let state = match opening {
                Opening::WebSocket(compression) => {
                    stream.write_all(&wire::handshake(compression))?;
                    State::Opening(Vec::new(), compression)
                }
                Opening::Bare => {
                    self.n_open += 1;
                    State::Open(Scanner::default())
                }
            };
            stream.set_nonblocking(true)?;
            let place = epoll::EventData::new_u64(self.sockets.len() as u64);
            epoll::add(&self.epoll, &stream, place, epoll::EventFlags::IN)?;
            let is_greeted = matches!(opening, Opening::Bare);
            self.sockets.push(Socket { stream, state, is_greeted });
            self.wait_open(HANDSHAKES_MAX)?;
        }
        self.wait_open(0)
    }

    /// Waits until at most so many connections were not greeted yet.
    fn wait_open(&mut self, n_pending_max: usize) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.sockets.len() - self.n_open > n_pending_max {
            ensure!(began.elapsed() < PATIENCE, "a handshake was not answered within {PATIENCE:?}");
            self.pump(Duration::from_millis(100), |_, _| {})?;
        }
        Ok(())
    }

    /// Connections there are.
    pub(crate) const fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Sends bytes on a connection, and waits until the kernel took them.
    pub(crate) fn send(&self, place: usize, mut bytes: &[u8]) -> anyhow::Result<()> {
        let mut stream = &self.sockets[place].stream;
        while !bytes.is_empty() {
            match stream.write(bytes) {
                Ok(n_written) => bytes = &bytes[n_written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(stream, PollFlags::OUT)], Some(&timespec(PATIENCE)))?;
                }
                Err(error) => return Err(error).context("a connection broke"),
            }
        }
        Ok(())
    }

    /// Waits for input at most so long, and takes what there is, one read of each socket.
    pub(crate) fn pump(
        &mut self,
        at_most: Duration,
        mut take: impl FnMut(usize, Frame<'_>),
    ) -> anyhow::Result<()> {
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timespec(at_most))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            let place = usize::try_from(event.data.u64())?;
            let socket = &mut self.sockets[place];
            let n_read = match socket.stream.read(&mut self.buffer) {
                Ok(0) => bail!("the other side ended connection {place}"),
                Ok(n_read) => n_read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error).with_context(|| format!("connection {place} broke")),
            };
            let mut input = &self.buffer[..n_read];
            let head;
            if let State::Opening(so_far, compression) = &mut socket.state {
                so_far.extend_from_slice(input);
                let Some(n_taken) = wire::handshake_answer(so_far, *compression)? else { continue };
                head = std::mem::take(so_far);
                input = &head[n_taken..];
                socket.state = State::Open(Scanner::default());
            }
            let State::Open(scanner) = &mut socket.state else { continue };
            let (is_greeted, n_open) = (&mut socket.is_greeted, &mut self.n_open);
            scanner.scan(input, |frame| {
                if *is_greeted {
                    return take(place, frame);
                }
                *is_greeted = true;
                *n_open += 1;
            })?;
        }
        Ok(())
    }

    /// Takes input until the callback says that it was enough.
    ///
    /// # Errors
    /// It was not enough within [`PATIENCE`].
    pub(crate) fn pump_until(
        &mut self,
        what: &str,
        mut take: impl FnMut(usize, Frame<'_>) -> bool,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut enough = false;
        while !enough {
            ensure!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
            self.pump(Duration::from_millis(200), |place, frame| enough |= take(place, frame))?;
        }
        Ok(())
    }

    /// Takes so many frames, of whichever connections.
    pub(crate) fn take_frames(&mut self, what: &str, n_frames: usize) -> anyhow::Result<()> {
        let mut n_taken = 0;
        self.pump_until(what, |_, _| {
            n_taken += 1;
            n_taken >= n_frames
        })
    }

    /// Sends each connection its request, at most some hundred at a time, and waits for every answer.
    /// What else comes must be no data frame.
    pub(crate) fn ask_each(
        &mut self,
        what: &str,
        mut request: impl FnMut(usize) -> anyhow::Result<Vec<u8>>,
    ) -> anyhow::Result<()> {
        for first in (0..self.len()).step_by(HANDSHAKES_MAX) {
            let last = (first + HANDSHAKES_MAX).min(self.len());
            for place in first..last {
                self.send(place, &request(place)?)?;
            }
            self.take_frames(what, last - first)?;
        }
        Ok(())
    }
}

/// Connects from a loopback address of which few have connected before: one has some 28,000 ports to connect from.
fn connect(address: SocketAddr, n_before: usize) -> anyhow::Result<TcpStream> {
    let Some(host) = n_before
        .checked_div(CONNECTIONS_PER_SOURCE)
        .and_then(|host| u8::try_from(host).ok())
        .filter(|host| *host > 0)
    else {
        return Ok(TcpStream::connect(address)?);
    };
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 1, host], 0)))?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket.into())
}

fn timespec(duration: Duration) -> Timespec {
    // The bench waits for a minute at most.
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(60),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

//! The bare loops that the broker is held against: the same bytes to the same sockets, and nothing else.
//!
//! A floor is a process of its own, so that its CPU time is its own. In fan-out its first connection publishes and the others
//! subscribe: each frame of the publisher, known by its length alone, makes it write one prepared frame to every subscriber.

use std::io::{self, BufRead as _, BufReader, IoSlice, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::Context as _;
use clap::ValueEnum;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, epoll, poll};

use crate::machine::{self, Core};

/// Frames that one system call writes at most, as in the broker.
const FRAMES_PER_WRITE_MAX: usize = 64;

/// How a floor writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Writing {
    /// One system call per message and subscriber.
    Each,
    /// What is pending for a subscriber, with one system call.
    Coalesced,
}

/// What a floor does.
#[derive(Debug, Clone, Copy, clap::Subcommand)]
pub(crate) enum FloorKind {
    /// Writes frames to subscribers
    Fanout(FanoutFloor),
    /// Answers WebSocket handshakes
    Handshakes,
}

/// A floor of fan-out.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct FanoutFloor {
    /// Connections after the first one
    #[arg(long)]
    pub(crate) subscribers: usize,
    /// Bytes of a frame that publishes
    #[arg(long)]
    pub(crate) publish_bytes: usize,
    /// Bytes of a frame that delivers, header included
    #[arg(long)]
    pub(crate) frame_bytes: usize,
    /// How it is written
    #[arg(long, value_enum)]
    pub(crate) writing: Writing,
}

/// Runs a floor until its clients go away. Prints the address that it listens on.
pub(crate) fn run(kind: &FloorKind) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    rustix::net::listen(&listener, 4096)?;
    println!("{}", listener.local_addr()?);
    match kind {
        FloorKind::Fanout(floor) => run_fanout(&listener, floor),
        FloorKind::Handshakes => run_handshakes(&listener),
    }
}

/// Answers whatever comes on a connection first with a handshake's answer and a welcome.
fn run_handshakes(listener: &TcpListener) -> anyhow::Result<()> {
    let mut answer = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: bongsu.v1.proto\r\n\r\n"
        .to_vec();
    answer.extend(prepared_frame(64)?);
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    listener.set_nonblocking(true)?;
    epoll::add(&epoll, listener, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
    let (mut streams, mut events) = (Vec::<TcpStream>::new(), Vec::with_capacity(1024));
    let mut buffer = vec![0; 64 << 10];
    loop {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in &events {
            if let Some(place) = usize::try_from(event.data.u64())?.checked_sub(1) {
                if (&streams[place]).read(&mut buffer)? == 0 {
                    // A client went away: the run is over.
                    return Ok(());
                }
                (&streams[place]).write_all(&answer)?;
                continue;
            }
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                let place = epoll::EventData::new_u64(streams.len() as u64 + 1);
                epoll::add(&epoll, &stream, place, epoll::EventFlags::IN)?;
                streams.push(stream);
            }
        }
    }
}

fn run_fanout(listener: &TcpListener, args: &FanoutFloor) -> anyhow::Result<()> {
    let (publisher, _) = listener.accept()?;
    let mut subscribers = Vec::with_capacity(args.subscribers);
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &publisher, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
    for number in 1..=args.subscribers {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        // Subscribers never speak; a server has to listen to them all the same.
        epoll::add(&epoll, &stream, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
        subscribers.push(stream);
    }
    let frame = prepared_frame(args.frame_bytes)?;
    let mut buffer = vec![0; 64 << 10];
    let mut events = Vec::with_capacity(64);
    let mut n_unread = 0;
    loop {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in &events {
            if event.data.u64() != 0 {
                // A subscriber went away: the run is over.
                return Ok(());
            }
            let n_read = (&publisher).read(&mut buffer)?;
            if n_read == 0 {
                return Ok(());
            }
            n_unread += n_read;
            let n_messages = n_unread / args.publish_bytes;
            n_unread %= args.publish_bytes;
            fan_out(&subscribers, &frame, n_messages, args.writing)?;
        }
    }
}

fn fan_out(subscribers: &[TcpStream], frame: &[u8], n_messages: usize, writing: Writing) -> io::Result<()> {
    match writing {
        Writing::Each => {
            for _ in 0..n_messages {
                for subscriber in subscribers {
                    write(subscriber, &[IoSlice::new(frame)], frame.len())?;
                }
            }
        }
        Writing::Coalesced => {
            let slices = [IoSlice::new(frame); FRAMES_PER_WRITE_MAX];
            for subscriber in subscribers {
                let mut n_left = n_messages;
                while n_left > 0 {
                    let n_now = n_left.min(FRAMES_PER_WRITE_MAX);
                    write(subscriber, &slices[..n_now], frame.len() * n_now)?;
                    n_left -= n_now;
                }
            }
        }
    }
    Ok(())
}

/// Writes frames, and waits where the socket is full, which the load avoids.
fn write(mut subscriber: &TcpStream, slices: &[IoSlice<'_>], n_bytes: usize) -> io::Result<()> {
    let mut n_written = 0;
    while n_written < n_bytes {
        let rest: Vec<u8>;
        let result = if n_written == 0 {
            match slices {
                [slice] => subscriber.write(slice),
                _ => subscriber.write_vectored(slices),
            }
        } else {
            rest = slices.iter().flat_map(|slice| slice.iter().copied()).skip(n_written).collect();
            subscriber.write(&rest)
        };
        match result {
            Ok(n_now) => n_written += n_now,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(subscriber, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A binary WebSocket frame of that many bytes in all.
fn prepared_frame(n_bytes: usize) -> anyhow::Result<Vec<u8>> {
    let mut frame = match n_bytes {
        0..=1 => anyhow::bail!("a frame has two bytes at least"),
        2..=127 => vec![0x82, u8::try_from(n_bytes - 2)?],
        _ => {
            let [high, low] = u16::try_from(n_bytes - 4)?.to_be_bytes();
            vec![0x82, 126, high, low]
        }
    };
    frame.resize(n_bytes, b'x');
    Ok(frame)
}

/// A floor that runs. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Floor {
    child: Child,
    address: SocketAddr,
    _stdout: BufReader<ChildStdout>,
}

impl Floor {
    /// Starts a floor on the core where the broker would run.
    pub(crate) fn start(kind: FloorKind) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("floor");
        match kind {
            FloorKind::Handshakes => command.arg("handshakes"),
            FloorKind::Fanout(floor) => {
                let writing = match floor.writing {
                    Writing::Each => "each",
                    Writing::Coalesced => "coalesced",
                };
                command.args(["fanout", "--writing", writing]);
                command.args(["--subscribers", &floor.subscribers.to_string()]);
                command.args(["--publish-bytes", &floor.publish_bytes.to_string()]);
                command.args(["--frame-bytes", &floor.frame_bytes.to_string()])
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        machine::pin(Core::Server)?;
        let child = command.spawn();
        machine::pin(Core::Load)?;
        let mut child = child?;
        let mut stdout = BufReader::new(child.stdout.take().context("the floor has no standard output")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let address = line.trim().parse().context("the floor did not start")?;
        Ok(Self { child, address, _stdout: stdout })
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        if let Err(error) = machine::stop(&mut self.child) {
            eprintln!("bench: {error:#}");
        }
    }
}

//! Taking back while publishing.
//!
//! What is promised on the node that took somebody back: nothing that is published once it said so reaches what lived by that, and nothing
//! follows a goodbye.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bongsu::access::{Note, Target};
use bongsu::publisher::Completion;
use bongsu_protocol::command::Start;
use bongsu_protocol::event::Event;
use bongsu_protocol::message::Time;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::native::{Native, Way};
use crate::support::PATIENCE;
use crate::ways::message;
use crate::world::{Token, World, now};

/// A round is one reader and one revocation.
const ROUNDS: usize = 10_000;

/// Readers that each revocation ends.
const READERS: [Kind; 20] = {
    use Kind::{Binary, Json, JsonLines, LongPoll, Poll, Sse, Stomp, StreamSse};
    [
        Binary, Binary, Binary, Json, Json, Json, Sse, Sse, Sse, JsonLines, JsonLines, StreamSse, StreamSse,
        Stomp, Stomp, Stomp, Poll, Poll, LongPoll, LongPoll,
    ]
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Binary,
    Json,
    Sse,
    JsonLines,
    StreamSse,
    Stomp,
    Poll,
    LongPoll,
}

/// The messages carry their numbers as `<7>`, so that they are found in whatever form they come.
fn newest(bytes: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(bytes);
    let numbers = text.split('<').filter_map(|part| part.split_once('>')?.0.parse().ok());
    numbers.max()
}

/// Publishes without a pause until it is told to stop; `next` is the number of the next message.
async fn publish(world: Arc<World>, next: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::SeqCst) {
        let number = next.fetch_add(1, Ordering::SeqCst);
        let (told, answer) = tokio::sync::oneshot::channel();
        let publisher = world.node.node.publisher();
        let message = message("a/b", &format!("<{number}>"));
        if let Err(waiting) = publisher.publish("", message, Completion::Caller(told)) {
            publisher.wait(waiting).await;
        }
        let _ = answer.await;
    }
}

/// Reads to the end; the newest number that came. Says when the first did.
async fn read(world: Arc<World>, kind: Kind, reads: watch::Sender<bool>) -> u64 {
    match kind {
        Kind::Binary | Kind::Json => {
            let way = if kind == Kind::Binary { Way::Binary } else { Way::Json };
            let mut native = Native::connect(&world, way, "ada").await;
            native.subscribe("a/#", Start::Latest).await.unwrap();
            let mut last = 0;
            while let Some(event) = native.event().await {
                if let Event::Delivery(delivery) = event {
                    last = last.max(newest(&delivery.message.payload).unwrap());
                    reads.send_replace(true);
                }
            }
            last
        }
        Kind::Poll | Kind::LongPoll => polls(&world, kind, &reads).await,
        Kind::Sse | Kind::JsonLines | Kind::StreamSse | Kind::Stomp => {
            let (address, request) = match kind {
                Kind::Stomp => {
                    let login = "CONNECT\naccept-version:1.2\nhost:/\npasscode:ada\n\n\0";
                    (world.stomp, format!("{login}SUBSCRIBE\nid:s\ndestination:/topic/a.#\n\n\0"))
                }
                Kind::Sse => {
                    (world.address, request("GET", "/v1/events?topic=a/%23", "text/event-stream", ""))
                }
                Kind::JsonLines => {
                    (world.address, request("GET", "/v1/events?topic=a/b", "application/x-ndjson", ""))
                }
                _ => (world.address, request("GET", "/v1/stream/a/b?offset=now&live=sse", "*/*", "")),
            };
            exchange(address, &request, Some(&reads)).await.1
        }
    }
}

fn request(method: &str, path: &str, accept: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer ada\r\naccept: {accept}\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Asks and reads to the end: the beginning of the answer, and the newest number in it.
async fn exchange(
    address: std::net::SocketAddr,
    request: &str,
    reads: Option<&watch::Sender<bool>>,
) -> (String, u64) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut kept, mut head, mut last) = (Vec::new(), String::new(), 0);
    loop {
        let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut kept)).await.expect("in time");
        if !read.is_ok_and(|n_read| n_read > 0) {
            return (head, last);
        }
        if head.is_empty() {
            head = String::from_utf8_lossy(&kept[..kept.len().min(64)]).into_owned();
        }
        if let Some(number) = newest(&kept) {
            last = last.max(number);
            if let Some(reads) = reads {
                reads.send_replace(true);
            }
        }
        // A number may be in two pieces.
        let n_done = kept.len().saturating_sub(64);
        kept.drain(..n_done);
    }
}

/// One poll after another, until the first that is refused.
async fn polls(world: &World, kind: Kind, reads: &watch::Sender<bool>) -> u64 {
    let (poll, body) = match kind {
        Kind::Poll => (("POST", "/v1/poll"), r#"{"topics":{"a/b":"now"},"wait_ms":60000}"#),
        _ => (("GET", "/v1/stream/a/b?offset=now&live=long-poll"), ""),
    };
    let request = request(poll.0, poll.1, "*/*", body);
    let mut last = 0;
    loop {
        let (head, number) = exchange(world.address, &request, None).await;
        if !head.starts_with("HTTP/1.1 20") {
            assert!(head.starts_with("HTTP/1.1 40"), "{kind:?}: {head}");
            assert_eq!(number, 0, "{kind:?}: a refusal holds no message");
            return last;
        }
        last = last.max(number);
        reads.send_replace(true);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "how much was looked at is part of the result")]
async fn nothing_that_is_published_after_a_revocation_reaches_what_lived_by_it() {
    let world = Arc::new(World::start(&[Token::all("ada", &["a/#"])]));
    world.publish("a/b", &serde_json::json!("the first"));
    let (next, stop) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicBool::new(false)));
    let publishing = tokio::spawn(publish(Arc::clone(&world), Arc::clone(&next), Arc::clone(&stop)));
    let control = world.node.node.control();
    let (mut n_rounds, mut n_late) = (0, 0);
    while n_rounds < ROUNDS {
        let (mut readers, mut begun): (Vec<JoinHandle<u64>>, Vec<_>) = (Vec::new(), Vec::new());
        for kind in READERS {
            let (reads, reading) = watch::channel(false);
            readers.push(tokio::spawn(read(Arc::clone(&world), kind, reads)));
            begun.push(reading);
        }
        for reading in &mut begun {
            tokio::time::timeout(PATIENCE, reading.wait_for(|reads| *reads)).await.unwrap().unwrap();
        }
        let target = match n_rounds / READERS.len() % 3 {
            0 => Target::Token("ada".to_owned()),
            1 => Target::Block("ada".to_owned()),
            _ => Target::Subject { subject: "ada".to_owned(), issued_before: Time(1) },
        };
        let note = Note { at: now().0, by: "operator".to_owned(), ..Note::default() };
        control.bar(&target, &note, None).await.unwrap();
        let cut = next.load(Ordering::SeqCst);
        for (kind, reader) in READERS.into_iter().zip(readers) {
            let last = tokio::time::timeout(PATIENCE, reader).await.expect("it ends").unwrap();
            if last >= cut {
                n_late += 1;
                println!("round {n_rounds}: {kind:?} got {last}, and {cut} was the next");
            }
            n_rounds += 1;
        }
        while next.load(Ordering::SeqCst) < cut + 3 {
            tokio::task::yield_now().await;
        }
        control.access().admit(&target, "operator", None).await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    publishing.await.unwrap();
    println!(
        "{n_rounds} rounds, {} messages, {n_late} deliveries to who was taken back",
        next.load(Ordering::SeqCst)
    );
    assert_eq!(n_late, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_slips_in_while_they_are_taken_back() {
    const ROUNDS: usize = 50;
    let world = Arc::new(World::start(&[Token::all("ada", &["a/#"])]));
    let control = world.node.node.control();
    for _ in 0..ROUNDS {
        let coming: Vec<_> = (0..8)
            .map(|n| {
                let world = Arc::clone(&world);
                let way = if n % 2 == 0 { Way::Binary } else { Way::Json };
                tokio::spawn(async move { Native::try_connect(&world, way, "ada").await })
            })
            .collect();
        let target = Target::Token("ada".to_owned());
        let note = Note { at: now().0, by: "operator".to_owned(), ..Note::default() };
        control.bar(&target, &note, None).await.unwrap();
        for come in coming {
            match come.await.unwrap() {
                Err(status) => assert_eq!(status, 401),
                // Whoever came in before does not stay.
                Ok(mut native) => while native.event().await.is_some() {},
            }
        }
        control.access().admit(&target, "operator", None).await.unwrap();
    }
}

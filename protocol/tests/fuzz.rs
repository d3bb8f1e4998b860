//! Runs the fuzz targets for a bounded time, on stable Rust, from the golden vectors on.
//!
//! Each run takes a fresh seed and prints it. `BONGSU_FUZZ_SEED=<seed>` repeats a run, `BONGSU_FUZZ_SECONDS=<n>` makes it
//! longer (per target; 2 by default). An input that breaks a promise is printed in hexadecimal; put its bytes into a file in
//! `fuzz/found/<target>/` and every later run begins with it. For coverage-guided fuzzing see `fuzz/Cargo.toml`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

#[path = "../fuzz/targets.rs"]
mod targets;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// Bytes of an input: what matters in these grammars fits, and long inputs are slow.
const INPUT_BYTES_MAX: usize = 4096;

/// Inputs kept for mutation. Past it, new ones take the place of old ones.
const INPUTS_MAX: usize = 2048;

#[test]
fn json_requests_keep_their_promises() {
    fuzz("requests_json", vectors("requests.json", "refused.json", Kind::Text));
}

#[test]
fn binary_requests_keep_their_promises() {
    fuzz("requests_binary", vectors("requests.json", "refused.json", Kind::Binary));
}

#[test]
fn json_events_keep_their_promises() {
    fuzz("events_json", vectors("events.json", "refused.json", Kind::Text));
}

#[test]
fn binary_events_keep_their_promises() {
    fuzz("events_binary", vectors("events.json", "refused.json", Kind::Binary));
}

#[test]
fn topics_keep_their_promises() {
    let lines = [
        "#\n+/#\na/b",
        "chat/+/x\nchat/a/#\nchat/a/x",
        "$sys/#\n#\n$sys/a",
        "#\n$sys/#\n$sys/a",
        "a\na/#\na",
        "+/+\na/+\nü/봉수",
    ];
    fuzz("topics", lines.iter().map(|line| line.as_bytes().to_vec()).collect());
}

#[test]
fn stomp_frames_keep_their_promises() {
    let streams = [
        "0CONNECT\naccept-version:1.2\nhost:/\n\n\0\nSEND\ndestination:/topic/a\n\nx\0",
        "1SEND\ndestination:/queue/a\ncontent-length:3\n\na\0b\0\r\n\n",
        "2SUBSCRIBE\r\nid:a\\cb\\r\\n\r\ndestination:/topic/a.*\r\nreceipt:1\r\n\r\n\0",
        "0ACK\nid:1@2\ntransaction:t\n\n\0\0NACK\nid:1\nid:2\n\n\0",
        "1MESSAGE\nmessage-id:1\nsubscription:2\n\nhello\0",
        "2SEND\ncontent-length:9\n\nx\0",
        "0BEGIN\ntransaction:t\n\nbody\0",
        "1SEND\na:\\t\n\n\0",
    ];
    fuzz("stomp", streams.iter().map(|stream| stream.as_bytes().to_vec()).collect());
}

#[test]
fn conversations_keep_their_promises() {
    let open = "CONNECT\naccept-version:1.2\n\n\0\n";
    let streams = [
        "SEND\ndestination:/topic/a\nreceipt:1\n\nx\0DISCONNECT\nreceipt:2\n\n\0",
        "SUBSCRIBE\nid:1\ndestination:/topic/a.*\nreceipt:1\n\n\0UNSUBSCRIBE\nid:1\n\n\0",
        "SUBSCRIBE\nid:q\ndestination:/queue/a\nack:client\n\n\0ACK\nid:s1@1\nreceipt:3\n\n\0NACK\nid:s1@1\n\n\0",
        "SUBSCRIBE\nid:q\ndestination:/queue/a\nprefetch-count:1\n\n\0",
        "SUBSCRIBE\nid:d\ndestination:/topic/a\ndurable:true\noffset:first\n\n\0",
        "BEGIN\ntransaction:t\n\n\0SEND\ndestination:/topic/a\ntransaction:t\n\nx\0COMMIT\ntransaction:t\n\n\0",
        "BEGIN\ntransaction:t\n\n\0ABORT\ntransaction:t\n\n\0",
        "SEND\ndestination:/queue/a\nreply-to:/temp-queue/b\n\nx\0",
    ];
    let mut seeds: Vec<_> = streams.iter().map(|stream| format!("{open}{stream}").into_bytes()).collect();
    seeds.push(
        b"STOMP\naccept-version:1.0\nheart-beat:1,1\n\n\0SUBSCRIBE\ndestination:/user/a/b\n\n\0".to_vec(),
    );
    fuzz("conversation", seeds);
}

#[test]
fn sockjs_messages_keep_their_promises() {
    let inputs = [
        r#"["a","\ud83d\ude00","\ud800"]"#,
        "d=%5B%22a+b%22%5D",
        "/000/S/xhr_send/",
        "/iframe-1.html",
        "b.B,AAAAAAAAB.B,BBBBBBBBC.D",
        "7:42",
        r#""a""#,
        "[]",
    ];
    fuzz("sockjs", inputs.iter().map(|input| input.as_bytes().to_vec()).collect());
}

fn fuzz(target: &str, seeds: Vec<Vec<u8>>) {
    let seed = variable("BONGSU_FUZZ_SEED").unwrap_or_else(rand::random);
    let time = Duration::from_secs(variable("BONGSU_FUZZ_SECONDS").unwrap_or(2));
    println!("{target}: BONGSU_FUZZ_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut outcomes = HashSet::new();
    let mut inputs = seeds;
    inputs.extend(found(target));
    for input in &inputs {
        outcomes.insert(tried(target, input));
    }
    let mut n_runs = inputs.len();
    let started = Instant::now();
    // The clock is asked now and then: it costs as much as a small input.
    while !n_runs.is_multiple_of(64) || started.elapsed() < time {
        let input = mutated(&inputs, &mut random);
        n_runs += 1;
        if outcomes.insert(tried(target, &input)) {
            if inputs.len() < INPUTS_MAX {
                inputs.push(input);
            } else {
                let place = random.random_range(0..inputs.len());
                inputs[place] = input;
            }
        }
    }
    println!("{target}: {n_runs} inputs, {} outcomes", outcomes.len());
}

/// Runs the target, and shows the input if it panics.
fn tried(target: &str, input: &[u8]) -> String {
    catch_unwind(AssertUnwindSafe(|| targets::run(target, input))).unwrap_or_else(|panic| {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("{target} breaks a promise on {:?}\nin hexadecimal: {hex}", String::from_utf8_lossy(input));
        resume_unwind(panic)
    })
}

/// An input made of one or two others.
fn mutated(inputs: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    const WORDS: [&[u8]; 28] = [
        b"\"data\":",
        b"\"text\":",
        b"\"bytes\":",
        b"\"id\":",
        b"\"from\":",
        b"\"seen\":",
        b"null",
        b"\"latest\"",
        b"9007199254740992",
        b"-1",
        b"1e2",
        b"\\u0000",
        b"\\ud800",
        b"[",
        b"{",
        b"}",
        b"\x0a\x00",
        b"/#",
        b"/+",
        b"\n",
        b"\n\n",
        b"SEND\n",
        b"content-length:",
        b"\\c",
        b"receipt:9\n",
        b"transaction:t\n",
        b"destination:/queue/a\n",
        b"\n\n\0",
    ];
    let mut input = inputs.choose(random).unwrap().clone();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=input.len());
        let end = random.random_range(at..=input.len().min(at + 32));
        match random.random_range(0..8) {
            0 => input.insert(at, random.random()),
            1 => drop(input.drain(at..end)),
            2 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            3 if at < input.len() => {
                input[at] = *[0, 1, 0x7f, 0x80, 0xff, b'"', b'\\'].choose(random).unwrap()
            }
            4 => drop(input.splice(at..end, WORDS.choose(random).unwrap().iter().copied())),
            5 => {
                let part = input[at..end].to_vec();
                drop(input.splice(at..at, part.repeat(random.random_range(1..4))));
            }
            6 => {
                let other = inputs.choose(random).unwrap();
                let from = random.random_range(0..=other.len());
                let until = random.random_range(from..=other.len());
                drop(input.splice(at..end, other[from..until].iter().copied()));
            }
            _ => input.truncate(at.max(input.len() / 2)),
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Binary,
}

/// The frames of the golden vectors.
fn vectors(good: &str, bad: &str, kind: Kind) -> Vec<Vec<u8>> {
    let read = |file: &str| -> Vec<serde_json::Value> {
        serde_json::from_slice(&std::fs::read(folder("vectors").join(file)).unwrap()).unwrap()
    };
    let good = read(good).into_iter().map(|vector| match kind {
        Kind::Text => serde_json::to_vec(&vector["json"]).unwrap(),
        Kind::Binary => unhex(vector["binaryHex"].as_str().unwrap()),
    });
    let bad = read(bad).into_iter().filter_map(|vector| match kind {
        Kind::Text => vector["text"].as_str().map(|text| text.as_bytes().to_vec()),
        Kind::Binary => vector["hex"].as_str().map(unhex),
    });
    let frames: Vec<_> = good.chain(bad).collect();
    assert!(frames.len() > 20, "the vectors are there");
    frames
}

/// What broke a promise before.
fn found(target: &str) -> Vec<Vec<u8>> {
    let Ok(files) = std::fs::read_dir(folder("fuzz/found").join(target)) else { return Vec::new() };
    files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

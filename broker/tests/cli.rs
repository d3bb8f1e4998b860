//! `bongsu pub` and `bongsu sub` against `bongsu serve`, all three as processes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use tempfile::TempDir;

const BONGSU: &str = env!("CARGO_BIN_EXE_bongsu");

/// A node on a free port with a folder of its own; killed at the end.
struct Node {
    process: Child,
    url: String,
    folder: TempDir,
    /// Kept open, or the node could not write to it.
    _stdout: BufReader<ChildStdout>,
}

impl Node {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let mut process = Command::new(BONGSU)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(folder.path().join("data"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut said = String::new();
        let url = loop {
            let mut line = String::new();
            assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "it ended after saying {said:?}");
            if let Some(url) = line.split_whitespace().find(|word| word.starts_with("http://")) {
                break url.to_owned();
            }
            said.push_str(&line);
        };
        Self { process, url, folder, _stdout: stdout }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BONGSU);
        command.args(arguments).env("BONGSU_URL", &self.url).env_remove("BONGSU_TOKEN");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Publishes what `input` holds, as standard input.
    fn publish(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut process = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = process.stdin.take().unwrap();
        // It may stop reading when it has seen enough.
        let _ = stdin.write_all(input);
        drop(stdin);
        process.wait_with_output().unwrap()
    }

    /// Everything that is kept of these topics.
    fn read(&self, arguments: &[&str]) -> Vec<u8> {
        let mut all = vec!["sub", "--from", "earliest", "--exit-at-head"];
        all.extend(arguments);
        done(&self.run(&all)).to_vec()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// What a command that succeeded wrote.
#[track_caller]
fn done(output: &Output) -> &[u8] {
    assert!(output.status.success(), "{}: {}", output.status, said(output));
    &output.stdout
}

/// What a command told of its failure.
#[track_caller]
fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    said(output)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// 100,000 lines of what a real machine has installed, or, where that cannot be asked, of what its folders hold.
fn real_lines(path: &Path) -> usize {
    const N_LINES: usize = 100_000;
    let listing =
        Command::new("dpkg-query").args(["-W", "-f", "${Package} ${Version} ${Description}\n"]).output();
    let mut listing = listing.map(|output| output.stdout).unwrap_or_default();
    if listing.is_empty() {
        let entries = fs::read_dir("/usr/bin").unwrap();
        listing = entries.fold(Vec::new(), |mut listing, entry| {
            listing.extend_from_slice(entry.unwrap().path().as_os_str().as_encoded_bytes());
            listing.push(b'\n');
            listing
        });
    }
    let lines: Vec<_> =
        listing.split_inclusive(|byte| *byte == b'\n').filter(|it| it.ends_with(b"\n")).collect();
    let repeated = lines.iter().cycle().take(N_LINES).copied().collect::<Vec<_>>().concat();
    File::create(path).unwrap().write_all(&repeated).unwrap();
    N_LINES
}

#[test]
fn a_hundred_thousand_lines_reach_three_readers_one_of_which_is_killed_half_way() {
    let node = Node::start();
    let input = node.path("in.txt");
    let n_lines = real_lines(&input).to_string();
    let mut readers: Vec<_> = (0..2)
        .map(|_| node.command(&["sub", "list", "--from", "earliest", "--count", &n_lines]).spawn().unwrap())
        .map(|reader| std::thread::spawn(move || reader.wait_with_output().unwrap()))
        .collect();
    let (positions, output) = (node.path("third.pos"), node.path("third.txt"));
    let third = |count: &str| {
        let (positions, output) = (positions.to_str().unwrap(), output.to_str().unwrap());
        let files = ["--positions", positions, "--output", output];
        let mut command = node.command(&["sub", "list", "--from", "earliest", "--count", count]);
        command.args(files);
        command
    };
    let mut killed = third(&n_lines).spawn().unwrap();
    let mut publisher =
        node.command(&["pub", "list", "--lines", "--file", input.to_str().unwrap()]).spawn().unwrap();
    let n_bytes = fs::metadata(&input).unwrap().len();
    while fs::metadata(&output).map_or(0, |file| file.len()) < n_bytes / 2 {
        assert!(killed.try_wait().unwrap().is_none(), "it ended early");
        std::thread::yield_now();
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    // What a kill between writing and remembering leaves behind.
    fs::OpenOptions::new().append(true).open(&output).unwrap().write_all(b"written, not remembered").unwrap();
    let kept = fs::read_to_string(&positions).unwrap();
    let offset = kept.split("\"list\": \"").nth(1).unwrap().split(['"', ':']).nth(1).unwrap();
    let n_left = (100_000 - offset.parse::<usize>().unwrap()).to_string();
    assert_ne!(n_left, "0");
    done(&third(&n_left).output().unwrap());
    assert!(publisher.wait().unwrap().success());
    let expected = fs::read(&input).unwrap();
    assert!(fs::read(&output).unwrap() == expected, "the reader that was killed has something else");
    for reader in readers.drain(..) {
        assert!(done(&reader.join().unwrap()) == expected, "a reader has something else");
    }
}

#[test]
fn lines_come_out_byte_for_byte_empty_ones_and_a_last_one_without_its_end_included() {
    let node = Node::start();
    done(&node.publish(&["pub", "raw", "--raw"], b"a\r\n\n\xff\xfe\0\nlast"));
    assert_eq!(node.read(&["raw"]), b"a\r\n\n\xff\xfe\0\nlast\n");
}

#[test]
fn a_file_is_one_message_and_its_lines_are_many() {
    let node = Node::start();
    let file = node.path("file");
    fs::write(&file, "one\ntwo\n").unwrap();
    let file = file.to_str().unwrap();
    done(&node.run(&["pub", "whole", "--file", file, file]));
    assert_eq!(node.read(&["whole"]), b"one\ntwo\n\none\ntwo\n\n");
    done(&node.run(&["pub", "lines", "--lines", "--file", file]));
    assert_eq!(node.read(&["lines", "--json"]).split(|byte| *byte == b'\n').count(), 3);
}

#[test]
fn a_second_run_with_the_same_prefix_stores_nothing_twice() {
    let node = Node::start();
    for _ in 0..2 {
        done(&node.publish(&["pub", "t", "--id-prefix", "run"], b"a\nb\n"));
    }
    assert_eq!(node.read(&["t"]), b"a\nb\n");
}

#[test]
fn what_sub_prints_as_json_pub_takes_as_envelopes() {
    let node = Node::start();
    done(&node.publish(&["pub", "x/json", "--json", "--header", "k=v"], b"{\"a\": 1.50}\n[]\n"));
    done(&node.run(&["pub", "x/text", "héllo \"there\""]));
    done(&node.publish(&["pub", "x/bytes", "--raw"], b"\xff\n"));
    let printed = node.read(&["x/#", "--json"]);
    let other = Node::start();
    done(&other.publish(&["pub", "--envelope"], &printed));
    let without_place = |lines: &[u8]| -> Vec<String> {
        let kept = |line: &str| {
            let mut object: serde_json::Map<_, _> = serde_json::from_str(line).unwrap();
            object.retain(|key, _| !["epoch", "time"].contains(&key.as_str()));
            serde_json::to_string(&object).unwrap()
        };
        let mut lines: Vec<_> = std::str::from_utf8(lines).unwrap().lines().map(kept).collect();
        lines.sort();
        lines
    };
    let copied = without_place(&other.read(&["x/#", "--json"]));
    assert_eq!(copied, without_place(&printed));
    assert_eq!(copied.len(), 4);
    assert!(printed.windows(11).any(|part| part == b"{\"a\": 1.50}"), "JSON was not kept byte for byte");
}

#[test]
fn pub_stops_at_a_line_that_it_cannot_publish_and_names_it() {
    let node = Node::start();
    let told = failed(&node.publish(&["pub", "t"], b"good\n\xff\nnever\n"));
    assert!(told.contains("line 2: it is not UTF-8"), "{told}");
    assert_eq!(node.read(&["t"]), b"good\n");
    let long = vec![b'x'; (1 << 20) + 1];
    let told = failed(&node.publish(&["pub", "t"], &long));
    assert!(told.contains("line 1: a payload has at most 1048576 bytes"), "{told}");
    let told = failed(&node.publish(&["pub", "t", "--json"], b"{\"a\":1}\n{\n"));
    assert!(told.contains("line 2: it is not JSON"), "{told}");
    let told = failed(&node.publish(&["pub", "--envelope"], b"{\"text\":\"x\"}\n"));
    assert!(told.contains("line 1: it names no topic"), "{told}");
    let told = failed(&node.publish(&["pub", "--envelope"], b"{\"topic\":\"t\",\"txt\":\"x\"}\n"));
    assert!(told.contains("line 1: unknown field `txt`"), "{told}");
}

#[test]
fn pub_tells_which_line_the_broker_refused() {
    let node = Node::start();
    let told =
        failed(&node.publish(&["pub", "--envelope"], b"{\"topic\":\"t\",\"text\":\"x\",\"expect\":7}\n"));
    assert!(told.contains("line 1 was not published: conflict"), "{told}");
    let told = failed(&node.run(&["pub", "$sys/x", "text"]));
    assert!(told.contains("the message was not published: "), "{told}");
}

#[test]
fn no_broker_is_a_clear_error() {
    let node = Node::start();
    let url = node.url.clone();
    drop(node);
    for arguments in [&["pub", "t", "x"][..], &["sub", "t"]] {
        let output = Command::new(BONGSU).args(arguments).env("BONGSU_URL", &url).output().unwrap();
        let told = failed(&output);
        assert!(told.contains(&url) && told.contains("cannot connect"), "{told}");
    }
}

#[test]
fn sub_starts_where_it_is_told_to() {
    let node = Node::start();
    done(&node.publish(&["pub", "t"], b"1\n2\n3\n4\n5\n"));
    let printed = String::from_utf8(node.read(&["t", "--json"])).unwrap();
    let third: serde_json::Value = serde_json::from_str(printed.lines().nth(2).unwrap()).unwrap();
    let (after, time) = (format!("{}:3", third["epoch"]), format!("@{}", third["time"]));
    for (from, expected) in [("last=2", "4\n5\n"), (&after, "4\n5\n"), ("earliest", "1\n2\n3\n4\n5\n")] {
        let output = node.run(&["sub", "t", "--exit-at-head", "--from", from]);
        assert_eq!(String::from_utf8_lossy(done(&output)), expected, "{from}");
    }
    let output = node.run(&["sub", "t", "--exit-at-head", "--from", &time]);
    assert!(done(&output).ends_with(b"3\n4\n5\n"));
    assert_eq!(done(&node.run(&["sub", "t", "--exit-at-head"])), b"");
    assert_eq!(done(&node.run(&["sub", "t", "--count", "2", "--from", "earliest"])), b"1\n2\n");
}

#[test]
fn sub_reads_overlapping_filters_once() {
    let node = Node::start();
    done(&node.run(&["pub", "a/b", "x"]));
    assert_eq!(node.read(&["a/b", "a/#", "+/b", "a/b"]), b"x\n");
}

#[test]
fn positions_go_on_with_topics_that_were_not_there_before() {
    let node = Node::start();
    let positions = node.path("pos");
    let positions = positions.to_str().unwrap();
    let sub = |from| node.run(&["sub", "t/#", "--from", from, "--exit-at-head", "--positions", positions]);
    done(&node.run(&["pub", "t/a", "old"]));
    assert_eq!(done(&sub("last=1")), b"old\n");
    done(&node.run(&["pub", "t/a", "next"]));
    done(&node.publish(&["pub", "t/new"], b"first\nsecond\n"));
    // The topics are read side by side, and a pattern with a time cannot know its head: count.
    let output = node.run(&["sub", "t/#", "--from", "last=1", "--count", "3", "--positions", positions]);
    let mut lines: Vec<_> = std::str::from_utf8(done(&output)).unwrap().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["first", "next", "second"]);
}

#[test]
fn an_output_that_is_shorter_than_remembered_is_not_written_to() {
    let node = Node::start();
    let (positions, output) = (node.path("pos"), node.path("out"));
    let arguments = [
        "sub",
        "t",
        "--from",
        "earliest",
        "--exit-at-head",
        "--positions",
        positions.to_str().unwrap(),
        "--output",
        output.to_str().unwrap(),
    ];
    done(&node.run(&["pub", "t", "text"]));
    done(&node.run(&arguments));
    fs::write(&output, "tex").unwrap();
    let told = failed(&node.run(&arguments));
    assert!(told.contains("has 3 bytes, fewer than the 5"), "{told}");
    assert_eq!(fs::read(&output).unwrap(), b"tex");
}

#[test]
fn a_closed_pipe_ends_sub_quietly() {
    let node = Node::start();
    let lines = (0..20_000).fold(String::new(), |mut lines, n| {
        writeln!(lines, "{n}").unwrap();
        lines
    });
    done(&node.publish(&["pub", "t"], lines.as_bytes()));
    let mut process = node.command(&["sub", "t", "--from", "earliest"]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "0\n");
    // The next write finds no reader.
    done(&node.publish(&["pub", "t"], b"more\n"));
    let output = process.wait_with_output().unwrap();
    assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), ""));
}

#[test]
fn the_token_is_not_shown_in_the_help() {
    let output = Command::new(BONGSU).args(["sub", "--help"]).env("BONGSU_TOKEN", "secret").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("BONGSU_TOKEN") && !help.contains("secret"), "{help}");
}

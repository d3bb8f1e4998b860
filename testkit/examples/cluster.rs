//! Three nodes behind the proxy that `deploy/` configures, for tests that are not written in Rust.
//!
//! `cluster BONGSU HAPROXY_CONFIGURATION [SETTING…]` starts Redis, Postgres, HAProxy and three times that program with those settings, and prints
//! the proxy's address as one line. It then reads lines: `kill node-1` ends that node as a power cut does, `terminate node-1` sends
//! SIGTERM and waits, `start node-1` starts it again; each is answered with `done`. At the end of its input everything ends.

use std::ffi::OsString;
use std::io::BufRead as _;
use std::path::Path;

use bongsu_testkit::{Postgres, Process, Redis};

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().expect("the first argument is the broker's program");
    let configuration = arguments.next().expect("the second argument is the proxy's configuration");
    let settings: Vec<OsString> = arguments.collect();
    let redis = Redis::start();
    let database = Postgres::shared().database();
    let start = |name: &str| {
        let own = [
            format!("node.name={name}"),
            format!("redis.url={}", redis.url()),
            format!("postgres.url={database}"),
        ];
        let own = own.map(OsString::from);
        Process::launch(name, "listens on", |directory, port| {
            let listen = format!("127.0.0.1:{port}");
            let mut command: Vec<OsString> =
                vec![program.clone(), "serve".into(), "--listen".into(), listen.into()];
            command.extend(["--data".into(), directory.as_os_str().to_owned()]);
            for setting in own.iter().chain(&settings) {
                command.extend(["--set".into(), setting.clone()]);
            }
            command
        })
    };
    let nodes = ["node-1", "node-2", "node-3"].map(|name| (name, start(name)));
    let proxy = proxy(Path::new(&configuration), &nodes);
    println!("http://127.0.0.1:{}/", proxy.port());
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let (word, name) = line.split_once(' ').expect("a word and a node");
        let (_, node) = nodes.iter().find(|(known, _)| *known == name).expect("one of the nodes");
        match word {
            "kill" => node.kill(),
            "terminate" => node.stop(),
            "start" => node.start_again(),
            _ => panic!("{word:?} is no word"),
        }
        println!("done");
    }
}

/// Starts HAProxy with a configuration in which only addresses are others.
fn proxy(configuration: &Path, nodes: &[(&str, Process); 3]) -> Process {
    let mut text = std::fs::read_to_string(configuration).expect("the configuration can be read");
    for (name, node) in nodes {
        let here = format!("server {name} 127.0.0.1:{}", node.port());
        text = text.replace(&format!("server {name} {name}:8080"), &here);
    }
    // Nodes answer probes on the port of clients as well.
    text = text.replace("check port 9090", "check").replace("bind :8080", "bind 127.0.0.1:PORT");
    Process::launch("haproxy", "Using epoll", move |directory, port| {
        let file = directory.join("haproxy.cfg");
        std::fs::write(&file, text.replace("PORT", &port.to_string())).expect("it is written");
        ["haproxy".into(), "-db".into(), "-V".into(), "-f".into(), file.into_os_string()].into()
    })
}

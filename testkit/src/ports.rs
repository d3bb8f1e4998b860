//! Ports for servers.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use rand::Rng as _;

/// A port of the loopback interface that nobody listens on.
///
/// It is below the range from which the kernel gives ports to outgoing connections: a server that is stopped and started again
/// must find its port free, and a client that connects to a stopped server must not meet itself.
pub(crate) fn free_port() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first_given: u16 =
        range.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(32_768);
    let ports = if first_given > 12_000 { 10_000..first_given } else { 10_000..60_000 };
    let mut random = rand::rng();
    // Random, since test processes run side by side. The server itself has the last word: whoever loses the race tries another.
    (0..1000)
        .map(|_| random.random_range(ports.clone()))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("one port in a thousand is free")
}

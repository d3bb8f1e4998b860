//! What a node takes from whoever comes to its gate.

use std::sync::Arc;

use bongsu_protocol::message::Time;
use http::{HeaderMap, HeaderValue, Method, Request};
use tokio::task::JoinSet;

use super::forward::Refused;
use super::secrets::Secrets;
use super::signature::{self, Secret};
use super::{Destination, Peers};
use crate::clock;
use crate::cluster::Cluster;
use crate::limits::PEER_CLOCK_SKEW_MS;

fn node(incarnation: &str) -> Peers {
    let secrets = Secrets::given(Secret::new(b"0123456789abcdef"));
    Peers::new(Cluster::alone(), incarnation.into(), secrets, None, JoinSet::new())
}

/// A request of one node to another.
fn request(from: &Peers, to: &str) -> Request<()> {
    let to = Destination { incarnation: Arc::from(to), url: "http://127.0.0.1:1".into() };
    let mut headers = HeaderMap::new();
    headers.insert("cookie", HeaderValue::from_static("a=1"));
    let secret = from.secrets.current().unwrap();
    from.signed(&secret, &to, Method::POST, "/sockjs/0/s/xhr?t=1", headers).unwrap()
}

fn refusal(at: &Peers, request: &Request<()>) -> Option<Refused> {
    at.check(request).err()
}

#[test]
fn request_is_taken_once_and_by_nobody_else() {
    let (a, b, c) = (node("a/1"), node("b/1"), node("c/1"));
    let first = request(&a, "b/1");
    assert_eq!(refusal(&c, &first), Some(Refused::Recipient));
    assert_eq!(refusal(&b, &first), None);
    assert_eq!(refusal(&b, &first), Some(Refused::Replayed));
    assert_eq!(refusal(&b, &request(&a, "b/1")), None, "the next one is another");
    let again = node("b/2");
    assert_eq!(refusal(&again, &first), Some(Refused::Recipient), "a node that started again");
}

#[test]
fn request_that_was_changed_on_the_way_is_refused() {
    let (a, b) = (node("a/1"), node("b/1"));
    let changed = |change: fn(&mut Request<()>)| {
        let mut request = request(&a, "b/1");
        change(&mut request);
        refusal(&b, &request)
    };
    assert_eq!(changed(|_| ()), None);
    assert_eq!(
        changed(|request| *request.uri_mut() = "http://127.0.0.1:1/sockjs/0/other/xhr?t=1".parse().unwrap()),
        Some(Refused::Signature)
    );
    assert_eq!(changed(|request| *request.method_mut() = Method::GET), Some(Refused::Signature));
    for name in ["cookie", "bongsu-peer-from", "bongsu-peer-source", "authorization", "origin"] {
        let mut request = request(&a, "b/1");
        request.headers_mut().insert(name, HeaderValue::from_static("x"));
        assert_eq!(refusal(&b, &request), Some(Refused::Signature), "{name}");
    }
    for name in [signature::FROM, signature::TO, signature::NUMBER, signature::TIME, signature::SIGNATURE] {
        let mut missing = request(&a, "b/1");
        missing.headers_mut().remove(&name);
        assert_eq!(refusal(&b, &missing), Some(Refused::Unsigned), "{name}");
        let mut twice = request(&a, "b/1");
        let value = twice.headers()[&name].clone();
        twice.headers_mut().append(name.clone(), value);
        assert_eq!(refusal(&b, &twice), Some(Refused::Unsigned), "{name} twice");
    }
    assert_eq!(refusal(&b, &Request::new(())), Some(Refused::Unsigned));
}

#[test]
fn request_of_another_time_is_refused() {
    let (a, b) = (node("a/1"), node("b/1"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let start = tokio::time::Instant::now();
        let noon = 1_800_000_000_000_u64;
        let at = |ms: u64| clock::simulate(Some(clock::Simulated { start, wall: Time(ms) }));
        for (sent, taken, refused) in [
            (noon, noon + PEER_CLOCK_SKEW_MS, None),
            (noon + PEER_CLOCK_SKEW_MS, noon, None),
            (noon, noon + PEER_CLOCK_SKEW_MS + 1, Some(Refused::Time)),
            (noon + PEER_CLOCK_SKEW_MS + 1, noon, Some(Refused::Time)),
        ] {
            at(sent);
            let request = request(&a, "b/1");
            at(taken);
            assert_eq!(refusal(&b, &request), refused, "{sent} {taken}");
        }
        clock::simulate(None);
    });
}

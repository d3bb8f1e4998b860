//! Nodes that answer for one another, over a real Redis. SJ-44.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use bongsu_persistence::memory::MemoryStore;
use bongsu_testkit::Redis;
use futures_util::StreamExt as _;
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::serve;
use crate::bus;
use crate::config::{Name, ServerUrl, Settings};
use crate::limits::{HTTP_HEADER_BYTES_MAX, PEER_HEADER_BYTES_MAX};
use crate::node::Node;
use crate::peers::{self, Claim, Claimed, Destination, ForwardError, Forwarded, Gate, Owner, Source};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often something is looked at that should come to pass.
const LOOK: Duration = Duration::from_millis(10);

const LEASE: Duration = Duration::from_secs(3);

fn settings(name: &str, redis: &Redis) -> Settings {
    let mut settings = Settings::default();
    settings.node.name = Name::parse(name).unwrap();
    settings.redis.url = ServerUrl::parse(&redis.url());
    settings.cluster.listen = Some("127.0.0.1:0".parse().unwrap());
    settings.cluster.lease = LEASE;
    settings
}

/// A node that answers what is forwarded to it with these routes.
async fn join(settings: Settings, routes: Router) -> Arc<Node> {
    let joined = bus::connect(&settings).unwrap().unwrap();
    let gate = Gate::bind(&settings).unwrap();
    let node = Node::join(settings, Arc::new(MemoryStore::default()), joined, gate);
    let gate = TcpListener::from_std(node.peers().take_gate().unwrap()).unwrap();
    tokio::spawn(serve(gate, Arc::clone(&node), TowerToHyperService::new(routes)));
    let mut membership = node.cluster().membership();
    let registered = membership.wait_for(|membership| membership.registration.is_some());
    tokio::time::timeout(PATIENCE, registered).await.unwrap().unwrap();
    drop(membership);
    node
}

async fn start(name: &str, redis: &Redis, routes: Router) -> Arc<Node> {
    join(settings(name, redis), routes).await
}

/// Claims a session, however busy the machine is.
async fn claim(node: &Node, session: &str) -> Claim {
    match node.peers().claim(session).await {
        Claimed::Here(claim) | Claimed::Unknown(claim) => claim,
        other => panic!("{other:?}"),
    }
}

/// Waits until a node finds what is expected.
async fn until(node: &Node, session: &str, is_so: impl Fn(&Owner) -> bool) -> Owner {
    let look = async {
        loop {
            let owner = node.peers().owner(session).await;
            if is_so(&owner) {
                return owner;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap()
}

/// Where the session is that another node has claimed.
async fn find(node: &Node, session: &str) -> Destination {
    match until(node, session, |owner| matches!(owner, Owner::Elsewhere(_))).await {
        Owner::Elsewhere(destination) => destination,
        _ => unreachable!("it was waited for"),
    }
}

/// Forwards until there is an answer: a node may not know the secret yet.
async fn forward(node: &Node, to: &Destination, path: &str) -> http::Response<peers::Body> {
    let request = || Request::builder().uri(path).body(Body::empty()).unwrap();
    let attempts = async {
        loop {
            match node.peers().forward(to, request()).await {
                Ok(response) => return response,
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, attempts).await.unwrap()
}

async fn text(response: http::Response<peers::Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn next_chunk(body: &mut peers::Body) -> Bytes {
    let frame = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap();
    frame.unwrap().unwrap().into_data().unwrap()
}

/// A node `a`, and a node `b` with these routes that has the session `s`.
async fn pair(redis: &Redis, routes: Router) -> (Arc<Node>, Arc<Node>, Claim, Destination) {
    let a = start("a", redis, Router::new()).await;
    let b = start("b", redis, routes).await;
    let claim = claim(&b, "s").await;
    let to = find(&a, "s").await;
    drop(forward(&a, &to, "/none").await);
    (a, b, claim, to)
}

#[tokio::test]
async fn session_has_one_owner_which_every_node_finds_until_it_ends() {
    let redis = Redis::start();
    let (a, b, claimed, to) = pair(&redis, Router::new()).await;
    assert!(to.incarnation.starts_with("b/"), "{to:?}");
    assert_eq!(b.peers().owner("s").await, Owner::Here);
    assert!(matches!(b.peers().claim("s").await, Claimed::Already));
    assert!(matches!(a.peers().claim("s").await, Claimed::Elsewhere(owner) if owner == to));
    drop(claimed);
    until(&a, "s", |owner| {
        a.peers().forget("s");
        *owner == Owner::Nobody
    })
    .await;
    let claimed = claim(&a, "s").await;
    assert!(find(&b, "s").await.incarnation.starts_with("a/"));
    drop(claimed);
}

#[tokio::test]
async fn owner_whose_claim_is_under_way_is_waited_for() {
    let redis = Redis::start();
    let (a, b, _claim, _) = pair(&redis, Router::new()).await;
    let (owner, _claim) = tokio::join!(a.peers().owner_within("late", PATIENCE), async {
        // Until `a` has looked once at least.
        tokio::time::sleep(LOOK).await;
        claim(&b, "late").await
    });
    assert!(matches!(owner, Owner::Elsewhere(_) | Owner::Unknown), "{owner:?}");
    assert_eq!(a.peers().owner_within("none", Duration::ZERO).await, Owner::Nobody);
}

#[tokio::test]
async fn owner_sees_the_request_as_the_first_node_did() {
    let redis = Redis::start();
    let echo = any(|request: Request| async move {
        let source = request.extensions().get::<Source>().unwrap();
        let from = request.extensions().get::<Forwarded>().unwrap().from.clone();
        let mut names: Vec<_> = request.headers().keys().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        let value = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-");
        let told = format!(
            "{} {} {:?} {names:?} {} {} {} {} {} {from}",
            request.method(),
            request.uri(),
            request.version(),
            value("host"),
            value("origin"),
            value("cookie"),
            source.address,
            source.is_tls
        );
        ([("connection", "x-hop"), ("x-hop", "1"), ("x-end", "2")], told)
    });
    let (a, _b, _claim, to) = pair(&redis, Router::new().route("/sockjs/{*rest}", echo)).await;
    let mut request = Request::builder()
        .method("POST")
        .uri("/sockjs/0/s%20/xhr?t=1&a=%2F")
        .header("host", "app.example:8443")
        .header("origin", "https://app.example")
        .header("cookie", "a=1")
        .header("authorization", "Bearer x")
        .header("connection", "x-secret, close")
        .header("x-secret", "hop by hop")
        .header("expect", "100-continue")
        .header("te", "trailers")
        // What a client says of these is its own invention.
        .header("bongsu-peer-source", "http 9.9.9.9:9")
        .header("bongsu-peer-from", "mallory/1")
        .body(Body::from("body"))
        .unwrap();
    let source = Source { address: "[2001:db8::1]:4711".parse().unwrap(), is_tls: true, is_told: true };
    request.extensions_mut().insert(source);
    let response = a.peers().forward(&to, request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers().get("x-end"), Some(&HeaderValue::from_static("2")));
    for name in ["connection", "x-hop", "bongsu-peer-answer"] {
        assert_eq!(response.headers().get(name), None, "{name}");
    }
    let told = text(response).await;
    let from = told.rsplit(' ').next().unwrap();
    assert!(from.starts_with("a/"), "{from}");
    let expected = "POST /sockjs/0/s%20/xhr?t=1&a=%2F HTTP/1.1 \
        [\"authorization\", \"content-length\", \"cookie\", \"host\", \"origin\"] \
        app.example:8443 https://app.example a=1 [2001:db8::1]:4711 true ";
    assert_eq!(told.strip_suffix(from), Some(expected));
}

#[tokio::test]
async fn request_is_forwarded_once() {
    let redis = Redis::start();
    let (b, far) = (Arc::<OnceLock<Arc<Node>>>::default(), Arc::<OnceLock<Destination>>::default());
    let forwarding = {
        let (b, far) = (Arc::clone(&b), Arc::clone(&far));
        any(move |request: Request| async move {
            let answer = b.get().unwrap().peers().forward(far.get().unwrap(), request).await;
            answer.unwrap_err().to_string()
        })
    };
    let (a, own, _claim, to) = pair(&redis, Router::new().route("/", forwarding)).await;
    let _claim = claim(&a, "far").await;
    far.set(find(&own, "far").await).unwrap();
    b.set(own).unwrap();
    assert_eq!(text(forward(&a, &to, "/").await).await, ForwardError::Again.to_string());
}

#[tokio::test]
async fn bodies_go_through_chunk_by_chunk_in_both_directions() {
    let redis = Redis::start();
    let echo = any(|request: Request| async move {
        Body::from_stream(request.into_body().into_data_stream()).into_response()
    });
    let (a, _b, _claim, to) = pair(&redis, Router::new().route("/echo", echo)).await;
    let (chunks, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    let request = Request::builder().method("POST").uri("/echo").body(Body::from_stream(body)).unwrap();
    let response = a.peers().forward(&to, request).await.unwrap();
    let mut body = response.into_body();
    for chunk in ["o\n", "a[\"x\"]\n", "h\n"] {
        chunks.send(Ok(Bytes::from(chunk))).await.unwrap();
        assert_eq!(next_chunk(&mut body).await, chunk, "nothing more is needed for it to come");
    }
    drop(chunks);
    let rest = tokio::time::timeout(PATIENCE, body.collect()).await.unwrap().unwrap().to_bytes();
    assert!(rest.is_empty(), "{rest:?}");
}

/// Routes on which a request is told of when it comes and when nobody wants it any more.
fn parking() -> (Router, mpsc::Receiver<&'static str>) {
    struct Gone(mpsc::Sender<&'static str>);
    impl Drop for Gone {
        fn drop(&mut self) {
            let _ = self.0.try_send("gone");
        }
    }
    let (told, tells) = mpsc::channel(10_000);
    let gone = told.clone();
    let head = any(move || async move {
        let gone = Gone(gone.clone());
        gone.0.send("head").await.unwrap();
        std::future::pending::<Response>().await
    });
    let body = any(move || async move {
        let gone = Gone(told.clone());
        gone.0.send("body").await.unwrap();
        let first = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from("o\n"))]);
        let never =
            futures_util::stream::pending().map(move |()| Ok(Bytes::from(gone.0.capacity().to_string())));
        Body::from_stream(first.chain(never)).into_response()
    });
    (Router::new().route("/head", head).route("/body", body), tells)
}

async fn told(tells: &mut mpsc::Receiver<&'static str>) -> &'static str {
    tokio::time::timeout(PATIENCE, tells.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn what_the_client_gives_up_the_owner_gives_up() {
    let redis = Redis::start();
    let (routes, mut tells) = parking();
    let (a, _b, _claim, to) = pair(&redis, routes).await;

    let request = Request::builder().uri("/head").body(Body::empty()).unwrap();
    tokio::select! {
        biased;
        _ = a.peers().forward(&to, request) => panic!("it is never answered"),
        what = told(&mut tells) => assert_eq!(what, "head"),
    }
    assert_eq!(told(&mut tells).await, "gone", "while it waits for the answer");

    let mut response = forward(&a, &to, "/body").await;
    assert_eq!(next_chunk(response.body_mut()).await, "o\n");
    assert_eq!(told(&mut tells).await, "body");
    drop(response);
    assert_eq!(told(&mut tells).await, "gone", "while the answer streams");
}

#[tokio::test]
async fn many_that_give_up_at_once_disturb_nobody_else() {
    let redis = Redis::start();
    let (routes, mut tells) = parking();
    let (a, _b, _claim, to) = pair(&redis, routes).await;
    let mut stays = forward(&a, &to, "/body").await;
    assert_eq!(told(&mut tells).await, "body");
    // Most are given up before the other node has looked at them.
    for _ in 0..20 {
        let mut leaving = Vec::new();
        for _ in 0..200 {
            let request = Request::builder().uri("/head").body(Body::empty()).unwrap();
            let mut request = Box::pin(a.peers().forward(&to, request));
            assert!(futures_util::poll!(&mut request).is_pending());
            leaving.push(request);
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(next_chunk(stays.body_mut()).await, "o\n");
    let again = a.peers().forward(&to, Request::builder().uri("/none").body(Body::empty()).unwrap()).await;
    assert_eq!(again.unwrap().status(), StatusCode::NOT_FOUND);
    // The connection is the same: what was parked on it is still there.
    assert!(futures_util::poll!(Box::pin(stays.body_mut().frame())).is_pending());
}

#[tokio::test]
async fn slow_reader_holds_up_nobody_else() {
    let redis = Redis::start();
    let endless = any(|| async {
        let chunks =
            futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 16 << 10])));
        Body::from_stream(chunks).into_response()
    });
    let small = any(|| async { "small" });
    let routes = Router::new().route("/endless", endless).route("/small", small);
    let (a, _b, _claim, to) = pair(&redis, routes).await;
    let mut slow = Vec::new();
    for _ in 0..64 {
        // Not one of these is read, beyond its head.
        slow.push(forward(&a, &to, "/endless").await);
    }
    assert_eq!(text(forward(&a, &to, "/small").await).await, "small");
}

#[tokio::test]
async fn node_with_another_secret_is_refused_and_so_is_everybody_else() {
    let redis = Redis::start();
    let files = tempfile::tempdir().unwrap();
    let start = |name: &'static str, secret: &'static str| {
        let file = files.path().join(name);
        std::fs::write(&file, secret).unwrap();
        let mut settings = settings(name, &redis);
        settings.cluster.secret_file = Some(file);
        join(settings, Router::new().route("/", any(|| async { "secret" })))
    };
    let a = start("a", "0123456789abcdef\n").await;
    let b = start("b", "0123456789abcdef").await;
    let stranger = start("stranger", "0123456789abcdeF").await;
    let _claim = claim(&b, "s").await;
    let to = find(&a, "s").await;
    assert_eq!(text(forward(&a, &to, "/").await).await, "secret", "white space around it means nothing");
    let request = || Request::new(Body::empty());
    let error = stranger.peers().forward(&to, request()).await.unwrap_err();
    assert_eq!(error, ForwardError::Refused);

    let address = to.url.strip_prefix("http://").unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let answer = sender.send_request(request()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(body.is_empty(), "{body:?}");
}

#[tokio::test]
async fn node_tells_nothing_to_whoever_has_the_address_of_another() {
    let redis = Redis::start();
    let (a, _b, _claim, to) = pair(&redis, Router::new()).await;
    // A node of the same cluster, with the same secret, where `a` looks for another.
    let c = start("c", &redis, Router::new()).await;
    let _claim = claim(&c, "c").await;
    let c = find(&a, "c").await;
    let moved = Destination { incarnation: "gone/1".into(), url: Arc::clone(&c.url) };
    let error = a.peers().forward(&moved, Request::new(Body::empty())).await.unwrap_err();
    assert_eq!(error, ForwardError::Refused);
    // Somebody who says yes to everything.
    let impostor = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", impostor.local_addr().unwrap());
    let (heard, mut hears) = mpsc::channel(10);
    tokio::spawn(async move {
        while let Ok((stream, _)) = impostor.accept().await {
            let heard = heard.clone();
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                heard.try_send(request.uri().path().to_owned()).unwrap();
                async { Ok::<_, std::convert::Infallible>(http::Response::new(Body::from("welcome"))) }
            });
            let executor = hyper_util::rt::TokioExecutor::new();
            let server = hyper::server::conn::http2::Builder::new(executor);
            tokio::spawn(server.serve_connection(hyper_util::rt::TokioIo::new(stream), service));
        }
    });
    let moved = Destination { incarnation: "b/2".into(), url: url.into() };
    let request = Request::builder().uri("/private").body(Body::empty()).unwrap();
    assert_eq!(a.peers().forward(&moved, request).await.unwrap_err(), ForwardError::Refused);
    assert_eq!(hears.recv().await.as_deref(), Some("/-/introduction"));
    assert!(hears.try_recv().is_err(), "it hears of no client");
    assert_eq!(forward(&a, &to, "/").await.status(), StatusCode::NOT_FOUND, "the real one is where it was");
}

#[tokio::test]
async fn longest_header_of_a_client_gets_through_and_a_longer_one_does_not() {
    let redis = Redis::start();
    let length = any(|request: Request| async move { request.headers()["x-long"].len().to_string() });
    let (a, _b, _claim, to) = pair(&redis, Router::new().route("/", length)).await;
    let request = |bytes: usize| {
        Request::builder().uri("/").header("x-long", "x".repeat(bytes)).body(Body::empty()).unwrap()
    };
    let bytes = HTTP_HEADER_BYTES_MAX;
    let response = a.peers().forward(&to, request(bytes)).await.unwrap();
    assert_eq!(text(response).await, bytes.to_string());
    let response = a.peers().forward(&to, request(PEER_HEADER_BYTES_MAX)).await;
    let is_refused = match &response {
        Ok(response) => response.status() == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Err(error) => matches!(error, ForwardError::Interrupted(_)),
    };
    assert!(is_refused, "{response:?}");
    let response = a.peers().forward(&to, request(1)).await.unwrap();
    assert_eq!(text(response).await, "1", "others go on");
}

#[tokio::test]
async fn node_that_does_not_answer_is_given_up_and_not_asked_again_at_once() {
    let redis = Redis::start();
    let (a, _b, _claim, _) = pair(&redis, Router::new()).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let to = Destination { incarnation: "silent/1".into(), url: url.into() };
    let forward = || a.peers().forward(&to, Request::new(Body::empty()));
    // The second waits for the same connection, or is told of its end.
    let (one, other) =
        tokio::time::timeout(PATIENCE, async { tokio::join!(forward(), forward()) }).await.unwrap();
    assert!(matches!(one, Err(ForwardError::Unreachable(_))), "{one:?}");
    assert!(matches!(other, Err(ForwardError::Unreachable(_))), "{other:?}");
    drop(silent.accept().await.unwrap());
    let more = futures_util::poll!(Box::pin(silent.accept()));
    assert!(more.is_pending(), "it was called once");
}

#[tokio::test]
async fn sessions_of_a_node_that_died_are_lost() {
    let redis = Redis::start();
    let a = start("a", &redis, Router::new()).await;
    // A runtime of its own, so that it can die by itself.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (routes, mut tells) = parking();
    let dying = settings("dying", &redis);
    let b = runtime.spawn(join(dying, routes)).await.unwrap();
    let claimed = claim(&b, "s").await;
    let to = find(&a, "s").await;
    let mut response = forward(&a, &to, "/body").await;
    assert_eq!(told(&mut tells).await, "body");
    assert_eq!(next_chunk(response.body_mut()).await, "o\n");
    // Its claims are not taken back: it dies.
    std::mem::forget(claimed);
    runtime.shutdown_background();
    let end = tokio::time::timeout(PATIENCE, response.body_mut().frame()).await.unwrap();
    assert!(matches!(end, Some(Err(_))), "{end:?}");
    let error = a.peers().forward(&to, Request::new(Body::empty())).await.unwrap_err();
    assert!(matches!(error, ForwardError::Unreachable(_) | ForwardError::Interrupted(_)), "{error:?}");
    until(&a, "s", |owner| *owner == Owner::Lost).await;
    assert!(matches!(a.peers().claim("s").await, Claimed::Lost | Claimed::Unknown(_)));
    drop(b);
}

#[tokio::test]
async fn node_that_came_a_moment_ago_is_found() {
    let redis = Redis::start();
    let (a, b, _claim, _) = pair(&redis, Router::new()).await;
    let c = start("c", &redis, Router::new().route("/", any(|| async { "c" }))).await;
    let _claim = claim(&c, "new").await;
    for node in [&a, &b] {
        assert_ne!(node.peers().owner_within("new", PATIENCE).await, Owner::Lost, "it is not dead but new");
        let to = find(node, "new").await;
        assert_eq!(text(forward(node, &to, "/").await).await, "c");
    }
}

#[tokio::test]
async fn what_redis_lost_is_told_again_and_the_nodes_agree_on_a_secret_again() {
    let redis = Redis::start();
    let (a, b, _claim, _) = pair(&redis, Router::new().route("/", any(|| async { "b" }))).await;
    redis.cli(&["flushall"]);
    a.peers().forget("s");
    let c = start("c", &redis, Router::new()).await;
    for node in [&a, &c] {
        let to = find(node, "s").await;
        assert_eq!(text(forward(node, &to, "/").await).await, "b");
    }
    drop(b);
}

#[tokio::test]
async fn sessions_begin_while_redis_is_away_and_are_found_when_it_is_back() {
    let redis = Redis::start();
    let (a, b, _claim, _) = pair(&redis, Router::new()).await;
    redis.stop();
    let claimed = b.peers().claim("new").await;
    assert!(matches!(claimed, Claimed::Unknown(_)), "{claimed:?}");
    assert_eq!(a.peers().owner("new").await, Owner::Unknown);
    redis.start_again();
    let to = find(&a, "new").await;
    assert!(to.incarnation.starts_with("b/"));
}

#[tokio::test]
async fn node_that_drains_gives_back_what_others_answer() {
    let redis = Redis::start();
    let (parks, mut tells) = mpsc::channel(10);
    let willing = any(move |request: Request| async move {
        let forwarded = request.extensions().get::<Forwarded>().unwrap().clone();
        parks.send("parked").await.unwrap();
        forwarded.released().await;
        "h\n"
    });
    let (parking, mut parked) = parking();
    let (a, _b, _claim, to) = pair(&redis, parking.route("/willing", willing)).await;
    let request = |path: &str| Request::builder().uri(path).body(Body::empty()).unwrap();
    let mut polls = Box::pin(a.peers().forward(&to, request("/willing")));
    assert!(futures_util::poll!(&mut polls).is_pending());
    let mut streams = forward(&a, &to, "/body").await;
    assert_eq!(told(&mut parked).await, "body");
    assert_eq!(next_chunk(streams.body_mut()).await, "o\n");
    let mut unwilling = Box::pin(a.peers().forward(&to, request("/head")));
    assert!(futures_util::poll!(&mut unwilling).is_pending());
    assert_eq!(told(&mut parked).await, "head");
    assert_eq!(told(&mut tells).await, "parked");

    a.drain().begin();
    let answer = tokio::time::timeout(PATIENCE, polls).await.unwrap().unwrap();
    assert_eq!(text(answer).await, "h\n", "the owner ended its answer, in its own words");
    let rest = tokio::time::timeout(PATIENCE, streams.body_mut().collect()).await.unwrap().unwrap();
    assert!(rest.to_bytes().is_empty(), "an owner that does not react is not waited for");
    let error = tokio::time::timeout(PATIENCE, unwilling).await.unwrap().unwrap_err();
    assert_eq!(error, ForwardError::Draining);
}

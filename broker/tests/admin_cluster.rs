//! What administrators see of a cluster: every node is asked, and who does not answer is named.

#[path = "support/nodes.rs"]
mod nodes;
mod support;

use std::sync::Arc;
use std::time::Duration;

use bongsu::admin::Admin;
use bongsu::peers::{AskError, Destination, ForwardError};
use bongsu_admin_api::resources::closes::{Closes as _, ClosesQuery};
use bongsu_admin_api::resources::connections::{Connections as _, ConnectionsQuery, Target};
use bongsu_admin_api::resources::nodes::{NodeList, Nodes as _};
use bongsu_admin_api::resources::trace::{Trace as _, TraceQuery, What};
use bongsu_admin_api::resources::users::{Users as _, UsersQuery};
use bongsu_persistence::memory::MemoryStore;
use bongsu_persistence::store::Store;
use bongsu_testkit::Redis;
use futures_util::StreamExt as _;
use nodes::TestNode;
use serde_json::json;
use support::PATIENCE;

const LEASE: Duration = Duration::from_secs(30);

/// How often something is looked at that should come to pass.
const LOOK: Duration = Duration::from_millis(20);

async fn cluster(redis: &Redis, names: &[&str]) -> Vec<TestNode> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let nodes: Vec<_> = names.iter().map(|name| TestNode::start(name, &redis.url(), LEASE, &store)).collect();
    for node in &nodes {
        node.registered().await;
    }
    nodes
}

/// Looks at the nodes until the list is as wanted.
async fn until(node: &TestNode, is_so: impl Fn(&NodeList) -> bool) -> NodeList {
    let admin = Admin::new(Arc::clone(&node.node));
    let look = async {
        loop {
            let list = admin.nodes().await.expect("it is known who is alive");
            if is_so(&list) {
                return list;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("in time")
}

fn names(list: &NodeList) -> Vec<&str> {
    list.nodes.iter().map(|node| node.name.as_str()).collect()
}

/// Where one node asks another.
fn destination(from: &TestNode, name: &str) -> Destination {
    let peers = from.node.cluster().nodes();
    let peer = peers.iter().find(|peer| peer.identity.name == name).expect("it is known");
    let url = peer.identity.peer_url.clone().expect("it has a gate");
    Destination { incarnation: peer.identity.incarnation().into(), url: url.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_shows_all_nodes_and_names_who_hangs_or_is_dead() {
    let redis = Redis::start();
    let mut nodes = cluster(&redis, &["a", "b", "c"]).await;
    for node in &nodes {
        let list = until(node, |list| list.nodes.len() == 3).await;
        assert_eq!(names(&list), ["a", "b", "c"]);
        assert_eq!(list.missing, [""; 0]);
    }
    let thaw = nodes[1].freeze().await;
    let list = until(&nodes[0], |list| !list.missing.is_empty()).await;
    assert_eq!((names(&list), list.missing.as_slice()), (vec!["a", "c"], &["b".to_owned()][..]));
    drop(thaw);
    until(&nodes[0], |list| names(list) == ["a", "b", "c"]).await;
    nodes.remove(2).kill().await;
    let list = until(&nodes[0], |list| !list.missing.is_empty()).await;
    assert_eq!((names(&list), list.missing.as_slice()), (vec!["a", "b"], &["c".to_owned()][..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_of_nodes_are_bounded_in_time_whoever_is_asked() {
    let redis = Redis::start();
    let nodes = cluster(&redis, &["a", "b"]).await;
    until(&nodes[0], |list| list.nodes.len() == 2).await;
    let peers = nodes[0].node.peers();
    let to = destination(&nodes[0], "b");
    // Nobody listens there.
    let dead = Destination { incarnation: "dead/1".into(), url: "http://127.0.0.1:1".into() };
    let error = peers.ask(&dead, "/$node/status").await.expect_err("nobody is there");
    assert!(matches!(error, AskError::Forward(ForwardError::Unreachable(_))), "{error:?}");
    // Somebody listens there and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    let hangs = Destination { incarnation: "hangs/1".into(), url: url.into() };
    let asked = tokio::time::timeout(PATIENCE, peers.ask(&hangs, "/$node/status")).await.expect("in time");
    assert!(
        matches!(asked, Err(AskError::Late | AskError::Forward(ForwardError::Unreachable(_)))),
        "{asked:?}"
    );
    // A node that was there, and stands still now.
    let thaw = nodes[1].freeze().await;
    let asked = tokio::time::timeout(PATIENCE, peers.ask(&to, "/$node/status")).await.expect("in time");
    assert_eq!(asked, Err(AskError::Late));
    drop(thaw);
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_of_nodes_reach_no_route_of_clients_and_clients_reach_no_question() {
    let redis = Redis::start();
    let nodes = cluster(&redis, &["a", "b"]).await;
    until(&nodes[0], |list| list.nodes.len() == 2).await;
    let (peers, to) = (nodes[0].node.peers(), destination(&nodes[0], "b"));
    for path in ["/$node/unheard-of", "/livez", "/sockjs/info"] {
        assert_eq!(peers.ask(&to, path).await, Err(AskError::Status(http::StatusCode::NOT_FOUND)), "{path}");
    }
    // A client's request for the same path stays one, also where it claims to be a question.
    let request = http::Request::builder().uri("/$node/status").header("bongsu-peer-asks", "1");
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).expect("a request");
    let forwarded = peers.forward(&to, request).await.expect("it is answered");
    assert_eq!(forwarded.status(), http::StatusCode::NOT_FOUND);
    let on_the_port_of_clients = support::get(nodes[1].address, "/$node/status").await;
    assert!(on_the_port_of_clients.starts_with("HTTP/1.1 404 "), "{on_the_port_of_clients}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_all_nodes_are_listed_in_pages_and_found_wherever_they_are() {
    let redis = Redis::start();
    let nodes = cluster(&redis, &["a", "b", "c"]).await;
    until(&nodes[1], |list| list.nodes.len() == 3).await;
    let mut clients = Vec::new();
    for node in nodes.iter().rev() {
        for _ in 0..3 {
            let mut client = node.connect().await;
            client.subscribe("t", json!("latest")).await;
            clients.push(client);
        }
    }
    let admin = Admin::new(Arc::clone(&nodes[1].node));
    for limit in [1, 2, 3, 4, 8, 9] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let limit = serde_json::from_value(json!(limit)).expect("it is one");
            let query = ConnectionsQuery { after, limit: Some(limit), ..ConnectionsQuery::default() };
            let page = admin.connections(query).await.expect("a page");
            assert!(page.missing.is_empty() && page.connections.len() <= limit.get());
            seen.extend(page.connections.into_iter().map(|connection| (connection.node, connection.session)));
            let Some(next) = page.next else { break };
            after = Some(serde_json::from_value(json!(next)).expect("it is one"));
        }
        let names: Vec<&str> = seen.iter().map(|(node, _)| node.as_str()).collect();
        assert_eq!(names, ["a", "a", "a", "b", "b", "b", "c", "c", "c"], "pages of {limit}");
        for (_, session) in &seen {
            assert_eq!(
                admin.connection(session.clone()).await.map(|found| found.connection.session).as_ref(),
                Ok(session)
            );
        }
    }
    let users = admin.users(UsersQuery::default()).await.expect("they answer");
    assert_eq!((users.users[0].connections, users.users[0].nodes.len()), (9, 3));
    // What happens on another node is followed from here.
    let query = TraceQuery { topic: Some("t".to_owned()), ..TraceQuery::default() };
    let mut trace = admin.trace(query).await.expect("there is room");
    let mut follows: Vec<String> = Vec::new();
    while follows.len() < 3 {
        follows.push(trace.next().await.expect("it goes on").node);
    }
    follows.sort();
    assert_eq!(follows, ["a", "b", "c"]);
    clients[0].publish("t", json!(1)).await;
    let published = async {
        loop {
            let event = trace.next().await.expect("it goes on");
            if event.what == What::In {
                return event;
            }
        }
    };
    let published = tokio::time::timeout(PATIENCE, published).await.expect("in time");
    assert_eq!((published.node.as_str(), published.frame.as_deref()), ("c", Some("publish")));
    // Somebody ends a connection of another node.
    let first =
        admin.connections(ConnectionsQuery::default()).await.expect("a page").connections[0].session.clone();
    admin
        .disconnect("ada".to_owned(), Target::Session(first.clone()), "bye".to_owned())
        .await
        .expect("it is issued");
    let ended = async {
        loop {
            let closes = admin.closes(ClosesQuery::default()).await.expect("they answer").closes;
            if let Some(close) = closes.into_iter().find(|close| close.session == first) {
                return close;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let ended = tokio::time::timeout(PATIENCE, ended).await.expect("in time");
    assert_eq!((ended.node.as_str(), ended.reason.as_str(), ended.text.as_str()), ("a", "kicked", "bye"));
}

//! A node that keeps its logs in Postgres.

mod support;

use bongsu_testkit::Postgres;
use serde_json::json;
use support::Broker;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_serves_from_postgres_survives_a_restart_and_tells_what_sql_publishes() {
    let server = Postgres::start();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("postgres.url={}", server.url());
    let live = "topics=[{filter='live/#', kind='live'}]";
    let mut broker = Broker::start(folder.path(), &[&url, live]);
    let position = broker.connect().await.publish("t", json!("before")).await;
    assert_eq!(position["offset"], json!(1));
    broker.kill();

    // The address may stand in a file.
    let file = folder.path().join("postgres.url");
    std::fs::write(&file, format!("{}\n", server.url())).unwrap();
    let broker = Broker::start(folder.path(), &[&format!("postgres.url_file={}", file.display()), live]);
    let mut reader = broker.connect().await;
    reader.subscribe("t", json!("earliest")).await;
    reader.subscribe("live/x", json!("latest")).await;
    assert_eq!(reader.delivery().await["data"], json!("before"));
    server.sql("begin; select bongsu.publish('t', '{\"paid\": 42}'::jsonb); select bongsu.publish('live/x', '\"now\"'::jsonb); commit");
    server.sql("select bongsu.publish('t', '\"after\"'::jsonb)");
    let mut durable = Vec::new();
    let mut of_live_topic = Vec::new();
    while durable.len() < 2 || of_live_topic.is_empty() {
        let delivery = reader.delivery().await;
        match delivery["topic"].as_str().unwrap() {
            "t" => durable.push((delivery["offset"].clone(), delivery["data"].clone())),
            _ => of_live_topic.push((delivery["offset"].clone(), delivery["data"].clone())),
        }
    }
    assert_eq!(durable, [(json!(2), json!({ "paid": 42 })), (json!(3), json!("after"))]);
    assert_eq!(of_live_topic, [(json!(null), json!("now"))]);
}

//! Keys behind a URL: rotated, away, and hostile.

use std::time::Duration;

use super::issuer::{Key, KeyServer};
use super::support::http::ask;
use super::support::{Broker, PATIENCE};

fn start(server: &KeyServer, more: &str) -> (tempfile::TempDir, Broker) {
    let data = tempfile::tempdir().unwrap();
    let url = format!("http://{}/keys", server.address);
    let issuer = format!(
        "auth.issuers=[{{ name = \"id\", issuer = \"https://id\", jwks_url = \"{url}\", publish = [\"#\"], {more} }}]"
    );
    let broker = Broker::start(data.path(), &[&issuer]);
    (data, broker)
}

/// The status of a publish with this token.
fn publish(broker: &Broker, token: &str) -> u16 {
    let headers = [("authorization", &*format!("Bearer {token}"))];
    ask(broker.address, "POST", "/v1/publish", &headers, r#"{"topic":"a","data":1}"#).status
}

/// Asks again until the status is this one.
async fn becomes(broker: &Broker, token: &str, expected: u16) {
    let begun = std::time::Instant::now();
    loop {
        let status = publish(broker, token);
        if status == expected {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{status}, not {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn keys_are_rotated_without_a_restart_and_a_flood_of_unknown_ones_asks_nobody() {
    let (first, second) = (Key::new("one"), Key::new("two"));
    let server = KeyServer::start(&[&first]);
    let (_data, broker) = start(&server, "jwks_cooldown = \"1s\"");
    becomes(&broker, &first.sign("ann"), 200).await;
    server.publish(&[&first, &second]);
    becomes(&broker, &second.sign("ann"), 200).await;
    assert_eq!(publish(&broker, &first.sign("ann")), 200, "both are good for a while");
    server.publish(&[&second]);
    // Whoever asks for a key that is not there has the set fetched.
    let stranger = Key::new("three");
    let begun = std::time::Instant::now();
    while publish(&broker, &first.sign("ann")) != 401 {
        assert_eq!(publish(&broker, &stranger.sign("eve")), 401);
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(publish(&broker, &second.sign("ann")), 200);
    // Another's key under a known name is another's key.
    assert_eq!(publish(&broker, &stranger.sign_as("two", "ann")), 401);
}

#[tokio::test]
async fn a_flood_of_unknown_keys_makes_one_request() {
    let key = Key::new("one");
    let server = KeyServer::start(&[&key]);
    let (_data, broker) = start(&server, "jwks_cooldown = \"10m\"");
    becomes(&broker, &key.sign("ann"), 200).await;
    let asked = server.n_asked();
    for idx in 0..200 {
        assert_eq!(publish(&broker, &key.sign_as(&format!("unknown-{idx}"), "ann")), 401);
    }
    assert_eq!(server.n_asked(), asked, "it was fetched a moment ago");
    assert_eq!(publish(&broker, &key.sign("ann")), 200);
}

#[tokio::test]
async fn the_last_good_set_holds_while_the_server_is_away_or_hostile() {
    let key = Key::new("one");
    let server = KeyServer::start(&[&key]);
    let (_data, broker) = start(&server, "jwks_cooldown = \"100ms\"");
    becomes(&broker, &key.sign("ann"), 200).await;
    let double = format!(r#"{{"keys":[{0},{0}]}}"#, key.jwk());
    let secret = r#"{"keys":[{"kty":"oct","kid":"one","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#;
    let huge = format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(1 << 20));
    for (status, body) in [
        ("500 Internal Server Error", ""),
        ("302 Found", ""),
        ("200 OK", "<html>"),
        ("200 OK", r#"{"keys":[]}"#),
        ("200 OK", &double),
        ("200 OK", secret),
        ("200 OK", &huge),
    ] {
        server.say(status, body);
        let failures = broker.counter("bongsu_jwks_failures_total").await;
        let begun = std::time::Instant::now();
        // Tokens with an unknown key have it asked for.
        while broker.counter("bongsu_jwks_failures_total").await == failures {
            assert_eq!(publish(&broker, &Key::new("two").sign("eve")), 401, "{status} {body:.40}");
            assert!(begun.elapsed() < PATIENCE, "{status} {body:.40}");
        }
        assert_eq!(publish(&broker, &key.sign("ann")), 200, "{status} {body:.40}");
    }
    assert!(broker.counter("bongsu_jwks_keys_refused_total").await >= 1, "a secret in public is counted");
}

#[tokio::test]
async fn a_node_starts_without_the_server_and_says_that_nobody_can_tell() {
    let key = Key::new("one");
    let server = KeyServer::start(&[&key]);
    server.say("503 Service Unavailable", "");
    let (_data, broker) = start(&server, "jwks_cooldown = \"100ms\"");
    assert_eq!(publish(&broker, &key.sign("ann")), 503);
    server.publish(&[&key]);
    becomes(&broker, &key.sign("ann"), 200).await;
}

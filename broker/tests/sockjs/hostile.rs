//! Clients that mean harm, or know no better.

use super::server::{PATIENCE, Server};
use bongsu::config::AllowedOrigin;

#[tokio::test]
async fn garbage_is_refused_and_the_session_goes_on() {
    let server = Server::start();
    server.post("/echo/0/s/xhr", "").await;
    for garbage in
        ["\u{0}", "[[[[[[[[[[[[[[[[", "nulltruefalse", "[\"a\" \"b\"]", "[\"\\uZZZZ\"]", "\"text\""]
    {
        assert_eq!(server.post("/echo/0/s/xhr_send", garbage).await.status, 500, "{garbage:?}");
    }
    assert_eq!(server.post("/echo/0/s/xhr_send", "[\"still here\"]").await.status, 204);
    assert_eq!(server.post("/echo/0/s/xhr", "").await.body, "a[\"still here\"]\n");
}

#[tokio::test]
async fn bodies_and_lists_past_their_bounds_are_refused() {
    let server = Server::start();
    server.post("/echo/0/s/xhr", "").await;
    let giant = format!("[\"{}\"]", "x".repeat(2 << 20));
    assert_eq!(server.post("/echo/0/s/xhr_send", &giant).await.status, 413);
    let many = format!("[{}\"\"]", "\"\",".repeat(100_000));
    assert_eq!(server.post("/echo/0/s/xhr_send", &many).await.status, 413);
    // Nobody reads what is sent to no session.
    let mut client = server.client().await;
    client
        .send("POST /echo/0/nobody/xhr_send HTTP/1.1\r\nhost: a\r\ncontent-length: 9000000000\r\n\r\n[")
        .await;
    assert_eq!(client.head().await.status, 404);
}

#[tokio::test]
async fn a_body_that_never_comes_holds_nobody_up() {
    let server = Server::start();
    server.post("/echo/0/s/xhr", "").await;
    let mut slow = server.client().await;
    slow.send("POST /echo/0/s/xhr_send HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n[\"").await;
    assert_eq!(server.post("/echo/0/s/xhr_send", "[\"fast\"]").await.status, 204);
    assert_eq!(server.post("/echo/0/s/xhr", "").await.body, "a[\"fast\"]\n");
    slow.send("a\"]").await;
    assert_eq!(slow.head().await.status, 204);
    assert_eq!(server.post("/echo/0/s/xhr", "").await.body, "a[\"a\"]\n");
}

#[tokio::test]
async fn ten_thousand_names_take_no_more_than_there_are_places() {
    let server = Server::start_with(|settings| {
        settings.http.allowed_origins = vec![AllowedOrigin::Any];
        settings.limits.connections = 200;
        settings.sockjs.disconnect_delay = std::time::Duration::from_millis(100);
    });
    let mut client = server.client().await;
    let (mut begun, mut refused) = (0, 0);
    for n in 0..10_000 {
        let answer = client.ask("POST", &format!("/echo/0/name{n}/xhr"), "", "").await;
        match answer.status {
            200 => begun += 1,
            503 => {
                assert_eq!(answer.header("retry-after"), "1");
                refused += 1;
            }
            status => panic!("{status}"),
        }
        assert!(server.node.connections() <= 200);
    }
    assert!(begun >= 199 && begun + refused == 10_000, "{begun} begun, {refused} refused");
    // They end, and there is room again.
    let at = std::time::Instant::now();
    while server.node.connections() > 1 {
        assert!(at.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
    assert_eq!(client.ask("POST", "/echo/0/name1/xhr", "", "").await.body, "o\n");
}

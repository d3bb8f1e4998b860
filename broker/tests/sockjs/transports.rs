//! Each transport's own bytes.

use super::server::Server;

const NOT_KEPT: &str = "no-store, no-cache, no-transform, must-revalidate, max-age=0";

// SJ-21, SJ-23, SJ-31, SJ-32
#[tokio::test]
async fn polls_get_a_frame_each_and_sends_are_answered_with_204() {
    let server = Server::start();
    let open = server.ask("POST", "/echo/000/s/xhr?t=1", "origin: test\r\n", "").await;
    assert_eq!((open.status, &*open.body), (200, "o\n"));
    assert_eq!(open.header("content-type"), "application/javascript; charset=UTF-8");
    assert_eq!(open.header("cache-control"), NOT_KEPT);
    assert_eq!(open.header("access-control-allow-origin"), "test");
    assert_eq!(open.header("access-control-allow-credentials"), "true");
    assert_eq!(open.header("x-accel-buffering"), "no");
    for kind in ["text/plain", "T", "application/json", "application/xml", "", "text/xml; charset=utf-8"] {
        let lines = format!("content-type: {kind}\r\n");
        let sent = server.ask("POST", "/echo/000/s/xhr_send", &lines, "[\"a\"]").await;
        assert_eq!((sent.status, &*sent.body), (204, ""), "{kind}");
        assert_eq!(sent.header("content-type"), "text/plain; charset=UTF-8");
        assert_eq!(sent.header("cache-control"), NOT_KEPT);
    }
    assert_eq!(server.post("/echo/999/s/xhr_send", "[]").await.status, 204);
    let polled = server.post("/echo/999/s/xhr", "").await;
    assert!(polled.body.starts_with("a[\"a\"") && polled.body.ends_with("]\n"), "{}", polled.body);
}

// SJ-23
#[tokio::test]
async fn what_is_no_list_of_texts_is_refused_in_the_words_of_the_protocol() {
    let server = Server::start();
    server.post("/echo/0/s/xhr", "").await;
    for (body, text) in [
        ("[\"x", "Broken JSON encoding."),
        ("", "Payload expected."),
        ("{}", "Payload expected."),
        ("[1]", "Payload expected."),
    ] {
        let answer = server.post("/echo/0/s/xhr_send", body).await;
        assert_eq!((answer.status, &*answer.body), (500, text), "{body}");
    }
    assert_eq!(server.post("/echo/0/nobody/xhr_send", "[\"a\"]").await.status, 404);
    // SJ-13: halves of pairs are no error, and a whole pair is one character.
    assert_eq!(server.post("/echo/0/s/xhr_send", "[\"\\ud83d\\ude00\", \"\\ud83d\"]").await.status, 204);
    assert_eq!(server.post("/echo/0/s/xhr", "").await.body, "a[\"\\ud83d\\ude00\",\"\\ufffd\"]\n");
}

// SJ-22
#[tokio::test]
async fn a_stream_has_its_prelude_and_each_frame_in_chunks_of_their_own_and_ends_at_its_limit() {
    let server = Server::start();
    let mut stream = server.stream("POST", "/echo/000/s/xhr_streaming").await;
    assert_eq!(stream.chunk().await, format!("{}\n", "h".repeat(2048)));
    assert_eq!(stream.chunk().await, "o\n");
    let text = "x".repeat(128);
    for _ in 0..31 {
        let sent = server.post("/echo/000/s/xhr_send", &format!("[\"{text}\"]")).await;
        assert_eq!(sent.status, 204);
        assert_eq!(stream.chunk().await, format!("a[\"{text}\"]\n"));
    }
    assert_eq!(stream.chunk().await, "");
    // The session waits for the next request.
    server.post("/echo/000/s/xhr_send", "[\"next\"]").await;
    assert_eq!(server.post("/echo/000/s/xhr", "").await.body, "a[\"next\"]\n");
}

// SJ-24
#[tokio::test]
async fn an_event_source_gets_events() {
    let server = Server::start();
    let mut stream = server.client().await;
    stream.send(&stream.request("1.1", "GET", "/echo/000/s/eventsource", "", "")).await;
    let head = stream.head().await;
    assert_eq!((head.status, head.header("content-type")), (200, "text/event-stream"));
    assert_eq!((head.header("cache-control"), head.header("vary")), (NOT_KEPT, "origin"));
    assert_eq!(stream.chunk().await, "\r\n");
    assert_eq!(stream.chunk().await, "data: o\r\n\r\n");
    server.post("/echo/000/s/xhr_send", r#"["  \u0000\n\r %"]"#).await;
    assert_eq!(stream.chunk().await, "data: a[\"  \\u0000\\n\\r %25\"]\r\n\r\n");
    server.post("/echo/000/s/xhr_send", &format!("[\"{}\"]", "x".repeat(4096))).await;
    assert!(stream.chunk().await.starts_with("data: a[\"xxx"));
    assert_eq!(stream.chunk().await, "");
}

// SJ-25
#[tokio::test]
async fn an_html_file_is_a_page_of_scripts() {
    let server = Server::start();
    let mut stream = server.stream("GET", "/echo/000/s/htmlfile?c=%63allback").await;
    let head = stream.chunk().await;
    assert!(head.len() > 1024 && head.contains("var c = parent.callback;") && head.ends_with("\r\n\r\n"));
    assert_eq!(stream.chunk().await, "<script>\np(\"o\");\n</script>\r\n");
    server.post("/echo/000/s/xhr_send", "[\"</script>\"]").await;
    assert_eq!(stream.chunk().await, "<script>\np(\"a[\\\"\\u003c/script>\\\"]\");\n</script>\r\n");
}

// SJ-25, SJ-26
#[tokio::test]
async fn a_callback_that_is_no_name_is_refused() {
    let server = Server::start();
    for path in ["/echo/a/a/htmlfile", "/echo/a/a/jsonp"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, &*answer.body), (500, "\"callback\" parameter required"));
        for bad in ["%20", "*", "abc(", "abc%28", &"x".repeat(33)] {
            let answer = server.get(&format!("{path}?c={bad}")).await;
            assert_eq!((answer.status, &*answer.body), (500, "invalid \"callback\" parameter"), "{bad}");
        }
    }
}

// SJ-26, SJ-27, SJ-33
#[tokio::test]
async fn scripts_poll_and_forms_send_and_the_cookie_comes_back() {
    let server = Server::start();
    let service = "/cookie_needed_echo/000/s";
    let open = server.get(&format!("{service}/jsonp?callback=f.g")).await;
    assert_eq!(open.body, "/**/f.g(\"o\");\r\n");
    assert_eq!(open.header("content-type"), "application/javascript; charset=UTF-8");
    assert_eq!(open.header("x-content-type-options"), "nosniff");
    assert_eq!(open.header("set-cookie"), "JSESSIONID=dummy; path=/");
    let form = "content-type: application/x-www-form-urlencoded\r\ncookie: a=b; JSESSIONID=abcdef\r\n";
    let path = format!("{service}/jsonp_send");
    let sent = server.ask("POST", &path, form, "d=%5B%22abc%22%5D").await;
    assert_eq!((sent.status, &*sent.body), (200, "ok"));
    assert_eq!(sent.header("content-type"), "text/plain; charset=UTF-8");
    assert_eq!(sent.header("set-cookie"), "JSESSIONID=abcdef; path=/");
    server.ask("POST", &path, "content-type: text/plain\r\n", "[\"%61bc\"]").await;
    let polled = server.get(&format!("{service}/jsonp?c=x")).await;
    assert!(polled.body.starts_with("/**/x(\"a[\\\"abc\\\""), "{}", polled.body);
    for (body, text) in
        [("d=%5B%22x", "Broken JSON encoding."), ("d=", "Payload expected."), ("p=p", "Payload expected.")]
    {
        let answer = server.ask("POST", &path, form, body).await;
        assert_eq!((answer.status, &*answer.body), (500, text), "{body}");
    }
}

// SJ-35
#[tokio::test]
async fn a_stream_for_http_1_0_ends_with_its_connection() {
    let server = Server::start();
    let mut old = server.client().await;
    old.send(&old.request("1.0", "POST", "/close/000/s/xhr_streaming", "connection: keep-alive\r\n", ""))
        .await;
    let head = old.head().await;
    assert_eq!((head.header("transfer-encoding"), head.header("content-length")), ("", ""));
    let rest = old.rest().await;
    assert_eq!(rest[2049..], *"o\nc[3000,\"Go away!\"]\n");
}

//! What needs no session: the greeting, `/info`, the iframe page, preflights, errors.

use bongsu::config::AllowedOrigin;

use super::server::{Answer, Server};

const NOT_KEPT: &str = "no-store, no-cache, no-transform, must-revalidate, max-age=0";

fn assert_kept(answer: &Answer) {
    assert_eq!(answer.header("cache-control"), "public, max-age=31536000");
    assert!(answer.header("expires").ends_with(" GMT"));
    assert_eq!(answer.header("last-modified"), "");
}

// SJ-1
#[tokio::test]
async fn the_greeting_is_the_same_for_every_http() {
    let server = Server::start();
    let mut client = server.client().await;
    for path in ["/echo", "/echo/"] {
        let answer = client.ask("GET", path, "", "").await;
        assert_eq!((answer.status, &*answer.body), (200, "Welcome to SockJS!\n"));
        assert_eq!(answer.header("content-type"), "text/plain; charset=UTF-8");
        assert_eq!((answer.header("content-length"), answer.header("set-cookie")), ("19", ""));
    }
    let mut old = server.client().await;
    old.send(&old.request("1.0", "GET", "/echo", "", "")).await;
    let answer = old.head().await;
    assert_eq!(answer.header("transfer-encoding"), "");
    assert_eq!(old.rest().await, "Welcome to SockJS!\n");
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
    assert_eq!(server.ask("GET", "/echo", upgrade, "").await.status, 400);
}

// SJ-2, SJ-31, SJ-32, SJ-33
#[tokio::test]
async fn info_is_fresh_each_time_and_sets_no_cookie() {
    let server = Server::start();
    let ask = async || {
        let answer = server.ask("GET", "/cookie_needed_echo/info?t=1", "origin: null\r\n", "").await;
        assert_eq!(answer.header("content-type"), "application/json; charset=UTF-8");
        assert_eq!(answer.header("cache-control"), NOT_KEPT);
        assert_eq!((answer.header("set-cookie"), answer.header("expires")), ("", ""));
        assert_eq!(answer.header("access-control-allow-origin"), "null");
        assert_eq!(answer.header("access-control-allow-credentials"), "true");
        assert_eq!(answer.header("vary"), "origin");
        serde_json::from_str::<serde_json::Value>(&answer.body).unwrap()
    };
    let (first, second) = (ask().await, ask().await);
    assert_eq!((&first["websocket"], &first["cookie_needed"]), (&true.into(), &true.into()));
    assert_eq!(first["origins"], serde_json::json!(["*:*"]));
    assert!(first["entropy"].is_u64() && first["entropy"] != second["entropy"]);
    let off = server.get("/disabled_websocket_echo/info").await;
    assert!(off.body.contains("\"websocket\":false"));
    assert_eq!(off.header("access-control-allow-origin"), "*");
    assert_eq!(off.header("access-control-allow-credentials"), "");
}

// SJ-3, SJ-28, SJ-30
#[tokio::test]
async fn a_preflight_is_kept_and_allows_what_was_asked_for() {
    let server = Server::start();
    let paths = [
        ("/echo/info", "OPTIONS, GET"),
        ("/echo/a/b/xhr", "OPTIONS, POST"),
        ("/echo/a/b/xhr_send", "OPTIONS, POST"),
        ("/echo/a/b/xhr_streaming", "OPTIONS, POST"),
    ];
    for (path, methods) in paths {
        let lines = "origin: http://a.example\r\naccess-control-request-headers: a, b, c\r\n";
        let answer = server.ask("OPTIONS", path, lines, "").await;
        assert_eq!((answer.status, &*answer.body), (204, ""), "{path}");
        assert_eq!(answer.header("access-control-allow-methods"), methods);
        assert_eq!(answer.header("access-control-allow-headers"), "a, b, c");
        assert_eq!(answer.header("access-control-max-age"), "31536000");
        assert_eq!(answer.header("access-control-allow-origin"), "http://a.example");
        assert_kept(&answer);
        let empty = server.ask("OPTIONS", path, "access-control-request-headers:\r\n", "").await;
        assert_eq!(empty.header("access-control-allow-headers"), "");
    }
}

// SJ-4, SJ-30
#[tokio::test]
async fn the_iframe_page_is_kept_and_known_by_its_tag() {
    let server = Server::start_with(|settings| {
        settings.http.allowed_origins = vec![AllowedOrigin::Any];
    });
    let page = server.get("/echo/iframe-0.1.2abc-dirty.2144.html?t=1").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=UTF-8"));
    assert_kept(&page);
    assert_eq!((page.header("x-frame-options"), page.header("set-cookie")), ("", ""));
    assert!(page.body.contains(&server.node.settings().sockjs.client_url.as_str().to_owned()));
    let lines = format!("if-none-match: {}\r\n", page.header("etag"));
    let known = server.ask("GET", "/echo/iframe.html", &lines, "").await;
    assert_eq!((known.status, &*known.body, known.header("content-type")), (304, "", ""));
    for path in ["/iframe.htm", "/iframe", "/IFRAME.HTML", "/iframe.HTML", "/iframe.xml", "/iframe-/.html"] {
        assert_eq!(server.get(&format!("/echo{path}")).await.status, 404, "{path}");
    }
}

// SJ-4, SJ-32
#[tokio::test]
async fn where_only_some_sites_may_connect_others_are_refused_and_what_tells_no_site_is_not_there() {
    let listed = Server::start_with(|settings| {
        settings.http.allowed_origins = vec![AllowedOrigin::Exact("https://a.example".to_owned())];
    });
    let with = async |server: &Server, method: &str, path: &str, lines: &str| {
        server.ask(method, path, lines, "").await.status
    };
    for (method, path) in [("GET", "/echo/info"), ("POST", "/echo/a/b/xhr"), ("OPTIONS", "/echo/a/b/xhr")] {
        assert_eq!(with(&listed, method, path, "origin: https://b.example\r\n").await, 403, "{path}");
        assert!(with(&listed, method, path, "origin: https://a.example\r\n").await < 300, "{path}");
    }
    for path in ["/echo/iframe.html", "/echo/a/b/htmlfile?c=f", "/echo/a/b/jsonp?c=f"] {
        assert_eq!(with(&listed, "GET", path, "").await, 404, "{path}");
    }
    // Nobody said which sites: those of this host.
    let own = Server::start_with(|_| {});
    assert_eq!(with(&own, "GET", "/echo/info", "origin: https://a.example\r\n").await, 403);
    assert_eq!(own.get("/echo/iframe.html").await.header("x-frame-options"), "SAMEORIGIN");
    let site = |site: &str| format!("sec-fetch-site: {site}\r\n");
    assert_eq!(with(&own, "GET", "/echo/a/b/jsonp?c=f", &site("cross-site")).await, 404);
    assert_eq!(with(&own, "GET", "/echo/a/b/jsonp?c=f", &site("same-origin")).await, 200);
}

// SJ-6, SJ-7, SJ-8
#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let server = Server::start();
    for path in [
        "/a",
        "/a.html",
        "//",
        "///",
        "/a/a",
        "/a/a/",
        "//a/xhr",
        "/a//xhr",
        "/a./a/xhr",
        "/a/a./xhr",
        "/a/b/c/xhr",
    ] {
        assert_eq!(server.get(&format!("/echo{path}")).await.status, 404, "{path}");
        assert_eq!(server.post(&format!("/echo{path}"), "").await.status, 404, "{path}");
    }
    let name = "x".repeat(129);
    assert_eq!(server.post(&format!("/echo/a/{name}/xhr"), "").await.status, 404);
    assert_eq!(server.post("/echo/a/b;c.bat/xhr", "").await.status, 404);
    assert_eq!(server.post("/echo/a/b/xhr;c.bat", "").await.status, 404);
    let refused = [
        ("POST", "/echo/info", "OPTIONS, GET"),
        ("GET", "/echo/a/b/xhr", "OPTIONS, POST"),
        ("POST", "/echo/a/b/websocket", "GET"),
        ("DELETE", "/echo/a/b/jsonp_send", "POST"),
        ("POST", "/echo/websocket", "GET"),
    ];
    for (method, path, allowed) in refused {
        let answer = server.ask(method, path, "", "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, allowed), "{method} {path}");
        assert_eq!((&*answer.body, answer.header("content-type")), ("", ""), "{method} {path}");
    }
}

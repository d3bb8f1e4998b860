use super::*;

/// The key and accept key that RFC 6455, 1.3 shows.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn settings() -> Settings {
    Settings {
        subprotocols: &["bongsu.v1.json", "bongsu.v1.proto"],
        choice: Choice::Clients,
        default_subprotocol: Some("bongsu.v1.json"),
        origins: Origins::SameHost,
        own_hosts: OwnHosts::Any,
        deflate: Deflate::On,
    }
}

/// A request that is accepted, with headers replaced, removed (empty value) or, where the name begins with `+`, added.
fn request(uri: &str, changes: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::get(uri).body(()).unwrap();
    let headers = request.headers_mut();
    let usual = [
        ("host", "broker.example"),
        ("upgrade", "websocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-key", KEY),
        ("sec-websocket-version", "13"),
    ];
    for (name, value) in usual.iter().chain(changes) {
        let value = HeaderValue::from_str(value).unwrap();
        if let Some(name) = name.strip_prefix('+') {
            headers.append(HeaderName::try_from(name).unwrap(), value);
        } else if value.is_empty() {
            headers.remove(*name);
        } else {
            headers.insert(HeaderName::try_from(*name).unwrap(), value);
        }
    }
    request
}

#[track_caller]
fn accepted(uri: &str, changes: &[(&str, &str)]) -> Accepted {
    check(&request(uri, changes), &settings()).unwrap()
}

#[track_caller]
fn status(uri: &str, changes: &[(&str, &str)]) -> u16 {
    check(&request(uri, changes), &settings()).unwrap_err().status.as_u16()
}

fn token(uri: &str, changes: &[(&str, &str)]) -> Option<(String, Source)> {
    accepted(uri, changes).token.map(|token| (token.text, token.source))
}

#[test]
fn the_example_of_the_rfc_is_answered_as_there() {
    let response: Response<String> = accepted("/", &[]).response();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["sec-websocket-accept"], ACCEPT);
    assert_eq!(response.headers()["upgrade"], "websocket");
    assert_eq!(response.headers()["connection"], "upgrade");
    assert_eq!(response.headers().len(), 3);
}

#[test]
fn header_lists_are_read_in_any_case_and_over_several_lines() {
    accepted("/", &[("upgrade", "h2c, WebSocket"), ("connection", "UPGRADE")]);
    accepted("/", &[("connection", "keep-alive"), ("+connection", "upgrade")]);
}

#[test]
fn a_plain_get_is_told_to_upgrade() {
    for changes in
        [[("upgrade", "")], [("connection", "")], [("connection", "keep-alive")], [("upgrade", "h2c")]]
    {
        let rejected = check(&request("/", &changes), &settings()).unwrap_err();
        let response: Response<String> = rejected.response();
        assert_eq!(response.status(), 426);
        assert_eq!(response.headers()["upgrade"], "websocket");
        assert!(response.body().contains("Upgrade: websocket"));
    }
    let mut post = request("/", &[]);
    *post.method_mut() = Method::POST;
    assert_eq!(check(&post, &settings()).unwrap_err().status, 426);
    let mut old = request("/", &[]);
    *old.version_mut() = Version::HTTP_10;
    assert_eq!(check(&old, &settings()).unwrap_err().status, 426);
}

#[test]
fn another_version_is_told_which_is_spoken() {
    for changes in [&[("sec-websocket-version", "8")][..], &[("sec-websocket-version", "")]] {
        let response: Response<String> = check(&request("/", changes), &settings()).unwrap_err().response();
        assert_eq!(response.status(), 426);
        assert_eq!(response.headers()["sec-websocket-version"], "13");
    }
}

#[test]
fn malformed_keys_and_hosts_are_bad_requests() {
    assert_eq!(status("/", &[("sec-websocket-key", "")]), 400);
    assert_eq!(status("/", &[("sec-websocket-key", "c2hvcnQ=")]), 400);
    assert_eq!(status("/", &[("sec-websocket-key", "not base64")]), 400);
    assert_eq!(status("/", &[("+sec-websocket-key", KEY)]), 400);
    assert_eq!(status("/", &[("host", "")]), 400);
    assert_eq!(status("/", &[("+host", "other.example")]), 400);
}

#[test]
fn the_clients_first_known_subprotocol_is_echoed() {
    let accepted = accepted("/", &[("sec-websocket-protocol", "mqtt, bongsu.v1.proto, bongsu.v1.json")]);
    assert_eq!(accepted.subprotocol, Some("bongsu.v1.proto"));
    assert_eq!(accepted.headers["sec-websocket-protocol"], "bongsu.v1.proto");
}

#[test]
fn no_offer_means_the_default_without_a_header() {
    let accepted = accepted("/", &[]);
    assert_eq!(accepted.subprotocol, Some("bongsu.v1.json"));
    assert!(!accepted.headers.contains_key("sec-websocket-protocol"));
    let strict = Settings { default_subprotocol: None, ..settings() };
    assert_eq!(check(&request("/", &[]), &strict).unwrap_err().status, 400);
    let echo = Settings { subprotocols: &[], default_subprotocol: None, ..settings() };
    assert_eq!(check(&request("/", &[]), &echo).unwrap().subprotocol, None);
}

#[test]
fn unknown_subprotocols_are_refused_with_the_known_ones_named() {
    for offer in ["mqtt", "BONGSU.V1.JSON", "bearer.YWJj"] {
        let request = request("/", &[("sec-websocket-protocol", offer)]);
        let rejected = check(&request, &settings()).unwrap_err();
        assert_eq!(rejected.status, 400);
        assert!(rejected.text.contains("bongsu.v1.json, bongsu.v1.proto"), "{rejected}");
    }
}

#[test]
fn where_the_choice_is_ours_the_best_offer_is_taken_and_unknown_ones_are_passed_over() {
    let stomp = Settings {
        subprotocols: &["v12.stomp", "v11.stomp", "v10.stomp"],
        choice: Choice::Ours,
        default_subprotocol: None,
        ..settings()
    };
    for (offer, taken) in [
        ("v10.stomp, v11.stomp", Some("v11.stomp")),
        ("v10.stomp,v12.stomp,bearer.YWJj", Some("v12.stomp")),
        ("mqtt", None),
        ("", None),
    ] {
        let accepted = check(&request("/", &[("sec-websocket-protocol", offer)]), &stomp).unwrap();
        assert_eq!(accepted.subprotocol, taken, "{offer}");
        let echoed = accepted.headers.get("sec-websocket-protocol").map(|value| value.to_str().unwrap());
        assert_eq!(echoed, taken, "{offer}");
    }
}

#[test]
fn compression_is_agreed_on_only_where_it_is_on() {
    let offer =
        [("sec-websocket-extensions", "x-other"), ("+sec-websocket-extensions", "permessage-deflate")];
    let accepted = accepted("/", &offer);
    assert_eq!(accepted.headers["sec-websocket-extensions"], accepted.deflate.unwrap().header_value());
    let off = Settings { deflate: Deflate::Off, ..settings() };
    let accepted = check(&request("/", &offer), &off).unwrap();
    assert_eq!(accepted.deflate, None);
    assert!(!accepted.headers.contains_key("sec-websocket-extensions"));
}

#[test]
fn oversize_lists_are_refused() {
    let long = "a,".repeat(SUBPROTOCOL_BYTES_MAX / 2);
    assert_eq!(status("/", &[("sec-websocket-protocol", &long)]), 431);
    let long = "permessage-deflate,".repeat(200);
    assert_eq!(status("/", &[("sec-websocket-extensions", &long)]), 431);
}

#[test]
fn pages_of_the_same_host_may_connect_and_strangers_not() {
    for origin in ["http://broker.example", "https://Broker.Example"] {
        accepted("/", &[("origin", origin)]);
    }
    accepted("/", &[("host", "localhost:8080"), ("origin", "http://localhost:8080")]);
    accepted("/", &[("host", "[::1]:8080"), ("origin", "http://[::1]:8080")]);
    accepted("/", &[("host", "broker.example:443"), ("origin", "https://broker.example")]);
    for origin in [
        "https://evil.example",
        "https://broker.example.evil.example",
        "https://broker.example:8443",
        "null",
        "https://broker.example/",
        "https://broker.example@evil.example",
        "broker.example",
    ] {
        assert_eq!(status("/", &[("origin", origin)]), 403, "{origin}");
    }
    let twice = [("origin", "https://broker.example"), ("+origin", "https://evil.example")];
    assert_eq!(status("/", &twice), 403);
}

#[test]
fn listed_origins_may_connect_besides_the_same_host() {
    let origins = Origins::parse(&["https://app.example", "http://localhost:3000"]).unwrap();
    let settings = Settings { origins, ..settings() };
    let status = |origin| match check(&request("/", &[("origin", origin)]), &settings) {
        Ok(accepted) => accepted.status.as_u16(),
        Err(rejected) => rejected.status.as_u16(),
    };
    assert_eq!(status("https://app.example"), 101);
    assert_eq!(status("https://app.example:443"), 101);
    assert_eq!(status("http://localhost:3000"), 101);
    assert_eq!(status("http://app.example"), 403);
    assert_eq!(status("https://sub.app.example"), 403);
    assert_eq!(status("https://broker.example"), 101);
    assert_eq!(status("https://broker.example:8443"), 403);
    assert_eq!(status("null"), 403);
}

#[test]
fn a_name_that_was_made_to_point_to_this_machine_is_no_host_of_its_own() {
    let status = |origins: &Origins, host: &str| {
        let settings = Settings { origins: origins.clone(), own_hosts: OwnHosts::Loopback, ..settings() };
        let origin = format!("http://{host}");
        match check(&request("/", &[("host", host), ("origin", &origin)]), &settings) {
            Ok(accepted) => accepted.status.as_u16(),
            Err(rejected) => rejected.status.as_u16(),
        }
    };
    let listed = Origins::parse(&["http://broker.example:8080"]).unwrap();
    for host in
        ["localhost", "LocalHost:8080", "app.localhost:8080", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080"]
    {
        assert_eq!(status(&Origins::SameHost, host), 101, "{host}");
        assert_eq!(status(&listed, host), 101, "{host}");
    }
    for host in
        ["evil.example:8080", "localhost.evil.example", "notlocalhost", "127.0.0.1.evil.example", "10.0.0.1"]
    {
        assert_eq!(status(&Origins::SameHost, host), 403, "{host}");
        assert_eq!(status(&listed, host), 403, "{host}");
        assert_eq!(status(&Origins::Any, host), 101, "{host}");
    }
    assert_eq!(status(&listed, "broker.example:8080"), 101);
    let settings = Settings { own_hosts: OwnHosts::Loopback, ..settings() };
    assert!(check(&request("/", &[]), &settings).is_ok(), "programs send no origin and pass");
}

#[test]
fn origin_settings_name_what_is_no_origin() {
    assert_eq!(Origins::parse(&[]), Ok(Origins::SameHost));
    assert_eq!(Origins::parse(&["https://a.example", "*"]), Ok(Origins::Any));
    for entry in ["a.example", "https://a.example/path", "https://*.example", "https://", ""] {
        assert_eq!(Origins::parse(&["https://fine.example", entry]), Err(entry));
    }
}

#[test]
fn a_token_is_found_wherever_a_client_can_put_it() {
    let found = |text: &str, source| Some((text.to_owned(), source));
    assert_eq!(token("/", &[]), None);
    assert_eq!(token("/", &[("authorization", "bearer a.b.c")]), found("a.b.c", Source::Authorization));
    let offer = [("sec-websocket-protocol", "bearer.YS5iLmM, bongsu.v1.json")];
    assert_eq!(token("/", &offer), found("a.b.c", Source::Subprotocol));
    assert_eq!(accepted("/", &offer).headers["sec-websocket-protocol"], "bongsu.v1.json");
    assert_eq!(token("/?x=1&access_token=a%2Eb+c", &[]), found("a.b+c", Source::Query));
    let page = [("origin", "https://broker.example"), ("cookie", "x=y; bongsu_token=a.b.c")];
    assert_eq!(token("/", &page), found("a.b.c", Source::Cookie));
    let both = [("authorization", "Bearer first"), ("cookie", "bongsu_token=second")];
    assert_eq!(token("/?access_token=third", &both), found("first", Source::Authorization));
}

#[test]
fn a_cookie_counts_only_from_a_page_that_is_trusted() {
    assert_eq!(token("/", &[("cookie", "bongsu_token=stolen")]), None);
    assert_eq!(status("/", &[("cookie", "bongsu_token=stolen"), ("origin", "https://evil.example")]), 403);
    let any = Settings { origins: Origins::Any, ..settings() };
    let token = |origin| {
        let request = request("/", &[("cookie", "bongsu_token=abc"), ("origin", origin)]);
        check(&request, &any).unwrap().token.map(|token| token.source)
    };
    assert_eq!(token("https://evil.example"), None, "any page may connect, but not as the cookie's user");
    assert_eq!(token("https://broker.example"), Some(Source::Cookie));
}

#[test]
fn malformed_tokens_are_bad_requests_and_none_shows_in_logs() {
    assert_eq!(status("/", &[("authorization", "Basic YTpi")]), 400);
    assert_eq!(status("/", &[("sec-websocket-protocol", "bongsu.v1.json, bearer.!")]), 400);
    assert_eq!(status("/?access_token=", &[]), 400);
    assert_eq!(status("/?access_token=%zz", &[]), 400);
    assert_eq!(status(&format!("/?access_token={}", "a".repeat(TOKEN_BYTES_MAX + 1)), &[]), 400);
    let shown = format!("{:?}", accepted("/?access_token=secret", &[]));
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn over_http2_an_extended_connect_needs_no_key() {
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri("https://broker.example/ws?access_token=abc")
        .version(Version::HTTP_2)
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "bongsu.v1.proto")
        .header("origin", "https://broker.example")
        .body(())
        .unwrap();
    assert_eq!(check(&request, &settings()).unwrap_err().status, 400, "an ordinary CONNECT");
    request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
    let accepted = check(&request, &settings()).unwrap();
    assert_eq!(accepted.status, 200);
    assert_eq!(accepted.headers.len(), 1, "{:?}", accepted.headers);
    assert_eq!(accepted.headers["sec-websocket-protocol"], "bongsu.v1.proto");
    assert_eq!(accepted.token.unwrap().text, "abc");
    request.headers_mut().insert("origin", HeaderValue::from_static("https://evil.example"));
    assert_eq!(check(&request, &settings()).unwrap_err().status, 403);
    request.headers_mut().remove("sec-websocket-version");
    assert_eq!(check(&request, &settings()).unwrap_err().status, 400);
}

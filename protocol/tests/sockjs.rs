//! SockJS: frames, transports, pages, paths and sessions. Each test names the requirement of `contracts/sockjs.md` that it stands for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::time::Duration;

use bongsu_protocol::limits::{
    FRAME_BYTES_MAX, SOCKJS_BATCH_BYTES_MAX, SOCKJS_MESSAGES_MAX, SOCKJS_QUEUE_BYTES_MAX,
};
use bongsu_protocol::sockjs::{
    Callback, Close, Ended, GREETING, IframePage, Info, InvalidCallback, InvalidPayload, MESSAGE_BEGIN,
    MESSAGE_END, Message, Method, Quoted, Route, Session, SessionPath, Timing, Transport, parse_jsonp_send,
    parse_websocket, parse_xhr_send,
};
use proptest::prelude::*;

const TIMING: Timing = Timing { heartbeat: Duration::from_secs(25), disconnect: Duration::from_secs(5) };

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn session() -> Session {
    Session::new(at(0), TIMING)
}

fn callback(name: &str) -> Callback {
    Callback::parse(Some(name)).unwrap()
}

/// What is written until nothing is left, with `|` between writes and `.` where the answer ends.
fn written(session: &mut Session, seconds: u64) -> String {
    let mut all = Vec::new();
    while let Some(chunk) = session.poll_chunk(at(seconds)) {
        let end = if chunk.ends { "." } else { "" };
        all.push(format!("{}{end}", std::str::from_utf8(&chunk.bytes).unwrap()));
    }
    all.join("|")
}

/// What a receiving request gets that asks at this time.
fn asked(session: &mut Session, seconds: u64, transport: Transport) -> String {
    match session.attach(at(seconds), transport, Some(4096)) {
        Ok(()) => written(session, seconds),
        Err(chunk) => format!("{}.", std::str::from_utf8(&chunk.bytes).unwrap()),
    }
}

fn open(transport: &Transport) -> Session {
    let mut session = session();
    asked(&mut session, 0, transport.clone());
    session
}

// SJ-1
#[test]
fn the_greeting_has_19_bytes() {
    assert_eq!((GREETING, GREETING.len()), ("Welcome to SockJS!\n", 19));
}

// SJ-2
#[test]
fn info_is_json_with_an_integer_of_entropy() {
    let info = Info { websocket: false, cookie_needed: true, entropy: u32::MAX, base_url: None };
    let json: serde_json::Value = serde_json::from_str(&info.body()).unwrap();
    assert_eq!(json["entropy"], serde_json::json!(4_294_967_295_u32));
    assert_eq!((&json["websocket"], &json["cookie_needed"]), (&false.into(), &true.into()));
    assert_eq!(json["origins"], serde_json::json!(["*:*"]));
    assert!(info.body().contains("\"websocket\":false"), "Spring looks for this text");
    assert!(json.get("base_url").is_none());
    let moved = Info { base_url: Some("http://a/\"b"), ..info };
    let json: serde_json::Value = serde_json::from_str(&moved.body()).unwrap();
    assert_eq!(json["base_url"], "http://a/\"b");
}

// SJ-4
#[test]
fn the_iframe_page_is_cached_by_its_tag() {
    let page = IframePage::new("https://cdn/sockjs.js?a=1&b=\"");
    assert!(page.body.starts_with("<!DOCTYPE html>\n<html>\n<head>\n  <meta http-equiv=\"X-UA-Compatible\""));
    assert!(
        page.body
            .contains("  <script src=\"https://cdn/sockjs.js?a=1&amp;b=&quot;\"></script>\n  <script>\n")
    );
    assert!(page.body.ends_with("hidden iframe. It's used for cross domain magic.</p>\n</body>\n</html>"));
    assert_eq!(page, IframePage::new("https://cdn/sockjs.js?a=1&b=\""));
    assert_ne!(page.etag, IframePage::new("/other.js").etag);
    assert!(page.etag.starts_with('"') && page.etag.ends_with('"'));
    assert!(page.is_known(&page.etag));
    assert!(page.is_known(&format!("\"x\", W/{}", page.etag)));
    assert!(page.is_known("*"));
    assert!(!page.is_known("\"x\""));
}

// SJ-1, SJ-2, SJ-4, SJ-5, SJ-6, SJ-8
#[test]
fn paths_are_what_the_client_library_asks_for() {
    for (path, expected) in [
        ("", Some(Route::Greeting)),
        ("/", Some(Route::Greeting)),
        ("//", None),
        ("///", None),
        ("x", None),
        ("/a", None),
        ("/a.html", None),
        ("/a/a", None),
        ("/a/a/", None),
        ("/info", Some(Route::Info)),
        ("/info/", Some(Route::Info)),
        ("/websocket", Some(Route::RawWebSocket)),
        ("/iframe.html", Some(Route::Iframe)),
        ("/iframe-.html", Some(Route::Iframe)),
        ("/iframe-0.1.2abc-dirty.2144.html", Some(Route::Iframe)),
        ("/iframe.htm", None),
        ("/iframe", None),
        ("/IFRAME.HTML", None),
        ("/iframe.HTML", None),
        ("/iframe.xml", None),
        ("/iframe-/.html", None),
        ("/iframeA.html", None),
        ("//a/xhr", None),
        ("/a//xhr", None),
        ("/a./a/xhr", None),
        ("/a/a./xhr", None),
        ("/./././xhr", None),
        ("/a/b/c/xhr", None),
        ("/a/b/xhr;x", None),
        ("/a/b/xhr.js", None),
        ("/a/b/other", None),
    ] {
        assert_eq!(Route::parse(path), expected, "{path}");
    }
    for (path, session) in
        [("/000/S/xhr", "S"), ("/999/S/xhr/", "S"), ("/_/_/xhr", "_"), ("/a%20b/i-j%20/xhr", "i-j%20")]
    {
        let expected = Route::Session { session, path: SessionPath::Xhr };
        assert_eq!(Route::parse(path), Some(expected), "{path}");
    }
}

// SJ-3, SJ-7, SJ-28
#[test]
fn paths_take_the_methods_of_their_transport() {
    let methods = |path: &str| Route::parse(path).unwrap().methods();
    assert_eq!(methods("/info"), [Method::Options, Method::Get]);
    for path in ["/a/b/xhr", "/a/b/xhr_send", "/a/b/xhr_streaming"] {
        assert_eq!(methods(path), [Method::Options, Method::Post], "{path}");
    }
    for path in ["/a/b/websocket", "/a/b/eventsource", "/a/b/htmlfile", "/a/b/jsonp", "/websocket", ""] {
        assert_eq!(methods(path), [Method::Get], "{path}");
    }
    assert_eq!(methods("/a/b/jsonp_send"), [Method::Post]);
}

// SJ-13
#[test]
fn strings_are_escaped_as_the_protocol_says_and_no_further() {
    let frame = |text: &str| {
        let mut session = open(&Transport::XhrPolling);
        session.send(text.into());
        asked(&mut session, 1, Transport::XhrPolling)
    };
    for code in (0..=0xd7ff_u32).chain(0xe000..=0xffff) {
        let character = char::from_u32(code).unwrap();
        let must = code < 0x20
            || (0x200c..=0x200f).contains(&code)
            || (0x2028..=0x202f).contains(&code)
            || (0x2060..=0x206f).contains(&code)
            || code >= 0xfff0;
        let inner = match character {
            '\u{8}' => "\\b".to_owned(),
            '\t' => "\\t".to_owned(),
            '\n' => "\\n".to_owned(),
            '\u{c}' => "\\f".to_owned(),
            '\r' => "\\r".to_owned(),
            '"' => "\\\"".to_owned(),
            '\\' => "\\\\".to_owned(),
            _ if must => format!("\\u{code:04x}"),
            _ => character.to_string(),
        };
        assert_eq!(frame(&character.to_string()), format!("a[\"{inner}\"]\n."), "U+{code:04X}");
    }
    assert_eq!(frame("😀"), "a[\"\\ud83d\\ude00\"]\n.");
}

// SJ-13, SJ-23
#[test]
fn escapes_of_the_client_are_read_and_lone_halves_are_no_error() {
    let read = |text: &str| parse_xhr_send(text.as_bytes()).unwrap();
    assert_eq!(read(r#"["\ud83d\ude00","\u2028x"]"#), ["😀", "\u{2028}x"]);
    assert_eq!(read(r#"["a\ud83db","\udc00"]"#), ["a\u{fffd}b", "\u{fffd}"]);
}

// SJ-23
#[test]
fn what_is_no_array_of_strings_is_refused_in_the_words_of_the_protocol() {
    use InvalidPayload::{Broken, Expected, TooLarge};
    for (body, expected) in [
        (&b""[..], Expected),
        (b"  ", Expected),
        (b"null", Expected),
        (b"{}", Expected),
        (b"\"a\"", Expected),
        (b"[1]", Expected),
        (b"[[97,98]]", Expected),
        (b"[\"x", Broken),
        (b"[\"x\"", Broken),
        (b"[\"x\"] y", Broken),
        (b"x", Broken),
        (b"[\"\\x\"]", Broken),
    ] {
        assert_eq!(parse_xhr_send(body), Err(expected), "{:?}", String::from_utf8_lossy(body));
    }
    assert_eq!((Expected.to_string(), Expected.status()), ("Payload expected.".to_owned(), 500));
    assert_eq!((Broken.to_string(), Broken.status()), ("Broken JSON encoding.".to_owned(), 500));
    assert_eq!(parse_xhr_send(b"[]"), Ok(vec![]));
    assert_eq!(parse_xhr_send(b" [\"a\", \"b\"] "), Ok(vec!["a".to_owned(), "b".to_owned()]));
    let many = |n: usize| format!("[{}]", vec!["\"\""; n].join(","));
    assert_eq!(parse_xhr_send(many(SOCKJS_MESSAGES_MAX).as_bytes()).unwrap().len(), SOCKJS_MESSAGES_MAX);
    assert_eq!(parse_xhr_send(many(SOCKJS_MESSAGES_MAX + 1).as_bytes()), Err(TooLarge));
    assert_eq!(parse_xhr_send(&vec![b' '; FRAME_BYTES_MAX + 1]), Err(TooLarge));
}

// SJ-27
#[test]
fn jsonp_sends_a_form_or_the_array_itself() {
    use InvalidPayload::{Broken, Expected};
    const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
    for (content_type, body, expected) in [
        (FORM, "d=%5B%22x%22%5D", Ok(vec!["x"])),
        (FORM, "t=1&d=%5B%22a+b%2Bc%22%5d", Ok(vec!["a b+c"])),
        (FORM, "d=%5B%22%zz%22%5D", Ok(vec!["%zz"])),
        (FORM, "d=%5B%22x", Err(Broken)),
        (FORM, "d=", Err(Expected)),
        (FORM, "p=p", Err(Expected)),
        (FORM, "", Err(Expected)),
        ("text/plain", "[\"%61bc\"]", Ok(vec!["%61bc"])),
        ("", "[\"x\"]", Ok(vec!["x"])),
    ] {
        let expected = expected.map(|messages| messages.into_iter().map(str::to_owned).collect());
        assert_eq!(parse_jsonp_send(content_type, body.as_bytes()), expected, "{body}");
    }
}

// SJ-20
#[test]
fn a_websocket_carries_arrays_or_one_string_and_empty_ones_are_ignored() {
    assert_eq!(parse_websocket(""), Ok(vec![]));
    assert_eq!(parse_websocket("[]"), Ok(vec![]));
    assert_eq!(parse_websocket("\"a\""), Ok(vec!["a".to_owned()]));
    assert_eq!(parse_websocket("[\"a\"]"), Ok(vec!["a".to_owned()]));
    assert!(parse_websocket("[\"a").is_err());
    assert!(parse_websocket("\"a").is_err());
    assert_eq!(Close::broken_framing().frame(), "c[3000,\"Broken framing.\"]");
    let mut session = session();
    session.attach(at(0), Transport::WebSocket, None).unwrap();
    assert_eq!(written(&mut session, 0), "o");
    session.send("a".into());
    session.close(&Close::go_away());
    assert_eq!(written(&mut session, 0), "a[\"a\"]|c[3000,\"Go away!\"].");
    assert!(session.is_closed(), "it lives as long as its socket");
}

// SJ-10, SJ-21, SJ-13
#[test]
fn a_poll_gets_one_frame_with_all_that_waits() {
    let mut session = session();
    assert_eq!(asked(&mut session, 0, Transport::XhrPolling), "o\n.");
    session.send("a".into());
    session.send("b".into());
    assert_eq!(asked(&mut session, 1, Transport::XhrPolling), "a[\"a\",\"b\"]\n.");
    assert_eq!(asked(&mut session, 2, Transport::XhrPolling), "", "it waits");
    session.send("c".into());
    assert_eq!(written(&mut session, 3), "a[\"c\"]\n.");
}

// SJ-22
#[test]
fn a_stream_begins_with_its_prelude_and_ends_at_its_limit() {
    let prelude = Transport::XhrStreaming.prelude();
    assert_eq!((prelude.len(), prelude[0], prelude[2048]), (2049, b'h', b'\n'));
    let mut session = session();
    assert_eq!(asked(&mut session, 0, Transport::XhrStreaming), "o\n");
    for n in 1..=31 {
        session.send((&*"x".repeat(128)).into());
        let end = if n == 31 { "." } else { "" };
        assert_eq!(written(&mut session, 0), format!("a[\"{}\"]\n{end}", "x".repeat(128)), "message {n}");
    }
    assert_eq!(
        asked(&mut session, 1, Transport::XhrStreaming),
        "",
        "the session goes on without another `o`"
    );
}

// SJ-24
#[test]
fn an_event_source_gets_events_without_line_ends_in_them() {
    assert_eq!(&Transport::EventSource.prelude()[..], b"\r\n");
    assert_eq!(Transport::EventSource.content_type(), "text/event-stream");
    let mut session = session();
    assert_eq!(asked(&mut session, 0, Transport::EventSource), "data: o\r\n\r\n");
    session.send("  \0\n\r %".into());
    assert_eq!(written(&mut session, 0), "data: a[\"  \\u0000\\n\\r %25\"]\r\n\r\n");
    session.send((&*"x".repeat(4096)).into());
    assert!(written(&mut session, 0).ends_with("\r\n\r\n."), "the limit holds here too");
}

// SJ-25
#[test]
fn an_html_file_is_a_page_of_scripts() {
    let transport = Transport::HtmlFile(callback("callback"));
    let head = transport.prelude();
    assert!(head.len() > 1024 && head.ends_with(b"\r\n\r\n"));
    let head = std::str::from_utf8(&head).unwrap().trim();
    assert!(head.starts_with("<!doctype html>\n<html><head>\n  <meta http-equiv=\"X-UA-Compatible\""));
    assert!(
        head.contains("    var c = parent.callback;\n    c.start();\n    function p(d) {c.message(d);};\n")
    );
    assert!(head.ends_with("    window.onload = function() {c.stop();};\n  </script>"));
    let mut session = session();
    assert_eq!(asked(&mut session, 0, transport), "<script>\np(\"o\");\n</script>\r\n");
    session.send("x".into());
    assert_eq!(written(&mut session, 0), "<script>\np(\"a[\\\"x\\\"]\");\n</script>\r\n");
    session.send("</script>".into());
    assert_eq!(
        written(&mut session, 0),
        "<script>\np(\"a[\\\"\\u003c/script>\\\"]\");\n</script>\r\n",
        "no message ends the script it stands in"
    );
}

// SJ-26
#[test]
fn a_jsonp_poll_gets_a_script() {
    let transport = Transport::JsonpPolling(callback("cb.x_1-2"));
    assert_eq!(transport.content_type(), "application/javascript; charset=UTF-8");
    let mut session = session();
    assert_eq!(asked(&mut session, 0, transport.clone()), "/**/cb.x_1-2(\"o\");\r\n.");
    session.send("x".into());
    assert_eq!(asked(&mut session, 0, transport.clone()), "/**/cb.x_1-2(\"a[\\\"x\\\"]\");\r\n.");
    session.close(&Close::go_away());
    for _ in 0..2 {
        assert_eq!(
            asked(&mut session, 0, transport.clone()),
            "/**/cb.x_1-2(\"c[3000,\\\"Go away!\\\"]\");\r\n."
        );
    }
}

// SJ-25, SJ-26
#[test]
fn a_callback_is_a_name_or_the_request_is_refused() {
    assert_eq!(Callback::parse(None), Err(InvalidCallback::Missing));
    assert_eq!(InvalidCallback::Missing.to_string(), "\"callback\" parameter required");
    let long = "a".repeat(33);
    for name in [" ", "*", "abc(", "a;b", "é", &long] {
        assert_eq!(Callback::parse(Some(name)), Err(InvalidCallback::Invalid), "{name}");
    }
    assert_eq!(InvalidCallback::Invalid.to_string(), "invalid \"callback\" parameter");
    assert!(Callback::parse(Some(&long[..32])).is_ok());
}

// SJ-11
#[test]
fn a_heartbeat_is_written_where_nothing_else_was() {
    let mut session = session();
    asked(&mut session, 0, Transport::XhrStreaming);
    assert_eq!(session.poll_timeout(), Some(at(25)));
    session.handle_timeout(at(24));
    assert_eq!(written(&mut session, 24), "", "not yet");
    session.send("a".into());
    assert_eq!(written(&mut session, 24), "a[\"a\"]\n");
    assert_eq!(session.poll_timeout(), Some(at(49)), "a message is a sign of life too");
    session.handle_timeout(at(49));
    assert_eq!(written(&mut session, 49), "h\n");
    let mut poll = open(&Transport::XhrPolling);
    asked(&mut poll, 1, Transport::XhrPolling);
    poll.handle_timeout(at(26));
    assert_eq!(written(&mut poll, 26), "h\n.", "for a poll, it is the answer");
}

// SJ-12
#[test]
fn heartbeats_stop_where_what_runs_on_top_has_its_own() {
    let mut session = open(&Transport::XhrStreaming);
    session.stop_heartbeat();
    assert_eq!(session.poll_timeout(), None);
    session.handle_timeout(at(100));
    assert_eq!(written(&mut session, 100), "");
    session.send("a".into());
    written(&mut session, 100);
    assert_eq!(session.poll_timeout(), None);
    session.detach(at(101), Ended::ByServer);
    session.handle_timeout(at(106));
    assert!(session.is_closed(), "it still ends without a request");
}

// SJ-40
#[test]
fn a_second_receiving_request_is_sent_away_and_the_first_stays() {
    let mut session = open(&Transport::XhrStreaming);
    assert_eq!(asked(&mut session, 1, Transport::XhrPolling), "c[2010,\"Another connection still open\"]\n.");
    session.send("a".into());
    assert_eq!(written(&mut session, 1), "a[\"a\"]\n");
    assert!(session.is_open());
}

// SJ-14
#[test]
fn a_closed_session_tells_every_request_until_the_delay_is_over() {
    let mut session = open(&Transport::XhrStreaming);
    session.send("last".into());
    session.close(&Close::go_away());
    session.close(&Close::restarting());
    assert!(!session.is_open(), "nothing is taken any more");
    assert_eq!(written(&mut session, 1), "a[\"last\"]\n|c[3000,\"Go away!\"]\n.");
    session.send("later".into());
    assert_eq!(asked(&mut session, 2, Transport::XhrStreaming), "c[3000,\"Go away!\"]\n.");
    assert_eq!(asked(&mut session, 6, Transport::XhrPolling), "c[3000,\"Go away!\"]\n.");
    session.handle_timeout(at(10));
    assert!(!session.is_closed(), "the delay counts from the last request");
    session.handle_timeout(at(11));
    assert!(session.is_closed());
    assert_eq!(session.poll_timeout(), None);
}

// SJ-41
#[test]
fn an_answer_that_the_server_ended_leaves_the_session_waiting() {
    let mut session = open(&Transport::XhrPolling);
    assert_eq!(session.poll_timeout(), Some(at(5)));
    session.handle_timeout(at(4));
    assert!(session.is_open());
    asked(&mut session, 4, Transport::XhrPolling);
    session.handle_timeout(at(5));
    assert!(session.is_open(), "a request is there");
    session.detach(at(6), Ended::ByServer);
    session.handle_timeout(at(11));
    assert!(session.is_closed());
}

// SJ-41
#[test]
fn an_answer_that_the_network_ended_ends_the_session() {
    let mut session = open(&Transport::XhrStreaming);
    session.send("lost on the way, perhaps".into());
    session.detach(at(1), Ended::ByNetwork);
    assert!(!session.is_open());
    assert!(!session.is_open());
    assert_eq!(asked(&mut session, 2, Transport::XhrPolling), "c[1002,\"Connection interrupted\"]\n.");
}

// SJ-44
#[test]
fn a_request_that_is_wanted_back_ends_with_a_frame_and_the_session_waits() {
    let mut session = open(&Transport::XhrStreaming);
    session.release();
    assert_eq!(written(&mut session, 1), "h\n.");
    session.attach(at(2), Transport::XhrPolling, None).unwrap();
    session.release();
    assert_eq!(written(&mut session, 2), "h\n.");
    let mut fresh = Session::new(at(0), TIMING);
    fresh.attach(at(0), Transport::XhrStreaming, Some(4096)).unwrap();
    fresh.release();
    assert_eq!(written(&mut fresh, 0), "o\n.");
    assert!(session.is_open() && fresh.is_open());
}

// SJ-46
#[test]
fn a_node_that_goes_away_says_so() {
    assert_eq!(Close::restarting().frame(), "c[1012,\"Server restarting\"]");
    assert_eq!(Close::new(4000, "a\"b\n").frame(), "c[4000,\"a\\\"b\\n\"]");
}

#[test]
fn a_session_without_a_request_takes_messages_up_to_its_bound() {
    let mut session = open(&Transport::XhrPolling);
    let mut n_taken = 0;
    while session.has_room() {
        session.send((&*"x".repeat(1000)).into());
        n_taken += 1;
        assert!(n_taken * 1000 < SOCKJS_QUEUE_BYTES_MAX + 1000, "it refuses");
    }
    session.send((&*"x".repeat(SOCKJS_BATCH_BYTES_MAX)).into());
    let first = asked(&mut session, 1, Transport::XhrPolling);
    assert!(first.len() < SOCKJS_BATCH_BYTES_MAX, "a frame has a bound, too");
    assert!(!session.has_room());
    asked(&mut session, 1, Transport::XhrPolling);
    assert!(session.has_room());
}

proptest! {
    #[test]
    fn parts_that_are_quoted_apart_are_one_message(head in any::<String>(), tail in any::<String>()) {
        let mut session = open(&Transport::XhrPolling);
        session.send(Message { head: Quoted::new(&head), tail: Quoted::new(&tail) });
        let frame = asked(&mut session, 1, Transport::XhrPolling);
        let whole: Message = format!("{head}{tail}").as_str().into();
        session.send(whole.clone());
        prop_assert_eq!(&frame, &asked(&mut session, 1, Transport::XhrPolling));
        let quoted = std::str::from_utf8(whole.tail.bytes()).unwrap();
        prop_assert_eq!(frame, format!("{MESSAGE_BEGIN}{quoted}{MESSAGE_END}\n."));
    }

    #[test]
    fn what_is_sent_is_what_the_client_reads(messages in prop::collection::vec(any::<String>(), 1..5)) {
        for transport in [Transport::WebSocket, Transport::XhrStreaming] {
            let mut session = open(&transport);
            for message in &messages {
                session.send(message.as_str().into());
            }
            let chunk = session.poll_chunk(at(0)).unwrap();
            let array = chunk.bytes.trim_ascii_end().strip_prefix(b"a").unwrap().to_vec();
            prop_assert_eq!(serde_json::from_slice::<Vec<String>>(&array).unwrap(), messages.clone());
            prop_assert_eq!(parse_xhr_send(&array).unwrap(), messages.clone());
        }
    }

    #[test]
    fn bytes_of_any_kind_are_messages_or_an_error(body in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = parse_xhr_send(&body);
        let _ = parse_jsonp_send("application/x-www-form-urlencoded", &body);
        let text = String::from_utf8_lossy(&body);
        let _ = (parse_websocket(&text), Route::parse(&text), Callback::parse(Some(&text)));
    }
}

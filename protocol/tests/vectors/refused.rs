//! Frames that a broker does not take, or not as a whole.

use bongsu_protocol::codec::Format;

use super::unhex;

pub(crate) fn cases() -> Vec<(&'static str, Format, Vec<u8>)> {
    let json = JSON.iter().map(|(name, text)| (*name, Format::Json, text.as_bytes().to_vec()));
    let binary =
        BINARY.iter().map(|(name, hex)| (*name, Format::Binary, unhex(&hex.replace(' ', "")).to_vec()));
    json.chain([("no UTF-8", Format::Json, b"{\"id\":1,\"ping\":{\"\xff\":1}}".to_vec())])
        .chain(binary)
        .collect()
}

const JSON: &[(&str, &str)] = &[
    ("an empty frame", ""),
    ("no JSON", "{\"id\":1,"),
    ("two values", r#"{"id":1,"ping":{}} {"id":2,"ping":{}}"#),
    ("a raw control character", "{\"id\":1,\"leave\":{\"topic\":\"a\nb\"}}"),
    ("no object", "42"),
    ("a token in place of a request", r#"["secret, expected"]"#),
    ("no request", "[]"),
    ("an array in the array", r#"[[{"id":1,"ping":{}}]]"#),
    ("no id", r#"{"ping":{}}"#),
    ("id 0", r#"{"id":0,"ping":{}}"#),
    ("a negative id", r#"{"id":-1,"ping":{}}"#),
    ("an id that JavaScript cannot hold", r#"{"id":9007199254740992,"ping":{}}"#),
    ("a text as id", r#"{"id":"1","ping":{}}"#),
    ("a fraction as id", r#"{"id":1.0,"ping":{}}"#),
    ("two ids", r#"{"id":1,"id":2,"ping":{}}"#),
    ("no command", r#"{"id":1}"#),
    ("an unknown command", r#"[{"id":1,"teleport":{"to":"a"}},{"id":2,"ping":{}}]"#),
    ("two commands", r#"{"id":1,"ping":{},"leave":{"topic":"a"}}"#),
    ("one command twice", r#"{"id":1,"ping":{},"ping":{}}"#),
    ("a command that is no object", r#"{"id":1,"ping":null}"#),
    ("fields in an array", r#"{"id":1,"leave":["a"]}"#),
    ("an unknown field", r#"{"id":1,"subscribe":{"subscriptions":[{"filter":"a","form":"earliest"}]}}"#),
    ("a field twice", r#"{"id":1,"leave":{"topic":"a","topic":"b"}}"#),
    ("a missing field", r#"{"id":1,"leave":{}}"#),
    ("a wrong type", r#"{"id":1,"leave":{"topic":7}}"#),
    ("null for an absent field", r#"{"id":1,"subscribe":{"subscriptions":[{"filter":"a","from":null}]}}"#),
    ("no subscriptions", r#"{"id":1,"subscribe":{"subscriptions":[]}}"#),
    (
        "a bad filter among good ones",
        r#"{"id":1,"subscribe":{"subscriptions":[{"filter":"a"},{"filter":"a/#/b"}]}}"#,
    ),
    ("an unknown start", r#"{"id":1,"subscribe":{"subscriptions":[{"filter":"a","from":"yesterday"}]}}"#),
    (
        "a start with two keys",
        r#"{"id":1,"subscribe":{"subscriptions":[{"filter":"a","from":{"last":1,"time":1}}]}}"#,
    ),
    (
        "a position without offset",
        r#"{"id":1,"subscribe":{"subscriptions":[{"filter":"a","from":{"after":{"epoch":1}}}]}}"#,
    ),
    (
        "a position under a pattern",
        r#"{"id":1,"subscribe":{"subscriptions":[{"filter":"a/#","from":{"after":{"epoch":1,"offset":1}}}]}}"#,
    ),
    (
        "an offset that JavaScript cannot hold",
        r#"{"id":1,"subscribe":{"subscriptions":[{"filter":"a","from":{"after":{"epoch":1,"offset":9007199254740992}}}]}}"#,
    ),
    (
        "a position of a topic that the filter does not match",
        r#"{"id":1,"subscribe":{"subscriptions":[{"filter":"a/#","seen":[{"topic":"b","position":{"epoch":1,"offset":1}}]}]}}"#,
    ),
    ("an empty topic", r#"{"id":1,"leave":{"topic":""}}"#),
    ("a wildcard in a topic", r##"{"id":1,"leave":{"topic":"a/#"}}"##),
    ("publish to the broker's own topic", r#"{"id":1,"publish":{"messages":[{"topic":"$sys/x","data":1}]}}"#),
    ("publish without payload", r#"{"id":1,"publish":{"messages":[{"topic":"a"}]}}"#),
    ("publish with two payloads", r#"{"id":1,"publish":{"messages":[{"topic":"a","data":1,"text":"1"}]}}"#),
    ("publish what is no base64", r#"{"id":1,"publish":{"messages":[{"topic":"a","bytes":"AAE"}]}}"#),
    (
        "publish with a number as header",
        r#"{"id":1,"publish":{"messages":[{"topic":"a","data":1,"headers":{"n":1}}]}}"#,
    ),
    (
        "publish with a header twice",
        r#"{"id":1,"publish":{"messages":[{"topic":"a","data":1},{"topic":"a","data":1,"headers":{"n":"1","n":"2"}}]}}"#,
    ),
    (
        "publish with a line end in the type",
        r#"{"id":1,"publish":{"messages":[{"topic":"a","data":1,"type":"a\nb"}]}}"#,
    ),
    ("history both ways", r#"{"id":1,"history":{"topic":"a","from":"earliest","before":"latest"}}"#),
    ("history before another word", r#"{"id":1,"history":{"topic":"a","before":"earliest"}}"#),
    ("a token that is no text", r#"{"id":1,"authenticate":{"token":["secret"]}}"#),
    ("a token in the wrong place", r#"{"id":1,"authenticate":"secret"}"#),
];

const BINARY: &[(&str, &str)] = &[
    ("an empty binary frame", ""),
    ("a frame of unknown fields only", "10 01"),
    ("a field that is cut short", "0a 05 08 01"),
    ("a key that is cut short", "8a"),
    ("a group", "0b 0c"),
    ("field number 0", "02 00"),
    ("a request without id", "0a 02 52 00"),
    ("an id past 2^53 - 1", "0a 0b 08 80 80 80 80 80 80 80 10 52 00"),
    ("a request without command", "0a 02 08 01"),
    ("a request with a later command", "0a 05 08 01 a2 06 00"),
    ("a request with two commands", "0a 06 08 01 52 00 52 00"),
    ("no subscription", "0a 04 08 01 1a 00"),
    ("a subscription to nothing", "0a 06 08 01 1a 02 0a 00"),
    ("leaving a filter", "0a 09 08 01 42 05 0a 03 61 2f 23"),
    ("a topic that is no UTF-8", "0a 07 08 01 42 03 0a 01 ff"),
    ("a number where a text belongs", "0a 06 08 01 42 02 08 01"),
];

//! What operators see: values, their origins, and the exact words of every kind of error.

use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use bongsu_protocol::topic::Topic;
use clap::Parser as _;

use super::explain::rows;
use super::*;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Loads from a file's text (none if empty), variables and flags. Origins name the file `bongsu.toml`.
fn try_load(file: &str, environment: &[(&str, &str)], flags: &[&str]) -> Result<Loaded, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bongsu.toml");
    let mut args = Cli::parse_from(std::iter::once("bongsu").chain(flags.iter().copied())).settings;
    if !file.is_empty() {
        fs::write(&path, file).unwrap();
        args.config = Some(path);
    }
    let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let prefix = format!("{}/", folder.path().display());
    load_with(&args, environment).map_err(|errors| errors.to_string().replace(&prefix, ""))
}

pub(super) fn load(file: &str, environment: &[(&str, &str)], flags: &[&str]) -> Loaded {
    try_load(file, environment, flags).unwrap()
}

fn check(file: &str, expected: &str) {
    check_all(file, &[], &[], expected);
}

fn check_all(file: &str, environment: &[(&str, &str)], flags: &[&str], expected: &str) {
    match try_load(file, environment, flags) {
        Ok(_) => panic!("accepted: {file} {environment:?} {flags:?}"),
        Err(errors) => assert_eq!(errors, expected, "{file} {environment:?} {flags:?}"),
    }
}

#[test]
fn every_default_and_bound_can_be_read_and_agrees() {
    let loaded = load("", &[], &[]);
    // A default outside of its own bounds could not be written down by an operator.
    for (key, value) in explain::lines(&loaded.settings) {
        let row = rows().into_iter().find(|row| row.key == key).unwrap();
        if row.form != schema::Form::Tables {
            load("", &[], &["--set", &format!("{key}={}", value.trim_matches('"'))]);
        }
    }
    let loaded = load("[[topics]]\nfilter = \"#\"", &[], &[]);
    for (key, value) in explain::lines(&loaded.settings) {
        if let Some(field) = key.strip_prefix("topics[0].").filter(|field| *field != "filter") {
            let given = try_load(&format!("[[topics]]\nfilter = \"#\"\n{field} = {value}"), &[], &[]);
            // A rule across settings may refuse it; its own type and bounds may not.
            assert!(!given.is_err_and(|errors| errors.contains("it takes")), "{key}");
        }
    }
    assert!(markdown().contains("| `websocket.ping_interval` | duration | `\"25s\"` |"));
}

#[test]
fn nothing_set_means_loopback_durable_and_open() {
    let Loaded { settings, .. } = load("", &[], &[]);
    assert_eq!(settings, Settings::default());
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.anonymous().publish[0].as_str(), "#");
    let policies = Policies::new(&settings.topics.0);
    let Kind::Durable { retention, idempotency_window } =
        policies.for_topic(&Topic::parse("a").unwrap()).kind
    else {
        panic!("topics are durable by default");
    };
    assert_eq!(retention.age, Some(Duration::from_secs(7 * 86_400)));
    assert_eq!(retention.bytes, Some(1 << 30));
    assert_eq!(retention.count, None);
    assert_eq!(idempotency_window, Duration::from_secs(300));
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_defaults() {
    let file = "data = \"file\"\nnode = { name = \"file\" }\n\n[websocket]\nping_interval = \"1s\"\npong_timeout = \"1s\"\n";
    let environment = [
        ("BONGSU_NODE__NAME", "environment"),
        ("BONGSU_WEBSOCKET__PING_INTERVAL", "2s"),
        ("BONGSU_LOG__FORMAT", "json"),
    ];
    let flags = ["--set", "websocket.ping_interval=3s", "--log-format", "text"];
    let loaded = load(file, &environment, &flags);
    let origin = |key| loaded.origins.get(key).to_string();
    let settings = &loaded.settings;
    assert_eq!(settings.websocket.ping_interval, Duration::from_secs(3));
    assert_eq!(origin("websocket.ping_interval"), "flag:--set");
    assert_eq!(settings.node.name.as_str(), "environment");
    assert_eq!(origin("node.name"), "environment:BONGSU_NODE__NAME");
    assert_eq!(settings.websocket.pong_timeout, Duration::from_secs(1));
    assert!(
        origin("websocket.pong_timeout").ends_with("bongsu.toml:6"),
        "{}",
        origin("websocket.pong_timeout")
    );
    assert!(origin("data").ends_with("bongsu.toml:1"));
    assert_eq!(settings.log.format, LogFormat::Text);
    assert_eq!(origin("log.format"), "flag:--log-format");
    assert_eq!(settings.websocket.write_timeout, Duration::from_secs(60));
    assert_eq!(origin("websocket.write_timeout"), "default");
}

#[test]
fn explain_shows_values_and_origins_and_hides_digests() {
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let tokens = format!("[{{ name = \"a\", sha256 = \"{digest}\", publish = [\"#\"] }}]");
    let topics = "[{ filter = \"x/#\", kind = \"live\" }]";
    let environment = [("BONGSU_AUTH__TOKENS", tokens.as_str()), ("BONGSU_TOPICS", topics)];
    let loaded = load("", &environment, &["--listen", "0.0.0.0:1"]);
    let text = explain(&loaded);
    let line = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap_or_default();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("listen"), "listen = \"0.0.0.0:1\" # flag:--listen");
    assert_eq!(
        line("auth.tokens[0].sha256"),
        "auth.tokens[0].sha256 = *** # environment:BONGSU_AUTH__TOKENS"
    );
    assert_eq!(line("auth.anonymous.publish"), "auth.anonymous.publish = [] # default");
    assert_eq!(line("topics[0].kind"), "topics[0].kind = \"live\" # environment:BONGSU_TOPICS");
    assert_eq!(line("topics[0].retention.age"), "", "a live topic has no retention");
    assert_eq!(line("drain.grace"), "drain.grace = \"30s\" # default");
    assert!(!text.contains(digest) && !format!("{loaded:?}").contains(digest));
}

#[test]
fn lists_in_the_environment_are_toml_or_items_between_commas() {
    let name = "BONGSU_HTTP__ALLOWED_ORIGINS";
    for text in ["https://a.example,http://b:8080", "[\"https://a.example\", \"http://b:8080\"]"] {
        let Loaded { settings, .. } = load("", &[(name, text)], &[]);
        let exact = |text: &str| AllowedOrigin::Exact(text.to_owned());
        assert_eq!(settings.http.allowed_origins, [exact("https://a.example"), exact("http://b:8080")]);
    }
    assert_eq!(load("", &[(name, "*")], &[]).settings.http.allowed_origins, [AllowedOrigin::Any]);
    assert_eq!(load("", &[(name, "")], &[]).settings.http.allowed_origins, []);
}

#[test]
fn variables_of_kubernetes_and_of_the_client_are_no_settings() {
    let names =
        ["BONGSU_PORT", "BONGSU_PORT_8080_TCP_ADDR", "BONGSU_SERVICE_HOST", "BONGSU_BIN", "BONGSU_TOKEN"];
    load("", &names.map(|name| (name, "tcp://10.0.0.1:8080")), &[]);
}

#[test]
fn the_first_policy_that_matches_holds() {
    let file = "
        topics = [
            { filter = 'a/b', kind = 'live', slow_reader = 'conflate' },
            { filter = 'a/#', retention = { age = 'unlimited', count = 10 }, publish_rate = 5 },
        ]";
    let policies = Policies::new(&load(file, &[], &[]).settings.topics.0);
    let policy = |topic: &str| policies.for_topic(&Topic::parse(topic).unwrap());
    assert_eq!(policy("a/b").kind, Kind::Live { slow_reader: SlowReader::Conflate });
    assert_eq!(policy("a/c").publish_rate, Some(PublishRate { per_second: 5, burst: 100 }));
    let Kind::Durable { retention, .. } = policy("a/c").kind else { panic!("durable is the default") };
    assert_eq!((retention.age, retention.count), (None, Some(10)));
    assert!(policy("b").is_durable() && policy("b").filter.is_none());
    assert!(policy("$sys/x").filter.is_none());
    // Nothing is kept of what Spring makes of a user's destinations, unless somebody says so.
    assert!(!policy("user-queue/a-user8f3c21d7").is_durable());
    let file = "topics = [{ filter = 'user-queue/#' }]";
    let policies = Policies::new(&load(file, &[], &[]).settings.topics.0);
    assert!(policies.for_topic(&Topic::parse("user-queue/a").unwrap()).is_durable());
    assert_eq!(policies.list().len(), 3);
}

#[test]
fn an_unknown_setting_is_named_with_its_neighbours() {
    check(
        "[websocket]\nping_intervall = \"3s\"",
        "websocket.ping_intervall = \"3s\" (file:bongsu.toml:2): there is no such setting; did you mean \
         websocket.ping_interval?",
    );
    check(
        "drain = { time = 3 }",
        "drain.time = 3 (file:bongsu.toml:1): there is no such setting; drain has grace, spread",
    );
    check(
        "colour = true",
        "colour = true (file:bongsu.toml:1): there is no such setting; there are node, listen, admin, tls, proxy, \
         data, storage, postgres, redis, cluster, log, telemetry, auth, http, websocket, stomp, sockjs, limits, queues, events, webhooks, drain, topics",
    );
    check(
        "foo = 1",
        "foo = 1 (file:bongsu.toml:1): there is no such setting; there are node, listen, admin, tls, proxy, \
         data, storage, postgres, redis, cluster, log, telemetry, auth, http, websocket, stomp, sockjs, limits, queues, events, webhooks, drain, topics",
    );
    check_all(
        "",
        &[("BONGSU_LOG__LEVLE", "info")],
        &[],
        "log.levle = \"info\" (environment:BONGSU_LOG__LEVLE): there is no such setting; did you mean log.level?",
    );
    check_all(
        "",
        &[("BONGSU_DRAIN_GRACE", "1s")],
        &["--set", "drain=1s"],
        "drain_grace = \"1s\" (environment:BONGSU_DRAIN_GRACE): there is no such setting; there are node, listen, admin, tls, proxy, \
         data, storage, postgres, redis, cluster, log, telemetry, auth, http, websocket, stomp, sockjs, limits, queues, events, webhooks, drain, topics\n\
         drain = … (flag:--set): there is no such setting; it is a section with grace, spread",
    );
    check_all(
        "",
        &[],
        &["--set", "topics[0].kind=live"],
        "topics[0].kind = \"live\" (flag:--set): there is no such setting; there are node, listen, admin, tls, proxy, \
         data, storage, postgres, redis, cluster, log, telemetry, auth, http, websocket, stomp, sockjs, limits, queues, events, webhooks, drain, topics",
    );
}

#[test]
fn a_bad_value_is_told_with_its_origin_and_what_is_allowed() {
    check(
        "[websocket]\nping_interval = \"0s\"",
        "websocket.ping_interval = \"0s\" (file:bongsu.toml:2): it takes a duration such as \"500ms\", \"30s\", \"5m\", \
         \"12h\" or \"7d\", from 1s to 10m",
    );
    check(
        "limits.tail_cache_bytes = 5",
        "limits.tail_cache_bytes = 5 (file:bongsu.toml:1): it takes a size such as \"512B\", \"256KiB\", \"1MiB\" or \
         \"2GiB\", from 1MiB to 64GiB",
    );
    check(
        "limits.connections = \"many\"",
        "limits.connections = \"many\" (file:bongsu.toml:1): it takes an integer, from 1 to 10000000",
    );
    check(
        "limits.connections = 0",
        "limits.connections = 0 (file:bongsu.toml:1): it takes an integer, from 1 to 10000000",
    );
    check(
        "storage.kind = \"redis\"",
        "storage.kind = \"redis\" (file:bongsu.toml:1): it takes \"postgres\" or \"sqlite\" or \"memory\"",
    );
    check(
        "websocket.compression = \"yes\"",
        "websocket.compression = \"yes\" (file:bongsu.toml:1): it takes true or false",
    );
    check("drain = 3", "drain = 3 (file:bongsu.toml:1): it takes a section with grace, spread");
    check(
        "log.level = \"inof\"",
        "log.level = \"inof\" (file:bongsu.toml:1): it takes a level (off, error, warn, info, debug, trace) or levels by \
         module such as \"info,bongsu::hub=debug\"",
    );
    check(
        "http.allowed_origins = [\"example.org\"]",
        "http.allowed_origins = [\"example.org\"] (file:bongsu.toml:1): it takes a list of origins such as \
         \"https://app.example.org\", or [\"*\"]",
    );
    check_all(
        "",
        &[],
        &["--listen", "localhost"],
        "listen = \"localhost\" (flag:--listen): it takes an IP address with a port, such as \"127.0.0.1:8080\" or \
         \"[::]:8080\"; port 0 takes a free one",
    );
    check(
        "[[topics]]\nfilter = \"a/#/b\"\nretention.age = \"soon\"\npublish_rate = 0",
        "topics[0].filter = \"a/#/b\" (file:bongsu.toml:2): it takes a topic filter such as \"chat/#\" or \
         \"sensor/+/heat\"\n\
         topics[0].retention.age = \"soon\" (file:bongsu.toml:3): it takes \"unlimited\" or a duration such as \"500ms\", \
         \"30s\", \"5m\", \"12h\" or \"7d\", from 1s to 36500d\n\
         topics[0].publish_rate = 0 (file:bongsu.toml:4): it takes \"unlimited\" or an integer, from 1 to 1000000",
    );
    check("topics = 3", "topics = 3 (file:bongsu.toml:1): it takes a list of at most 1024 tables");
}

#[test]
fn an_entry_without_a_necessary_value_is_told() {
    check(
        "\n[[topics]]\nkind = \"live\"",
        "topics[0].filter is missing (file:bongsu.toml:2): it takes a topic filter such as \"chat/#\" or \"sensor/+/heat\"",
    );
}

#[test]
fn secrets_stay_out_of_errors() {
    check(
        "[[auth.tokens]]\nname = \"a\"\nsha256 = \"hunter2\"\ntoken = \"hunter2\"",
        "auth.tokens[0].token = *** (file:bongsu.toml:4): there is no such setting; auth.tokens[0] has name, sha256, \
         subscribe, history, publish, presence\n\
         auth.tokens[0].sha256 = *** (file:bongsu.toml:3): it takes the token's SHA-256 digest as 64 hexadecimal digits; \
         `printf %s TOKEN | sha256sum` prints it",
    );
    check_all(
        "",
        &[("BONGSU_AUTH__TOKENS", "hunter2")],
        &[],
        "auth.tokens = a text (environment:BONGSU_AUTH__TOKENS): it takes a list of at most 1024 tables",
    );
}

#[test]
fn values_that_do_not_go_together_are_told_with_what_to_do() {
    check(
        "[tls]\nkey = \"key.pem\"",
        "tls.key = \"key.pem\" (file:bongsu.toml:2): TLS needs tls.certificate as well: set both or none",
    );
    check(
        "stomp.tls_listen = \"127.0.0.1:0\"",
        "stomp.tls_listen = \"127.0.0.1:0\" (file:bongsu.toml:1): TLS needs tls.certificate and tls.key: set both, or use \
         stomp.listen",
    );
    check(
        "stomp.listen = \"0.0.0.0:61613\"",
        "stomp.listen = \"0.0.0.0:61613\" (file:bongsu.toml:1): everybody who reaches this address could read and write \
         everything: add auth.tokens or auth.issuers, or say with auth.anonymous.subscribe and auth.anonymous.publish what anybody may do, or \
         listen on 127.0.0.1",
    );
    check(
        "sockjs.prefixes = [\"/a\", \"/a\"]",
        "sockjs.prefixes = [\"/a\", \"/a\"] (file:bongsu.toml:1): /a stands in sockjs.prefixes already: give each service a path \
         of its own",
    );
    check(
        "drain.grace = \"1s\"",
        "drain.grace = \"1s\" (file:bongsu.toml:1): clients are sent away within drain.grace, which is \"1s\": raise that \
         or lower this",
    );
    check(
        "[[topics]]\nfilter = \"a\"\nslow_reader = \"conflate\"",
        "topics[0].slow_reader = \"conflate\" (file:bongsu.toml:3): readers of a durable topic continue from history: \
         remove it, or set kind = \"live\"",
    );
    check(
        "[[topics]]\nfilter = \"a\"\nkind = \"live\"\nretention.count = 3",
        "topics[0].retention.count = 3 (file:bongsu.toml:4): a live topic keeps no history: remove it, or set kind = \
         \"durable\"",
    );
    check(
        "[[topics]]\nfilter = \"a\"\n[[topics]]\nfilter = \"a\"\npublish_burst = 3",
        "topics[1].publish_burst = 3 (file:bongsu.toml:5): there is no publish_rate that it could belong to: set one, or \
         remove it\n\
         topics[1].filter = \"a\" (file:bongsu.toml:4): topics[0] has the same filter and comes first: remove one of them",
    );
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    check(
        &format!(
            "auth.tokens = [{{ name = 'a', sha256 = '{digest}' }}, {{ name = 'b', sha256 = '{digest}' }}]"
        ),
        "auth.tokens[1].sha256 = *** (file:bongsu.toml:1): auth.tokens[0] has the same digest: one token has one subject",
    );
}

#[test]
fn the_network_needs_permissions_that_somebody_gave() {
    check_all(
        "",
        &[("BONGSU_LISTEN", "[::]:8080")],
        &[],
        "listen = \"[::]:8080\" (environment:BONGSU_LISTEN): everybody who reaches this address could read and write \
         everything: add auth.tokens or auth.issuers, or say with auth.anonymous.subscribe and auth.anonymous.publish what anybody may do, \
         or listen on 127.0.0.1",
    );
    let loaded = load("", &[], &["--listen", "0.0.0.0:0", "--set", "auth.anonymous.subscribe=news/#"]);
    let grant = loaded.settings.anonymous();
    assert_eq!((grant.subscribe.len(), grant.publish.len(), grant.presence.len()), (1, 0, 0));
    load("", &[], &["--listen", "[::1]:0"]);
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_its_line() {
    check("\n\nlisten = ", "file:bongsu.toml:3: string values must be quoted, expected literal string");
    check("listen = \"a\"\nlisten = \"b\"", "file:bongsu.toml:2: duplicate key");
    check(&"#".repeat((1 << 20) + 1), "file:bongsu.toml: a configuration has at most 1048576 bytes");
    check_all("", &[], &["--config", "/dev/null/x"], "file:/dev/null/x: Not a directory (os error 20)");
    check_all(
        "",
        &[],
        &["--set", "listen"],
        "flag:--set: it takes KEY=VALUE, such as websocket.ping_interval=10s",
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    let errors = try_load("a = 1\ndrain.grace = 1\n[[topics]]\n[[topics]]", &[], &[]).unwrap_err();
    assert_eq!(errors.lines().count(), 4, "{errors}");
}

#[test]
fn the_documented_example_holds() {
    let text = markdown();
    let example = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    load(example, &[], &[]);
}

#[test]
fn telemetry_goes_to_a_collector_by_http_and_holds_no_secret() {
    let endpoint = |url: &str| format!("telemetry.otlp_endpoint = \"{url}\"\ntelemetry.traces_ratio = 1");
    for url in ["http://127.0.0.1:4318", "https://collector.example", "http://[::1]:4318/otlp"] {
        let loaded = load(&endpoint(url), &[], &[]);
        assert!((loaded.settings.telemetry.traces_ratio.as_f64() - 1.0).abs() < f64::EPSILON);
    }
    for url in
        ["grpc://127.0.0.1:4317", "http://me:secret@collector.example", "http://collector.example/?key=1"]
    {
        let errors = try_load(&endpoint(url), &[], &[]).unwrap_err();
        assert!(errors.contains("it takes http:// or https:// with a host"), "{errors}");
        assert!(!errors.contains("secret"), "{errors}");
    }
    check(
        "telemetry.traces_ratio = 0.5",
        "telemetry.traces_ratio = 0.5 (file:bongsu.toml:1): there is no telemetry.otlp_endpoint that it could belong to: \
         set one, or remove it",
    );
    check(
        "telemetry.traces_ratio = 1.5",
        "telemetry.traces_ratio = 1.5 (file:bongsu.toml:1): it takes a number such as 0.01, from 0.0 to 1.0",
    );
}

#[test]
fn who_may_subscribe_reads_history_unless_that_is_said_apart() {
    let token = |name: &str, rest: &str| {
        let digest = name.repeat(64);
        format!("[[auth.tokens]]\nname = \"{name}\"\nsha256 = \"{digest}\"\nsubscribe = [\"a/#\"]\n{rest}\n")
    };
    let text = [token("a", ""), token("b", "history = []")].concat();
    let text = text + "[auth.anonymous]\nsubscribe = [\"b\"]\n";
    let settings = load(&text, &[], &[]).settings;
    let [first, second] = &settings.auth.tokens.0[..] else { panic!("two tokens") };
    assert_eq!(first.history, first.subscribe);
    assert!(second.history.is_empty());
    assert_eq!(settings.anonymous().history, settings.anonymous().subscribe);
}

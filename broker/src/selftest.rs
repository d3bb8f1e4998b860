//! What may stand between a client and a node, and how to mend it: told by `GET /v1/selftest` and `bongsu selftest`.

use serde::{Deserialize, Serialize};

/// Headers that clients send and nodes need; each is looked for in a request of the self-test.
pub const REQUEST_HEADERS: &[&str] = &[
    "authorization",
    "last-event-id",
    "if-none-match",
    "idempotency-key",
    "stream-seq",
    "producer-id",
    "producer-epoch",
    "producer-seq",
];

/// Headers of answers that clients need; each is on an answer of the self-test.
pub const ANSWER_HEADERS: &[&str] =
    &["etag", "cache-control", "x-resume", "x-start", "stream-next-offset", "stream-cursor", "retry-after"];

/// Pieces of a streamed answer of the self-test.
pub const PIECES: u64 = 5;

/// Milliseconds between two of them.
pub const PIECE_PAUSE_MS: u64 = 200;

/// What a node saw of a request: the answer of `GET /v1/selftest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The node that answered.
    pub node: String,
    /// Milliseconds since 1970, by its clock.
    pub time: u64,
    /// The version of HTTP that the node's neighbour speaks, such as `HTTP/1.1`.
    pub http: String,
    /// Whether the client speaks TLS, as far as the node knows.
    pub tls: bool,
    /// The address that the node takes for the client's.
    pub client: String,
    /// Whether a trusted proxy told it.
    pub told: bool,
    /// Which of the headers in question arrived.
    pub arrived: Vec<String>,
    /// Which headers of proxies were there.
    pub of_proxies: Vec<String>,
    /// What is wrong, as far as it shows on this side.
    pub findings: Vec<Finding>,
}

/// Something between that does harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which kind, for programs: `buffering`.
    pub code: String,
    /// What is wrong and what comes of it.
    pub problem: String,
    /// What this is about: names of headers, or a time.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// How to mend it in nginx.
    pub nginx: String,
    /// In HAProxy.
    pub haproxy: String,
    /// In Amazon's Application Load Balancer.
    pub alb: String,
}

macro_rules! troubles {
    ($($(#[doc = $doc:literal])+ $Trouble:ident = $code:literal, $problem:literal, nginx $nginx:literal, haproxy $haproxy:literal, alb $alb:literal;)+) => {
        /// Kinds of harm.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Trouble { $($(#[doc = $doc])+ $Trouble,)+ }

        impl Trouble {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$Trouble),+];

            /// The finding, with what it is about.
            #[must_use]
            pub fn found(self, detail: impl Into<String>) -> Finding {
                let (code, problem, nginx, haproxy, alb) = match self {
                    $(Self::$Trouble => ($code, $problem, $nginx, $haproxy, $alb),)+
                };
                let text = str::to_owned;
                let (code, problem) = (text(code), text(problem));
                Finding { code, problem, detail: detail.into(), nginx: text(nginx), haproxy: text(haproxy), alb: text(alb) }
            }
        }
    };
}

troubles! {
    /// Answers are held back until they are whole.
    Buffering = "buffering",
        "Streamed answers are held back: event streams and SockJS streaming deliver nothing until they end, or late.",
        nginx "proxy_buffering off; in the location (or do not hide X-Accel-Buffering)",
        haproxy "remove option http-buffer-request and filters that need whole bodies; HAProxy itself does not hold answers back",
        alb "an ALB does not hold answers back: look at what is behind or before it, such as CloudFront or Lambda";
    /// Streamed answers are compressed.
    Compression = "compression",
        "Streamed answers are compressed on the way, which holds small pieces back.",
        nginx "gzip off; in the location (text/event-stream must not stand in gzip_types)",
        haproxy "remove compression for text/event-stream: list other types in compression type",
        alb "an ALB does not compress: turn off compression of this path in CloudFront";
    /// Upgrades do not come through.
    NoUpgrade = "no_upgrade",
        "WebSockets do not come through: the request to upgrade arrives without it, or its answer does not come back. Clients use slower transports or cannot connect.",
        nginx "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";",
        haproxy "mode http passes upgrades: remove option httpclose, and set timeout tunnel 1h",
        alb "use an HTTP/1.1 target group (not HTTP/2 or gRPC)";
    /// Headers of requests are lost.
    RequestHeaders = "request_headers_lost",
        "Headers of requests do not arrive: tokens, resuming or safe repeating fail where they are missing.",
        nginx "remove proxy_set_header lines that empty them, and proxy_pass_request_headers off",
        haproxy "remove http-request del-header and set-header lines for them",
        alb "an ALB passes them: look at what is before it, such as a cache policy of CloudFront";
    /// Headers of answers are lost.
    AnswerHeaders = "answer_headers_lost",
        "Headers of answers do not come back: clients cannot tell where to resume, or when to come again.",
        nginx "remove proxy_hide_header lines for them",
        haproxy "remove http-response del-header lines for them",
        alb "an ALB passes them: look at what is before it, such as a response headers policy of CloudFront";
    /// Long answers are cut off.
    CutOff = "cut_off",
        "Silent requests are cut off before they are answered: long polls fail, and event streams break while nothing happens.",
        nginx "proxy_read_timeout 75s; or lower http.long_poll_timeout of the node",
        haproxy "timeout server 75s and timeout client 75s; or lower http.long_poll_timeout of the node",
        alb "set the idle timeout (idle_timeout.timeout_seconds) to 75; or lower http.long_poll_timeout of the node";
    /// The neighbour speaks HTTP/1.0.
    OldHttp = "http_1_0",
        "The proxy speaks HTTP/1.0 to the node: no streaming in chunks, no kept connections, no upgrades.",
        nginx "proxy_http_version 1.1;",
        haproxy "HAProxy speaks HTTP/1.1: look at what is behind it",
        alb "an ALB speaks HTTP/1.1: look at what is behind it";
    /// A proxy tells of clients, and is not believed.
    NotBelieved = "forwarded_not_believed",
        "A proxy tells of its clients in headers, and the node does not believe it: all clients have the proxy's address in limits, pins, logs and events.",
        nginx "set proxy.trusted of the node to nginx's address and proxy.headers to x-forwarded-for",
        haproxy "set proxy.trusted of the node to HAProxy's address and proxy.headers to x-forwarded-for; or send-proxy-v2 and proxy.protocol",
        alb "set proxy.trusted of the node to the ALB's subnets and proxy.headers to x-forwarded-for";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trouble_has_its_own_code_and_says_how_to_mend_it_everywhere() {
        let found: Vec<_> = Trouble::ALL.iter().map(|trouble| trouble.found("")).collect();
        let mut codes: Vec<_> = found.iter().map(|finding| &finding.code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), found.len());
        for finding in &found {
            let Finding { problem, nginx, haproxy, alb, .. } = finding;
            assert!([problem, nginx, haproxy, alb].iter().all(|text| text.len() > 20), "{finding:?}");
        }
    }
}

//! The pages and documents that every service has. Their text is the protocol's: clients and its test suite compare it.

use sha2::{Digest as _, Sha256};

use super::frame::quote;
use super::transport::Callback;

/// Bytes of a page before a browser looks at it.
const PAGE_BYTES_MIN: usize = 1024;

/// What `GET …/info` answers. Never cached, since each answer has another `entropy`.
#[derive(Debug, Clone, Copy)]
pub struct Info<'a> {
    /// Whether the service takes WebSockets.
    pub websocket: bool,
    /// Whether a load balancer wants the `JSESSIONID` cookie.
    pub cookie_needed: bool,
    /// From a cryptographic source, another one each time: browsers make session ids of it.
    pub entropy: u32,
    /// Where the client should go for everything else, instead of where it asked.
    pub base_url: Option<&'a str>,
}

impl Info<'_> {
    /// The JSON text.
    #[must_use]
    pub fn body(&self) -> String {
        let Self { websocket, cookie_needed, entropy, base_url } = self;
        let mut body = format!(
            r#"{{"websocket":{websocket},"origins":["*:*"],"cookie_needed":{cookie_needed},"entropy":{entropy}"#
        );
        if let Some(base_url) = base_url {
            body.push_str(r#","base_url":"#);
            quote(base_url, &mut body);
        }
        body.push('}');
        body
    }
}

/// The page that a client loads in an iframe where its own page may not speak to the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IframePage {
    /// The page.
    pub body: String,
    /// The `ETag`, quotes included: another one for each body.
    pub etag: String,
}

impl IframePage {
    /// The page that loads the client library from this address.
    #[must_use]
    pub fn new(sockjs_url: &str) -> Self {
        let url = sockjs_url.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
        let body = format!(
            r#"<!DOCTYPE html>
<html>
<head>
  <meta http-equiv="X-UA-Compatible" content="IE=edge" />
  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />
  <script src="{url}"></script>
  <script>
    document.domain = document.domain;
    SockJS.bootstrap_iframe();
  </script>
</head>
<body>
  <h2>Don't panic!</h2>
  <p>This is a SockJS hidden iframe. It's used for cross domain magic.</p>
</body>
</html>"#
        );
        let digest: String =
            Sha256::digest(&body).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self { body, etag: format!("\"{digest}\"") }
    }

    /// Whether a request with this `If-None-Match` has the page already: answer 304 without body and content type.
    #[must_use]
    pub fn is_known(&self, if_none_match: &str) -> bool {
        let tag = |tag: &str| tag.trim().trim_start_matches("W/") == self.etag;
        if_none_match.trim() == "*" || if_none_match.split(',').any(tag)
    }
}

/// What an `htmlfile` answer begins with: a page that calls the client's page, padded so that browsers look at it at once.
pub(super) fn html_file_head(callback: &Callback) -> String {
    let mut head = format!(
        r#"<!doctype html>
<html><head>
  <meta http-equiv="X-UA-Compatible" content="IE=edge" />
  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />
</head><body><h2>Don't panic!</h2>
  <script>
    document.domain = document.domain;
    var c = parent.{};
    c.start();
    function p(d) {{c.message(d);}};
    window.onload = function() {{c.stop();}};
  </script>"#,
        callback.as_str()
    );
    let n_blanks = PAGE_BYTES_MIN.saturating_sub(head.len());
    head.push_str(&" ".repeat(n_blanks));
    head.push_str("\r\n\r\n");
    head
}

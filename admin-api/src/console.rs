//! The console: files for a browser. What they show comes from the API, which they ask like anybody else.
//!
//! The files are part of the program and are served to whoever reaches the port: nothing in them is a secret, and without a credential they
//! show a form that asks for one. What a page of this origin may do is what [`POLICY`] says: it runs and loads these files, speaks to this
//! node, and to nobody else; a text that somebody published cannot become a script in it.

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// What the browser holds the console to. Trusted types without a policy: no text becomes markup or code, whoever wrote it.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                          base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                          trusted-types 'none'";

/// One file.
struct File {
    /// From `admin-api/console`.
    name: &'static str,
    body: &'static [u8],
}

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        &[$(File { name: $name, body: include_bytes!(concat!("../console/", $name)) }),+]
    };
}

/// Every file of the console.
const FILES: &[File] = files![
    "api.js",
    "chart.js",
    "dialog.js",
    "dom.js",
    "editor.js",
    "figures.css",
    "form.js",
    "format.js",
    "icon.svg",
    "index.html",
    "lines.js",
    "main.js",
    "offer.js",
    "pages/audit.js",
    "pages/closes.js",
    "pages/connections.js",
    "pages/keys.js",
    "pages/limits.js",
    "pages/overview.js",
    "pages/policies.js",
    "pages/publish.js",
    "pages/sign-in.js",
    "pages/tokens.js",
    "pages/topic-whole.js",
    "pages/topic.js",
    "pages/topics.js",
    "pages/trace.js",
    "pages/users.js",
    "pages/webhooks.js",
    "parts.css",
    "parts.js",
    "payload.js",
    "style.css",
    "table.js",
];

/// The console: its page at `/`, everything else below `/console/`.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.iter().fold(Router::new(), |router, file| {
        let etag = etag(file.body);
        let handler = get(move |headers: HeaderMap| {
            let etag = etag.clone();
            async move { answer(file, etag, &headers) }
        });
        match file.name {
            "index.html" => router.route("/", handler),
            name => router.route(&format!("/console/{name}"), handler),
        }
    })
}

/// The file, or that the browser has it.
fn answer(file: &'static File, etag: HeaderValue, asked: &HeaderMap) -> Response {
    let is_known = asked.get_all(header::IF_NONE_MATCH).iter().any(|known| names(known, &etag));
    let body = if is_known { Body::empty() } else { Body::from(Bytes::from_static(file.body)) };
    let mut response = Response::new(body);
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    // Asked for each time and mostly answered with 304: a node that was updated must not be used with the pages of the one before.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind(file.name)));
    headers.insert(header::ETAG, etag);
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Another site's window must not hold this one, nor its page load these files as its own.
    for name in ["cross-origin-opener-policy", "cross-origin-resource-policy"] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static("same-origin"));
    }
    response
}

/// Whether `If-None-Match` names this version (RFC 9110, 13.1.2: the weak comparison).
fn names(known: &HeaderValue, etag: &HeaderValue) -> bool {
    let Ok(known) = known.to_str() else { return false };
    let mut listed = known.split(',').map(|one| one.trim().trim_start_matches("W/").as_bytes());
    listed.any(|one| one == b"*" || one == etag.as_bytes())
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("css") => "text/css; charset=utf-8",
        Some("html") => "text/html; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/javascript; charset=utf-8",
    }
}

/// What tells versions of a file apart: FNV-1a of its bytes. It guards against nobody; it only must change with them.
fn etag(body: &[u8]) -> HeaderValue {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = body.iter().fold(0xcbf2_9ce4_8422_2325, fold);
    HeaderValue::try_from(format!("\"{hash:016x}\""))
        .expect("hexadecimal digits in quotes can stand in a header")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn files_below(folder: &Path, prefix: &str, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                files_below(&entry.path(), &format!("{name}/"), found);
            } else {
                found.insert(name);
            }
        }
    }

    fn text(file: &File) -> &'static str {
        std::str::from_utf8(file.body).expect("it is text")
    }

    fn page() -> &'static File {
        FILES.iter().find(|file| file.name == "index.html").expect("the page")
    }

    #[test]
    fn every_file_of_the_folder_is_served() {
        let mut found = BTreeSet::new();
        files_below(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/console")), "", &mut found);
        assert_eq!(found, FILES.iter().map(|file| file.name.to_owned()).collect());
    }

    #[test]
    fn a_file_is_sent_once_and_then_known_by_its_version() {
        let response = answer(page(), etag(page().body), &HeaderMap::new());
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-security-policy"], POLICY);
        assert_eq!(response.headers()["cache-control"], "no-cache");
        let version = response.headers()["etag"].to_str().expect("text");
        let ask = |value: &str| {
            let value = HeaderValue::try_from(value).expect("a header");
            let asked = HeaderMap::from_iter([(header::IF_NONE_MATCH, value)]);
            answer(page(), etag(page().body), &asked).status()
        };
        assert_eq!(ask(version), StatusCode::NOT_MODIFIED);
        assert_eq!(ask(&format!("\"other\", W/{version}")), StatusCode::NOT_MODIFIED);
        assert_eq!(ask("*"), StatusCode::NOT_MODIFIED);
        assert_eq!(ask("\"other\""), StatusCode::OK);
    }

    #[test]
    fn files_that_differ_have_other_versions() {
        let versions: BTreeSet<_> = FILES.iter().map(|file| etag(file.body).as_bytes().to_vec()).collect();
        assert_eq!(versions.len(), FILES.len());
    }

    #[test]
    fn the_policy_allows_no_inline_code_and_no_other_host() {
        for unwanted in ["unsafe-", "data:", "blob:", "http", "*"] {
            assert!(!POLICY.contains(unwanted), "{unwanted}");
        }
        for unwanted in [" style=", "<style", " onclick=", " onload=", "<script>"] {
            assert!(!text(page()).contains(unwanted), "{unwanted} does not work under the policy");
        }
    }

    #[test]
    fn the_files_need_no_network_and_make_no_markup_of_texts() {
        let sinks =
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"];
        for file in FILES.iter().filter(|file| file.name != "icon.svg") {
            let text = text(file).replace("http://www.w3.org/2000/svg", "");
            for unwanted in sinks.iter().chain(&["http://", "https://"]) {
                assert!(!text.contains(unwanted), "{}: {unwanted}", file.name);
            }
        }
    }
}

//! The server for the room's pages. Everything on them is compiled in but the libraries of the STOMP page, which npm brings.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use axum::Router;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{MethodRouter, get};
use http::header;
use tokio::net::TcpListener;

/// A way to take part in the room.
pub(crate) struct Page {
    /// `NAME.html` is the page and `NAME.js` its script.
    name: &'static str,
    /// What it uses.
    pub(crate) uses: &'static str,
    script: &'static str,
    /// What its script needs first.
    libraries: &'static [Library],
}

/// All of them.
pub(crate) const PAGES: [Page; 3] = [
    Page {
        name: "native",
        uses: "Bongsu's own client, over WebSocket",
        script: include_str!("../pages/native.js"),
        libraries: &[],
    },
    Page {
        name: "stomp",
        uses: "sockjs-client and stompjs, as npm has them",
        script: include_str!("../pages/stomp.js"),
        libraries: &LIBRARIES,
    },
    Page {
        name: "eventsource",
        uses: "nothing but EventSource and fetch",
        script: include_str!("../pages/eventsource.js"),
        libraries: &[],
    },
];

/// The room as all of them show it.
const ROOM: &str = include_str!("../pages/room.html");

/// A library that is not part of this repository: `npm ci` puts it beside this crate, and whoever did not call that has it from the network.
struct Library {
    name: &'static str,
    /// In the folder of packages.
    file: &'static str,
    url: &'static str,
    /// The digest of either, which the browser checks.
    integrity: &'static str,
}

/// The versions are those of `package.json`.
const LIBRARIES: [Library; 2] = [
    Library {
        name: "sockjs.js",
        file: "sockjs-client/dist/sockjs.min.js",
        url: "https://cdn.jsdelivr.net/npm/sockjs-client@1.6.1/dist/sockjs.min.js",
        integrity: "sha384-svdnwiXBL+Js+yUneJSRFy24NgGiOfDM/vkQl/vCeVrcbYD6yW8EwPr1FnxTEZsR",
    },
    Library {
        name: "stomp.js",
        file: "@stomp/stompjs/bundles/stomp.umd.min.js",
        url: "https://cdn.jsdelivr.net/npm/@stomp/stompjs@7.5.0/bundles/stomp.umd.min.js",
        integrity: "sha384-kQjQD4X78U0SNVeFmVuyOn7JuHmYlQ/CaFvAm/Omtfa8/ev8Iu1Ur9grrK53Vp/z",
    },
];

/// Where those without npm have the libraries from.
const NETWORK: &str = "https://cdn.jsdelivr.net";

/// Where `npm ci` puts packages.
const NODE_MODULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node_modules");

/// A bound socket, not yet served.
#[derive(Debug)]
pub(crate) struct Pages {
    tcp: TcpListener,
    address: SocketAddr,
}

impl Pages {
    /// Binds the address.
    ///
    /// # Errors
    /// It is taken.
    pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let bound = TcpListener::bind(address).await;
        let tcp = bound.with_context(|| {
            format!("cannot serve the pages on {address}: choose another address with --pages")
        })?;
        let address = tcp.local_addr()?;
        Ok(Self { tcp, address })
    }

    /// Where they are.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The same as a browser says it of requests to others: by its number and, on this machine, by its name.
    pub(crate) fn origins(&self) -> Vec<String> {
        let mut origins = vec![format!("http://{}", self.address)];
        if self.address.ip().is_loopback() {
            origins.push(format!("http://localhost:{}", self.address.port()));
        }
        origins
    }

    /// Serves pages that use this broker.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) async fn serve(self, broker: &str) -> anyhow::Result<()> {
        Ok(axum::serve(self.tcp, routes(broker)).await?)
    }
}

fn routes(broker: &str) -> Router {
    let javascript = "text/javascript; charset=utf-8";
    let mut routes = Router::new()
        .route("/", get(|| async { Redirect::temporary("/native.html") }))
        .route("/room.js", asset(javascript, include_str!("../pages/room.js")))
        .route("/room.css", asset("text/css; charset=utf-8", include_str!("../pages/room.css")));
    for page in PAGES {
        let html = page.html(broker);
        let policy = content_security_policy(broker);
        let headers = move || [(header::CONTENT_SECURITY_POLICY, policy.clone())];
        let answer = get(move || async move { (headers(), Html(html.clone())) });
        routes = routes
            .route(&format!("/{}.html", page.name), answer)
            .route(&format!("/{}.js", page.name), asset(javascript, page.script));
    }
    for library in &LIBRARIES {
        routes = routes.route(&format!("/vendor/{}", library.name), get(|| async { library.answer() }));
    }
    routes
}

fn asset(kind: &'static str, body: &'static str) -> MethodRouter {
    get(move || async move { ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], body) })
}

/// What the pages may load and connect to: this server, the broker, and libraries. SockJS may need frames, scripts and
/// forms of the broker's, where WebSockets do not get through.
fn content_security_policy(broker: &str) -> String {
    let broker = broker.trim_end_matches('/');
    let socket = broker.replacen("http", "ws", 1);
    format!(
        "default-src 'none'; style-src 'self'; img-src {broker}; script-src 'self' {broker} {NETWORK}; \
         connect-src {broker} {socket}; frame-src {broker}; form-action {broker}; base-uri 'none'; frame-ancestors 'none'"
    )
}

impl Page {
    /// Where it is on the server.
    pub(crate) fn file(&self) -> String {
        format!("{}.html", self.name)
    }

    fn html(&self, broker: &str) -> String {
        let library = |Library { name, integrity, .. }: &Library| {
            format!(
                "<script defer src=\"vendor/{name}\" integrity=\"{integrity}\" crossorigin=\"anonymous\"></script>"
            )
        };
        let libraries: Vec<String> = self.libraries.iter().map(library).collect();
        ROOM.replace("{{name}}", self.name)
            .replace("{{uses}}", self.uses)
            .replace("{{broker}}", broker)
            .replace("{{libraries}}", &libraries.join("\n    "))
    }
}

impl Library {
    fn answer(&self) -> Response {
        match std::fs::read(Path::new(NODE_MODULES).join(self.file)) {
            Ok(script) => {
                ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], script).into_response()
            }
            Err(_) => Redirect::temporary(self.url).into_response(),
        }
    }
}

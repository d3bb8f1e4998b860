//! The services that the public test suite of SockJS expects, made of the broker's own SockJS code.
//!
//! `cargo xtask sockjs` runs the suite against it. `cargo run --example sockjs [address]` listens on the address, or on a free loopback
//! port, and prints where; the suite itself expects `127.0.0.1:8081`.
//!
//! | service | what it does |
//! |---|---|
//! | `/echo` | says what it hears; streaming answers have 4096 bytes |
//! | `/disabled_websocket_echo` | the same without WebSockets |
//! | `/cookie_needed_echo` | the same with the cookie `JSESSIONID` |
//! | `/close` | says goodbye at once |

use std::sync::Arc;

use anyhow::Context as _;
use bongsu::config::{AllowedOrigin, Settings};
use bongsu::dialog::Language;
use bongsu::listener::Listener;
use bongsu::listener::sockjs::Service;
use bongsu::node::Node;
use bongsu_persistence::memory::MemoryStore;

/// Bytes of one streaming answer, as the suite expects.
const RESPONSE_BYTES: usize = 4096;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut settings = Settings::default();
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    settings.listen = address.parse().with_context(|| format!("{address} is no address with a port"))?;
    // The suite sends origins such as `test`.
    settings.http.allowed_origins = vec![AllowedOrigin::Any];
    let service = |prefix, language| Service {
        response_bytes: RESPONSE_BYTES,
        ..Service::new(prefix, language, &settings)
    };
    let services = vec![
        service("/echo", Language::Echo),
        Service { websocket: false, ..service("/disabled_websocket_echo", Language::Echo) },
        Service { cookie_needed: true, ..service("/cookie_needed_echo", Language::Echo) },
        service("/close", Language::Farewell),
    ];
    let node = Node::start(settings, Arc::new(MemoryStore::default()), None);
    let listener = Listener::bind(&node)?.with_services(services);
    println!("{}", listener.url()?);
    listener.serve(node).await;
    Ok(())
}

//! The transport that is a socket: with SockJS' frames, or raw.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use bongsu_protocol::codec::Format;
use bongsu_protocol::sockjs::Route;
use bongsu_protocol::stomp::Version;
use http::StatusCode;

use super::{Desk, answer, caller, receive};
use crate::connection::Framing;
use crate::dialog::Language;
use crate::listener::Admission;
use crate::listener::websocket::{Opening, SUBPROTOCOLS, too_many};
use crate::metrics::METRICS;
use crate::websocket::handshake::{self, Choice, Deflate};

/// The sub-protocols of STOMP. The version is settled by the first frame, whatever stands here.
const STOMP_SUBPROTOCOLS: &[&str] =
    &[Version::V12.sub_protocol(), Version::V11.sub_protocol(), Version::V10.sub_protocol()];

impl Desk {
    /// Turns the request into a connection.
    pub(super) async fn upgrade(
        self: &Arc<Self>,
        mut request: Request,
        route: Route<'_>,
        peer: SocketAddr,
        admission: &Admission,
    ) -> Response {
        let is_raw = route == Route::RawWebSocket;
        let accepted = match handshake::check(&request, &self.handshake(is_raw)) {
            Ok(accepted) => accepted,
            Err(rejected) => {
                METRICS.handshakes_refused.add(1);
                if rejected.status == StatusCode::UPGRADE_REQUIRED {
                    return answer::text(StatusCode::BAD_REQUEST, "Not a valid websocket request");
                }
                return rejected.response();
            }
        };
        // The first WebSocket of an HTTP connection takes over its place; others, within HTTP/2, need their own.
        let place = admission.lock().ok().and_then(|mut place| place.take()).or_else(|| self.node.admit());
        let Some(place) = place else { return receive::busy() };
        let place = match place.at(self.node.quotas(), peer.ip()) {
            Ok(place) => place,
            Err(refused) => return too_many(&refused),
        };
        let on_upgrade = hyper::upgrade::on(&mut request);
        let response = accepted.response();
        let language = match &self.service.language {
            Language::Native(_) if accepted.subprotocol == Some(Format::Binary.sub_protocol()) => {
                Language::Native(Format::Binary)
            }
            language => language.clone(),
        };
        let framing = if is_raw { Framing::WebSocket { deflate: accepted.deflate } } else { Framing::SockJs };
        let identity = caller::identify(&self.node, accepted.token.as_ref()).await;
        let opening = Opening { language, framing, identity, peer, admission: place };
        tokio::spawn(opening.run(Arc::clone(&self.node), on_upgrade));
        response
    }

    fn handshake(&self, is_raw: bool) -> handshake::Settings {
        let json = Format::Json.sub_protocol();
        let is_stomp = matches!(self.service.language, Language::Stomp(_));
        let (subprotocols, default_subprotocol): (&'static [&'static str], _) =
            match (&self.service.language, is_raw) {
                (Language::Native(_), true) => (SUBPROTOCOLS, Some(json)),
                (Language::Native(_), false) => (&SUBPROTOCOLS[1..], Some(json)),
                (Language::Stomp(_), true) => (STOMP_SUBPROTOCOLS, None),
                (Language::Stomp(_) | Language::Echo | Language::Farewell, _) => (&[], None),
            };
        let compression = self.node.settings().websocket.compression
            && self.node.connections() <= self.node.settings().websocket.compression_connections_max;
        handshake::Settings {
            subprotocols,
            choice: if is_stomp { Choice::Ours } else { Choice::Clients },
            default_subprotocol,
            origins: self.admitted.origins.clone(),
            own_hosts: self.admitted.own_hosts,
            // Each MESSAGE of STOMP begins with a few bytes for its subscription alone: each would be compressed by itself.
            deflate: if is_raw && compression && !is_stomp { Deflate::On } else { Deflate::Off },
        }
    }
}

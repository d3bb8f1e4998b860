//! One message, sent to its receiver once.

use std::time::Duration;

use bongsu_protocol::eventstream::{Shape, encode_message};
use bongsu_protocol::message::Delivery;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use sha2::{Digest as _, Sha256};

use super::signature::Secrets;
use crate::clock;
use crate::http_client::Client;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The receiver took it: any status from 200 to 299.
    Taken(StatusCode),
    /// The receiver is gone for good: 410.
    Gone,
    /// It did not, and may later.
    Failed {
        /// Why, in words: without what was sent, and without secrets.
        reason: String,
        /// What it answered, if it did.
        status: Option<StatusCode>,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
}

/// The id of a message for its receiver: the same however often it is sent, and of no other message.
pub(super) fn id_of(delivery: &Delivery) -> String {
    let position = delivery.position.unwrap_or_default();
    let digest = Sha256::digest(format!("{} {position}", delivery.topic).as_bytes());
    digest[..16].iter().fold("msg_".to_owned(), |id, byte| id + &format!("{byte:02x}"))
}

/// What is sent: the delivery as the native protocol's JSON has it.
pub(super) fn body_of(delivery: &Delivery) -> Bytes {
    let mut body = BytesMut::new();
    encode_message(Shape::Lines, delivery, &mut body);
    while body.last().is_some_and(u8::is_ascii_whitespace) {
        body.truncate(body.len() - 1);
    }
    body.freeze()
}

/// Sends a message, and waits for the answer for so long.
pub(super) async fn post(
    client: &Client,
    url: &str,
    secrets: &Secrets,
    delivery: &Delivery,
    timeout: Duration,
) -> Outcome {
    let (id, body) = (id_of(delivery), body_of(delivery));
    let seconds = clock::wall().0 / 1000;
    let request = Request::builder()
        .method(Method::POST)
        .uri(url)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("bongsu/", env!("CARGO_PKG_VERSION")))
        .header("webhook-id", &id)
        .header("webhook-timestamp", seconds.to_string())
        .header("webhook-signature", secrets.sign(&id, seconds, &body))
        .body(body);
    let failed = |reason: String| Outcome::Failed { reason, status: None, retry_after: None };
    let request = match request {
        Ok(request) => request,
        Err(error) => return failed(error.to_string()),
    };
    match tokio::time::timeout(timeout, client.send(request)).await {
        Err(_) => failed(format!("no answer within {timeout:?}")),
        Ok(Err(error)) => failed(error.to_string()),
        Ok(Ok(answer)) => judge(&answer),
    }
}

fn judge(answer: &Response<Bytes>) -> Outcome {
    let status = answer.status();
    if status.is_success() {
        return Outcome::Taken(status);
    }
    if status == StatusCode::GONE {
        return Outcome::Gone;
    }
    let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    Outcome::Failed {
        reason: format!("the receiver answered {}", status.as_u16()),
        status: Some(status),
        retry_after: retry_after.and_then(pause_of),
    }
}

/// The time of a `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
fn pause_of(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let at = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(at.saturating_sub(Duration::from_millis(clock::wall().0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: &str) -> Response<Bytes> {
        Response::builder().status(status).header(RETRY_AFTER, retry_after).body(Bytes::new()).unwrap()
    }

    #[test]
    fn answers_are_judged_by_their_status() {
        for status in [200, 201, 202, 204, 299] {
            let answer = judge(&answer(status, "7"));
            assert!(matches!(answer, Outcome::Taken(said) if said.as_u16() == status));
        }
        assert_eq!(judge(&answer(410, "7")), Outcome::Gone);
        // A redirect is no answer, and is not followed.
        for status in [301, 302, 307, 308, 400, 404, 429, 500, 503] {
            let Outcome::Failed { status: Some(said), retry_after, .. } = judge(&answer(status, "7")) else {
                panic!("{status} is a failure");
            };
            assert_eq!((said.as_u16(), retry_after), (status, Some(Duration::from_secs(7))));
        }
    }

    #[test]
    fn times_to_wait_are_seconds_or_a_date() {
        assert_eq!(pause_of("120"), Some(Duration::from_secs(120)));
        assert_eq!(pause_of("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert!(pause_of("Wed, 31 Dec 2200 23:59:59 GMT").unwrap() > Duration::from_secs(3600));
        assert_eq!(pause_of("soon"), None);
    }
}

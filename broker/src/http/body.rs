//! Bodies of requests, within their bounds.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::StatusCode;
use http::header::{self, HeaderMap};
use tokio::sync::Semaphore;

use super::problem::Problem;
use crate::limits::{
    HTTP_BODIES_KIB_MAX, HTTP_BODY_BYTES_MAX, HTTP_BODY_DISCARDED_BYTES_MAX, HTTP_BODY_TIMEOUT,
};

/// Receives bodies: a bounded amount at a time on the whole node.
#[derive(Debug)]
pub struct Bodies {
    kib: Semaphore,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { kib: Semaphore::new(HTTP_BODIES_KIB_MAX) }
    }
}

impl Bodies {
    /// Receives a body, for whoever has words of its own for what is wrong with it.
    ///
    /// # Errors
    /// 413, 408 or 400.
    pub async fn take(&self, headers: &HeaderMap, body: Body) -> Result<Bytes, StatusCode> {
        self.receive(headers, body).await.map_err(|problem| problem.status())
    }

    /// Receives a body.
    ///
    /// # Errors
    /// 413, 408 or 400.
    pub(super) async fn receive(&self, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
        let declared =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let bytes_max: usize = declared.unwrap_or(HTTP_BODY_BYTES_MAX).min(HTTP_BODY_BYTES_MAX);
        let kib = u32::try_from((bytes_max / 1024 + 1).min(HTTP_BODIES_KIB_MAX)).unwrap_or(u32::MAX);
        let receive = async {
            // Never closed, so this only waits.
            let _permit = self.kib.acquire_many(kib).await;
            let (mut received, mut n_bytes) = (BytesMut::new(), 0);
            let mut pieces = body.into_data_stream();
            while let Some(piece) = pieces.next().await {
                let piece = piece.map_err(|_| Problem::bad_request("the body ended early"))?;
                n_bytes += piece.len();
                if n_bytes > HTTP_BODY_DISCARDED_BYTES_MAX {
                    break;
                }
                if n_bytes > HTTP_BODY_BYTES_MAX {
                    received = BytesMut::new();
                } else {
                    received.extend_from_slice(&piece);
                }
            }
            if n_bytes > HTTP_BODY_BYTES_MAX {
                return Err(Problem::too_large(format!("a body has at most {HTTP_BODY_BYTES_MAX} bytes")));
            }
            Ok(received.freeze())
        };
        let late =
            |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "bad_request", "the body did not come in time");
        tokio::time::timeout(HTTP_BODY_TIMEOUT, receive).await.map_err(late)?
    }
}

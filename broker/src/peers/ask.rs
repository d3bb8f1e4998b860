//! What nodes ask each other in their own name: `GET` on paths that no client can reach.
//!
//! Whoever asks has a deadline and a bound for the answer, so that a node that hangs costs a moment and one that says too much costs nothing.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};

use super::line::Body;
use super::signature;
use super::{Destination, ForwardError, Peers};
use crate::limits::{PEER_ANSWER_BYTES_MAX, PEER_ASK_DEADLINE};

/// Why another node did not answer a question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It was not asked, or went away.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// It did not answer in time.
    #[error("it did not answer within {PEER_ASK_DEADLINE:?}")]
    Late,
    /// It answered something else than 200: an older version may not know the question.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// It says more than fits.
    #[error("its answer is longer than {PEER_ANSWER_BYTES_MAX} bytes")]
    TooLong,
    /// The connection ended within the answer.
    #[error("its answer ended early")]
    Broken,
}

impl Peers {
    /// Asks another node something, and takes the whole answer.
    ///
    /// # Errors
    /// Each of [`AskError`]. Asking again is always safe.
    pub async fn ask(&self, to: &Destination, path_and_query: &str) -> Result<Bytes, AskError> {
        let asking = async {
            let answer = Limited::new(self.start_asking(to, path_and_query).await?, PEER_ANSWER_BYTES_MAX);
            let answer = answer.collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() { AskError::TooLong } else { AskError::Broken }
            });
            Ok(answer?.to_bytes())
        };
        tokio::time::timeout(PEER_ASK_DEADLINE, asking).await.unwrap_or(Err(AskError::Late))
    }

    /// Asks another node for something that goes on, and takes the beginning of the answer. Drop the body to end it.
    ///
    /// # Errors
    /// As [`ask`](Self::ask), but for what concerns the whole answer.
    pub async fn ask_on(&self, to: &Destination, path_and_query: &str) -> Result<Body, AskError> {
        let asking = self.start_asking(to, path_and_query);
        tokio::time::timeout(PEER_ASK_DEADLINE, asking).await.unwrap_or(Err(AskError::Late))
    }

    async fn start_asking(&self, to: &Destination, path_and_query: &str) -> Result<Body, AskError> {
        let secret = self.secrets.current().ok_or(ForwardError::NoSecret)?;
        let mut headers = HeaderMap::new();
        headers.insert(signature::ASKS, HeaderValue::from_static("1"));
        let head = self.signed(&secret, to, Method::GET, path_and_query, headers)?;
        let request = head.map(|()| Empty::new().map_err(|never| match never {}).boxed_unsync());
        let answer = self.lines.to(&to.incarnation).send(request, || self.connect(&secret, to)).await?;
        if answer.headers().contains_key(signature::ANSWER) {
            return Err(ForwardError::Refused.into());
        }
        match answer.status() {
            StatusCode::OK => Ok(answer.into_body()),
            status => Err(AskError::Status(status)),
        }
    }
}

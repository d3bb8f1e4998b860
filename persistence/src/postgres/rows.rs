//! How messages and numbers stand in rows.

use bongsu_protocol::message::{Delivery, Message, Time};
use bongsu_protocol::position::Position;
use bongsu_protocol::topic::Topic;
use bytes::Bytes;
use sqlx::Row;
use sqlx::postgres::PgRow;

/// Reads a number that is never negative.
pub(super) fn number(row: &PgRow, index: usize) -> Result<u64, sqlx::Error> {
    let value: i64 = row.try_get(index)?;
    u64::try_from(value)
        .map_err(|source| sqlx::Error::ColumnDecode { index: index.to_string(), source: source.into() })
}

/// The form of a number in a column. Every number of the protocol is at most 2^53 - 1; a larger one (a retention of
/// "everything") means the largest.
pub(super) fn column(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn text_or_null(text: &str) -> Option<&str> {
    if text.is_empty() { None } else { Some(text) }
}

/// Headers as a JSON array of `[name, value]`; null if there are none.
pub(super) fn headers_or_null(headers: &[(String, String)]) -> Option<String> {
    // Texts in arrays always have a JSON form.
    if headers.is_empty() { None } else { serde_json::to_string(headers).ok() }
}

/// Reads offset, time, id, publisher, content type, headers and payload, beginning with a column.
pub(super) fn message(row: &PgRow, first: usize, topic: &Topic, epoch: u64) -> Result<Delivery, sqlx::Error> {
    let text = |index| Ok::<_, sqlx::Error>(row.try_get::<Option<String>, _>(index)?.unwrap_or_default());
    let payload: Option<Vec<u8>> = row.try_get(first + 6)?;
    Ok(Delivery {
        topic: topic.clone(),
        position: Some(Position::new(epoch, number(row, first)?)),
        time: Time(number(row, first + 1)?),
        publisher: text(first + 3)?,
        erased: payload.is_none(),
        message: Message {
            payload: payload.map(Bytes::from).unwrap_or_default(),
            content_type: text(first + 4)?,
            headers: headers(row.try_get(first + 5)?)?,
            id: text(first + 2)?,
        },
    })
}

pub(super) fn headers(json: Option<&str>) -> Result<Vec<(String, String)>, sqlx::Error> {
    json.map_or_else(
        || Ok(Vec::new()),
        |json| serde_json::from_str(json).map_err(|error| sqlx::Error::Decode(error.into())),
    )
}

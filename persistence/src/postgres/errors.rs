//! What Postgres's and sqlx's errors mean for the caller, and for the connection that they came over.

use crate::store::Error;

/// A topic has no log after all: see `append` in the migrations.
pub(super) const NO_LOG: &str = "BS001";

/// The SQLSTATE of an error that the server told (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
pub(super) fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|error| error.code()).map(std::borrow::Cow::into_owned)
}

/// Whether the transaction was undone for a reason that is gone when it is tried again: a serialization failure, a deadlock with
/// somebody else's transaction, or a partition that was dropped after this transaction had looked for it.
pub(super) fn is_worth_another_try(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("40001" | "40P01" | "42P01"))
}

/// Whether the connection is of no more use, or leads to a server that must not be asked: it was cut, the server shuts down, or the
/// server is read-only or in recovery, since it is no primary any more.
pub(super) fn is_end_of_connection(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(_) => match code(error).as_deref() {
            Some("25006" | "55000") | None => true,
            Some(code) => ["08", "57P", "58", "XX"].iter().any(|class| code.starts_with(class)),
        },
        // What was told came over a connection that works.
        sqlx::Error::RowNotFound
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::Encode(_)
        | sqlx::Error::ColumnNotFound(_) => false,
        _ => true,
    }
}

/// Sorts an error into "repeat later" and "somebody must look", with a text that names the server.
pub(super) fn classify(server: &str, error: &sqlx::Error) -> Error {
    match error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            let text = database.message();
            match &*code {
                "25006" | "55000" => Error::Unavailable(format!("{server} is no primary: {text}")),
                "42501" => Error::Unavailable(format!("{server}: the role lacks a privilege: {text}")),
                "53100" => Error::Unavailable(format!("{server}: no room left: {text}")),
                "57014" => Error::Unavailable(format!("{server} took too long: {text}")),
                "XX001" | "XX002" => Error::Corrupt(format!("{server} is damaged: {text}")),
                code if code.starts_with("23") || code.starts_with("P0") => {
                    Error::Corrupt(format!("{server} contradicts itself: {text}"))
                }
                code if code.starts_with("42") => {
                    Error::Corrupt(format!("{server}: the schema `bongsu` is not as it should be: {text}"))
                }
                _ => Error::Unavailable(format!("{server}: {text} ({code})")),
            }
        }
        sqlx::Error::RowNotFound => Error::Corrupt(format!("{server}: a row that must be there is missing")),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
            Error::Corrupt(format!("{server}: {error}"))
        }
        _ => Error::Unavailable(format!("{server}: {error}")),
    }
}

//! What SQLite's and sqlx's errors mean for the caller.

use std::path::Path;

use crate::store::Error;

/// Primary result codes (<https://www.sqlite.org/rescode.html>): the low byte of the extended code.
const PERM: i32 = 3;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READONLY: i32 = 8;
const IOERR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const MISMATCH: i32 = 20;
const NOTADB: i32 = 26;
const CONSTRAINT: i32 = 19;

/// Sorts an error into "repeat later" and "somebody must look", with a text that names the file.
pub(super) fn classify(path: &Path, error: &sqlx::Error) -> Error {
    let file = path.display();
    match error {
        sqlx::Error::Database(database) => {
            let code = database.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or(0) & 0xff;
            let text = database.message();
            match code {
                FULL => Error::Unavailable(format!("{file}: no room left: {text}")),
                READONLY | PERM => Error::Unavailable(format!("{file} cannot be written: {text}")),
                BUSY | LOCKED => Error::Unavailable(format!("{file} is locked by another process: {text}")),
                CANTOPEN => Error::Unavailable(format!("{file} cannot be opened: {text}")),
                IOERR => Error::Unavailable(format!("{file}: the disk failed: {text}")),
                NOTADB => Error::Corrupt(format!("{file} is not an SQLite database: {text}")),
                CORRUPT => Error::Corrupt(format!("{file} is damaged: {text}")),
                CONSTRAINT | MISMATCH => Error::Corrupt(format!("{file} contradicts itself: {text}")),
                _ => Error::Unavailable(format!("{file}: {error}")),
            }
        }
        sqlx::Error::RowNotFound => Error::Corrupt(format!("{file}: a row that must be there is missing")),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
            Error::Corrupt(format!("{file}: {error}"))
        }
        _ => Error::Unavailable(format!("{file}: {error}")),
    }
}

//! Finding the server to speak to, among those that an address names.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row};

use super::errors;
use crate::store::Error;

/// The oldest Postgres that has what the schema uses, `date_bin` among it: 14.
const VERSION_MIN: i32 = 140_000;

/// Which of the servers are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The one that writes.
    Primary,
    /// Any that answers.
    Any,
}

/// How connections come about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) role: Role,
    /// Whether a transaction-pooling proxy may stand between: then nothing of a session can be relied on.
    pub(super) pooled: bool,
    /// How long one host may take to be connected to, and one statement to run.
    pub(super) deadline: Duration,
}

/// The servers that an address names, which are one database: a primary, and what stands by.
#[derive(Debug)]
pub(super) struct Hosts {
    candidates: Vec<PgConnectOptions>,
    /// Where the last connection was made: tried first.
    current: AtomicUsize,
    /// The hosts, without secrets.
    name: String,
    terms: Terms,
}

impl Hosts {
    /// Reads a URL such as `postgres://user:password@one:5432,two:5432/database?sslmode=verify-full`.
    pub(super) fn parse(url: &str, terms: Terms) -> Result<Self, Error> {
        let malformed = |text: &str| Error::Unavailable(format!("the address of Postgres {text}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(|| malformed("is no URL"))?;
        if !matches!(scheme, "postgres" | "postgresql") {
            return Err(malformed("does not begin with postgres://"));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        // A password may hold a slash only in its escaped form, as in any URL.
        let (authority, path) = rest.split_at(end);
        let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
        let separator = if user.is_empty() { "" } else { "@" };
        let candidates = hosts.split(',').map(|host| {
            let one = format!("postgres://{user}{separator}{host}{path}");
            // sqlx's text may repeat parts of the URL, so it is left out.
            let options = one.parse::<PgConnectOptions>().map_err(|_| malformed("cannot be read"))?;
            let options = options.application_name("bongsu").disable_statement_logging();
            Ok(if terms.pooled {
                // Proxies refuse parameters that they do not know, and give a statement to another server than the one it was prepared on.
                options.statement_cache_capacity(0).extra_float_digits(None)
            } else {
                options
            })
        });
        let candidates = candidates.collect::<Result<Vec<_>, Error>>()?;
        let database = candidates[0].get_database().unwrap_or_else(|| candidates[0].get_username());
        let name = format!("Postgres at {hosts}/{database}");
        Ok(Self { candidates, current: AtomicUsize::new(0), name, terms })
    }

    /// The servers, for texts that people read.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How connections come about.
    pub(super) const fn terms(&self) -> Terms {
        self.terms
    }

    /// Connects to the first host that answers and has the role, beginning with that of the last connection.
    pub(super) async fn connect(&self) -> Result<PgConnection, Error> {
        self.connect_with_options().await.map(|(connection, _)| connection)
    }

    /// As [`connect`](Self::connect), and says how.
    pub(super) async fn connect_with_options(&self) -> Result<(PgConnection, PgConnectOptions), Error> {
        let first = self.current.load(Ordering::Relaxed);
        let mut failure = None;
        for n_before in 0..self.candidates.len() {
            let index = (first + n_before) % self.candidates.len();
            let options = &self.candidates[index];
            match tokio::time::timeout(self.terms.deadline, self.connect_to(options)).await {
                Ok(Ok(connection)) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok((connection, options.clone()));
                }
                // What would not be otherwise on another host is told.
                Ok(Err(error @ Error::Corrupt(_))) => return Err(error),
                Ok(Err(error)) => failure = Some(error),
                Err(_) => {
                    let text = format!("{} did not answer within {:?}", self.name, self.terms.deadline);
                    failure = Some(Error::Unavailable(text));
                }
            }
        }
        Err(failure.unwrap_or_else(|| Error::Unavailable(format!("{} has no host", self.name))))
    }

    async fn connect_to(&self, options: &PgConnectOptions) -> Result<PgConnection, Error> {
        let failed = |error: sqlx::Error| match errors::classify(&self.name, &error) {
            Error::Corrupt(text) | Error::Unavailable(text) => Error::Unavailable(text),
        };
        let mut connection = options.connect().await.map_err(failed)?;
        if !self.terms.pooled {
            // A role or a database may have other defaults. That a commit is acknowledged before it is on the disk is never wanted.
            let deadline_ms = self.terms.deadline.as_millis();
            let settings = AssertSqlSafe(format!(
                "set statement_timeout = {deadline_ms}; set idle_in_transaction_session_timeout = {deadline_ms}; \
                 set default_transaction_isolation = 'read committed'; \
                 select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'"
            ));
            connection.execute(sqlx::raw_sql(settings)).await.map_err(failed)?;
        }
        let question = "select pg_is_in_recovery()::text, current_setting('server_version_num'), \
             current_setting('server_encoding'), current_setting('synchronous_commit')";
        let row = connection.fetch_one(sqlx::raw_sql(question)).await.map_err(failed)?;
        let text = |index: usize| row.try_get::<&str, _>(index).map_err(failed);
        let version = text(1)?.parse::<i32>().unwrap_or(0);
        if version < VERSION_MIN {
            return Err(Error::Corrupt(format!("{} is older than version 14", self.name)));
        }
        if text(2)? != "UTF8" {
            return Err(Error::Corrupt(format!(
                "{}: the database's encoding is {}, and only UTF8 has every topic",
                self.name,
                text(2)?
            )));
        }
        if self.terms.role == Role::Primary && text(0)? == "true" {
            return Err(Error::Unavailable(format!("{}: no host is a primary", self.name)));
        }
        if text(3)? == "off" {
            return Err(Error::Unavailable(format!(
                "{}: synchronous_commit is off, so that what is acknowledged may be lost; \
                 set it for the role: alter role … set synchronous_commit = on",
                self.name
            )));
        }
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { role: Role::Primary, pooled: false, deadline: Duration::from_secs(1) };

    #[test]
    fn an_address_may_name_several_hosts() {
        let hosts = Hosts::parse("postgres://me:a%40b@one:1,two:2,three/db?sslmode=require", TERMS).unwrap();
        let ports: Vec<_> = hosts
            .candidates
            .iter()
            .map(|options| (options.get_host().to_owned(), options.get_port()))
            .collect();
        assert_eq!(ports, [("one".to_owned(), 1), ("two".to_owned(), 2), ("three".to_owned(), 5432)]);
        assert!(hosts.candidates.iter().all(|options| options.get_database() == Some("db")));
        assert_eq!(hosts.name(), "Postgres at one:1,two:2,three/db");
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_telling_the_password() {
        for url in ["secret", "redis://me:secret@host", "postgres://me:secret@host:port/db"] {
            let Err(Error::Unavailable(text)) = Hosts::parse(url, TERMS) else { panic!("{url} was taken") };
            assert!(!text.contains("secret"), "{text}");
        }
    }
}

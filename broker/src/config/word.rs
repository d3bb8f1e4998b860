//! Settings that are one of a few words.

use ::config::Value;

use super::schema::{Form, Leaf};
use super::value::{Item, text};

/// Declares an enum whose variants are words.
macro_rules! words {
    ($(
        $(#[doc = $doc:literal])+
        pub enum $Name:ident { $($(#[doc = $meaning:literal])+ $Variant:ident = $word:literal,)+ }
    )+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $Name { $($(#[doc = $meaning])+ $Variant,)+ }

        impl Leaf for $Name {
            const FORM: Form = Form::Text;
            fn take(value: &Value) -> Option<Self> {
                match text(value)? {
                    $($word => Some(Self::$Variant),)+
                    _ => None,
                }
            }
            fn kind() -> String {
                "word".to_owned()
            }
            fn allowed() -> String {
                [$(concat!("\"", $word, "\"")),+].join(" or ")
            }
            fn show(&self) -> String {
                match self { $(Self::$Variant => concat!("\"", $word, "\"").to_owned(),)+ }
            }
        }
    )+};
}

words! {
    /// Which store keeps the logs.
    pub enum StorageKind {
        /// A Postgres database that nodes share.
        Postgres = "postgres",
        /// A file in the data directory.
        Sqlite = "sqlite",
        /// Memory only: everything is gone when the process ends.
        Memory = "memory",
    }

    /// What an acknowledged publish survives.
    pub enum Synchronous {
        /// A power cut: each commit waits for the disk.
        Full = "full",
        /// A crash of the process; a power cut may take the last commits.
        Normal = "normal",
    }

    /// How log lines look.
    pub enum LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line, for machines.
        Json = "json",
    }

    /// How a WebSocket handshake without permission ends.
    pub enum Reject {
        /// HTTP 401 or 403 instead of the upgrade. Pages cannot read it.
        Status = "status",
        /// The upgrade, then close 4401 or 4403 with a reason, which pages can read.
        Close = "close",
    }

    /// The header in which proxies tell of the client before them.
    pub enum Forwarding {
        /// None: connections are their clients' own, or the PROXY protocol tells.
        None = "none",
        /// `Forwarded` (RFC 7239).
        Forwarded = "forwarded",
        /// `X-Forwarded-For`, with `X-Forwarded-Proto`.
        XForwardedFor = "x-forwarded-for",
    }

    /// What a dot in a STOMP destination below `/topic` is.
    pub enum Dots {
        /// It separates levels, where no slash does: RabbitMQ's grammar.
        Separate = "separate",
        /// It is a character like any other.
        Literal = "literal",
    }

    /// What is told of sessions.
    pub enum SessionEvents {
        /// That they begin and end, and what they subscribe to.
        All = "all",
        /// That they begin and end.
        Connections = "connections",
        /// Nothing.
        Off = "off",
    }

    /// What an administrator may do; each may do what the one before may.
    pub enum AdminRole {
        /// Reads metadata.
        Viewer = "viewer",
        /// Also reads and publishes messages, disconnects, revokes, blocks and traces.
        Operator = "operator",
        /// Everything.
        Admin = "admin",
    }

    /// Whether a topic keeps history.
    pub enum TopicKind {
        /// It does.
        Durable = "durable",
        /// It does not.
        Live = "live",
    }

    /// What a live topic does for a reader that cannot keep up.
    pub enum SlowReader {
        /// The oldest waiting messages go, counted and told.
        DropOldest = "drop_oldest",
        /// Only the newest message waits; what it replaces is counted and told.
        Conflate = "conflate",
        /// The reader is disconnected and told why.
        Disconnect = "disconnect",
    }
}

/// A port of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// `listen`.
    Clients,
    /// `stomp.listen`.
    Stomp,
    /// `stomp.tls_listen`.
    StompTls,
    /// `admin.listen`.
    Admin,
}

impl Item for Port {
    const PLURAL: &'static str = "ports, each \"clients\", \"stomp\", \"stomp-tls\" or \"admin\"";
    fn parse(text: &str) -> Option<Self> {
        [Self::Clients, Self::Stomp, Self::StompTls, Self::Admin].into_iter().find(|port| port.text() == text)
    }
    fn text(&self) -> &str {
        match self {
            Self::Clients => "clients",
            Self::Stomp => "stomp",
            Self::StompTls => "stomp-tls",
            Self::Admin => "admin",
        }
    }
}

impl From<SlowReader> for bongsu_protocol::session::SlowReader {
    fn from(word: SlowReader) -> Self {
        match word {
            SlowReader::DropOldest => Self::DropOldest,
            SlowReader::Conflate => Self::Conflate,
            SlowReader::Disconnect => Self::Disconnect,
        }
    }
}

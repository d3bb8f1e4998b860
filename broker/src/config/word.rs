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

        impl $Name {
            /// Every word's meaning, in the order of their declaration.
            pub const ALL: [Self; [$(Self::$Variant),+].len()] = [$(Self::$Variant),+];

            /// The word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$Variant => $word,)+ }
            }
        }

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
    /// How a token is signed: RFC 7518, 3.1 and RFC 8037, 3.1.
    pub enum Algorithm {
        /// HMAC with SHA-256.
        Hs256 = "HS256",
        /// HMAC with SHA-384.
        Hs384 = "HS384",
        /// HMAC with SHA-512.
        Hs512 = "HS512",
        /// RSA as in PKCS #1, version 1.5, with SHA-256.
        Rs256 = "RS256",
        /// The same with SHA-384.
        Rs384 = "RS384",
        /// The same with SHA-512.
        Rs512 = "RS512",
        /// RSA as in PSS, with SHA-256.
        Ps256 = "PS256",
        /// The same with SHA-384.
        Ps384 = "PS384",
        /// The same with SHA-512.
        Ps512 = "PS512",
        /// ECDSA over P-256 with SHA-256.
        Es256 = "ES256",
        /// ECDSA over P-384 with SHA-384.
        Es384 = "ES384",
        /// Ed25519.
        EdDsa = "EdDSA",
    }

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

impl Algorithm {
    /// The algorithm of that name, as tokens spell it.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    /// Whether it signs with a secret that whoever checks has, too.
    #[must_use]
    pub const fn is_symmetric(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }
}

impl Item for Algorithm {
    const PLURAL: &'static str =
        "algorithms: HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA";
    fn parse(text: &str) -> Option<Self> {
        Self::parse(text)
    }
    fn text(&self) -> &str {
        self.as_str()
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

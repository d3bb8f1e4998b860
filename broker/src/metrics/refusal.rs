//! Why something was refused, by a limit or by a rule of who may connect how.

macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ $Reason:ident = $name:literal,)+) => {
        /// Why something was refused: the label of `bongsu_refused_total`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Refusal { $($(#[doc = $doc])+ $Reason,)+ }

        impl Refusal {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$Reason),+];

            /// The label's value.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$Reason => $name),+ }
            }
        }
    };
}

refusals! {
    /// A trusted proxy did not begin a connection with the PROXY protocol, or not in time.
    ProxyProtocol = "proxy_protocol",
    /// A TLS handshake failed, or took too long.
    Tls = "tls",
    /// The node has as many connections as it takes.
    NodeConnections = "node_connections",
    /// Connections come faster than the node takes them.
    NodeConnectRate = "node_connect_rate",
    /// An address has as many connections as one may have.
    AddressConnections = "address_connections",
    /// Connections of an address come too fast.
    AddressConnectRate = "address_connect_rate",
    /// A user has as many connections as one may have.
    UserConnections = "user_connections",
    /// A user publishes too many messages.
    UserPublishRate = "user_publish_rate",
    /// A user publishes too many bytes.
    UserPublishBytes = "user_publish_bytes",
    /// A connection publishes too many messages.
    ConnectionPublishRate = "connection_publish_rate",
    /// A connection publishes too many bytes.
    ConnectionPublishBytes = "connection_publish_bytes",
    /// Messages of a topic come faster than its policy has it.
    TopicPublishRate = "topic_publish_rate",
    /// Bytes of a topic come faster than its policy has it.
    TopicPublishBytes = "topic_publish_bytes",
    /// A message is longer than its topic's policy or its token has it.
    MessageBytes = "message_bytes",
}

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
}

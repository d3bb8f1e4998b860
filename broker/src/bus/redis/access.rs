//! How one connects to a server: with which name, over what, for how long.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo as _, ProtocolVersion,
    PushInfo, RedisConnectionInfo, TlsCertificates,
};

use super::address::{Secret, Server};
use crate::limits::{
    REDIS_CALLS_MAX, REDIS_CONNECT_TIMEOUT, REDIS_DEADLINE, REDIS_OWN_CALLS_MAX, REDIS_USER_TIMEOUT,
    REDIS_WRITE_BUFFER_BYTES,
};

/// Everything but the server itself.
#[derive(Clone)]
pub(super) struct Access {
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) database: i64,
    /// What TLS trusts and shows; plain TCP without.
    pub(super) tls: Option<Arc<Tls>>,
}

/// PEM, read at start.
pub(super) struct Tls {
    /// Who may sign servers' certificates. Without, Mozilla's list.
    pub(super) roots: Option<Vec<u8>>,
    /// The certificate chain and the private key that this node shows.
    pub(super) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Access {
    /// Whether connections to a server could be tried: the certificates are well-formed.
    pub(super) fn check(&self) -> Result<(), redis::RedisError> {
        self.client(&Server { host: "localhost".to_owned(), port: 1 }).map(drop)
    }

    /// Connects for commands. What the server pushes, and the end of the connection, go to `pushed`, which must not wait.
    ///
    /// # Errors
    /// The server cannot be reached, refuses, or does not answer in time.
    pub(super) async fn connect(
        &self,
        server: &Server,
        pushed: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<MultiplexedConnection, redis::RedisError> {
        // The library's default deadlines are shorter (500 ms, 1 s) than what a busy server may take.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(REDIS_CONNECT_TIMEOUT))
            .set_response_timeout(Some(REDIS_DEADLINE))
            .set_write_backpressure_boundary(REDIS_WRITE_BUFFER_BYTES)
            .set_pipeline_buffer_size(REDIS_CALLS_MAX + REDIS_OWN_CALLS_MAX)
            .set_push_sender(move |push| {
                pushed(push);
                Ok::<_, redis::aio::SendError>(())
            });
        self.client(server)?.get_multiplexed_async_connection_with_config(&config).await
    }

    fn client(&self, server: &Server) -> Result<Client, redis::RedisError> {
        let (host, port) = (server.host.clone(), server.port);
        let address = match self.tls {
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            None => ConnectionAddr::Tcp(host, port),
        };
        // `CLIENT SETINFO` would need a permission, and fails on servers before 7.2.
        let mut greeting = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_db(self.database)
            .set_skip_set_lib_name();
        if let Some(password) = &self.password {
            greeting = greeting.set_password(&password.0);
        }
        if let Some(user) = &self.user {
            greeting = greeting.set_username(user);
        }
        // The library leaves Nagle's algorithm on, which holds small frames back. The user timeout ends a connection whose
        // peer takes no byte, where the probe did not yet.
        let tcp = TcpSettings::default().set_nodelay(true);
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(REDIS_USER_TIMEOUT);
        let info = address.into_connection_info()?.set_tcp_settings(tcp).set_redis_settings(greeting);
        let Some(tls) = &self.tls else { return Client::open(info) };
        let identity = tls.identity.clone();
        let client_tls =
            identity.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        Client::build_with_tls(info, TlsCertificates { client_tls, root_cert: tls.roots.clone() })
    }
}

/// What a server said, in words for the log: without the arguments of commands.
pub(super) fn explain(error: &redis::RedisError) -> String {
    error.to_string()
}

//! Who administers: whoever shows a token of `admin.tokens`, or one to which its issuer gives a role; where there is neither, whoever is on this machine.
//!
//! Without any credential the API is served on loopback only, and a page that somebody here has open in a browser must not pass for them: the
//! request's host must be a name of this machine, which no stranger's page can have (DNS rebinding), its origin the console's own, and no
//! proxy may stand between.

use std::net::IpAddr;
use std::sync::Arc;

use bongsu_admin_api::{Actor, Error, Problem, Role};
use bongsu_protocol::command::Token;
use bongsu_protocol::reason::ErrorCode;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use http::uri::Authority;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::auth::Inspected;
use crate::config::{AdminRole, Settings};
use crate::keys::{Keys, Verdict};
use crate::node::Node;
use crate::peers::Source;

/// The name of whoever administers from this machine, where nobody needs a credential.
const LOCAL: &str = "local";

/// What proxies add: somebody from elsewhere stands behind what comes with one.
const OF_PROXIES: [HeaderName; 5] = [
    header::FORWARDED,
    header::VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-real-ip"),
];

/// Knows the credentials of administrators.
#[derive(Debug)]
pub struct Gatekeeper {
    tokens: Vec<Known>,
    keys: Keys,
    /// Who knows the tokens that issuers sign, if any of these has a role.
    issuers: Option<Arc<Node>>,
}

#[derive(Debug)]
struct Known {
    sha256: [u8; 32],
    name: String,
    role: Role,
}

impl From<AdminRole> for Role {
    fn from(role: AdminRole) -> Self {
        match role {
            AdminRole::Viewer => Self::Viewer,
            AdminRole::Operator => Self::Operator,
            AdminRole::Admin => Self::Admin,
        }
    }
}

impl Gatekeeper {
    /// Takes the tokens of the settings, and the keys that administrators make.
    #[must_use]
    pub fn new(settings: &Settings, keys: Keys) -> Self {
        let tokens = settings.admin.tokens.0.iter().map(|token| Known {
            sha256: *token.sha256.as_bytes(),
            name: token.name.as_str().to_owned(),
            role: token.role.into(),
        });
        Self { tokens: tokens.collect(), keys, issuers: None }
    }

    /// Knows also whom issuers give a role.
    #[must_use]
    pub fn with_issuers(self, node: &Arc<Node>) -> Self {
        let issuers = node.authenticator().knows_roles().then(|| Arc::clone(node));
        Self { issuers, ..self }
    }

    /// Whether anybody could show a credential; `None`: this node could not look yet.
    fn knows_credentials(&self) -> Option<bool> {
        let is_told = !self.tokens.is_empty() || self.issuers.is_some();
        if is_told { Some(true) } else { self.keys.any() }
    }

    async fn judge(&self, head: &Parts) -> Result<Actor, Problem> {
        let source = head.extensions.get::<Source>().copied();
        let Some(source) = source else {
            return Err(Problem::unauthenticated("nobody knows where this comes from"));
        };
        let address = source.address.ip().to_canonical();
        match bearer(&head.headers)? {
            Some(token) => {
                let (name, role) = self.verify(token).await?;
                Ok(Actor { name, role, address })
            }
            None if self.knows_credentials().is_none() => Err(not_yet()),
            None if self.knows_credentials() == Some(true) => {
                Err(Problem::unauthenticated("show a token of an administrator: Authorization: Bearer …"))
            }
            None if !source.is_this_machine() => Err(Problem::unauthenticated(
                "this node knows no administrator: give it admin.tokens, or ask from its own machine",
            )),
            None => {
                check_page(head)?;
                Ok(Actor { name: LOCAL.to_owned(), role: Role::Admin, address })
            }
        }
    }

    async fn verify(&self, token: &str) -> Result<(String, Role), Problem> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        // Every token is compared, in constant time each: how long it takes says nothing about any of them.
        let mut found = None;
        for known in &self.tokens {
            if bool::from(known.sha256.ct_eq(&digest)) {
                found = Some(known);
            }
        }
        if let Some(found) = found {
            return Ok((found.name.clone(), found.role));
        }
        match self.keys.verify(token) {
            Verdict::Known { name, role } => {
                let role = role
                    .parse()
                    .map_err(|_| Problem::forbidden("this key's role is one of a later version"))?;
                Ok((name, role))
            }
            Verdict::Unknown => self.verify_signed(token).await,
            Verdict::NotYet => Err(not_yet()),
        }
    }

    /// Whom an issuer gives a role.
    async fn verify_signed(&self, token: &str) -> Result<(String, Role), Problem> {
        let Some(node) = &self.issuers else {
            return Err(Problem::unauthenticated("no administrator has this token"));
        };
        match node.authenticator().role_of(&Token(token.to_owned())).await {
            // Behind the issuer's name, so that nobody passes for a token of the settings in the audit log.
            Ok(Inspected { identity, issuer, role: Some(role) }) => {
                Ok((format!("{}/{}", issuer.unwrap_or_default(), identity.subject()), role.into()))
            }
            Ok(_) => Err(Problem::forbidden(
                "the issuer of this token gives its bearer no role of an administrator",
            )),
            Err(error) if error.code == ErrorCode::Unavailable => {
                Err(Problem::from(Error::Unavailable(error.text)))
            }
            Err(error) => Err(Problem::unauthenticated(error.text)),
        }
    }
}

impl bongsu_admin_api::Gatekeeper for Gatekeeper {
    fn admit<'a>(&'a self, head: &'a Parts) -> BoxFuture<'a, Result<Actor, Problem>> {
        self.judge(head).boxed()
    }
}

fn not_yet() -> Problem {
    Error::Unavailable("the store could not be asked yet who may administer: try again".to_owned()).into()
}

/// The token that a request shows.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let token = value.to_str().ok().filter(|_| values.next().is_none()).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    token.map(Some).ok_or_else(|| Problem::unauthenticated("it takes Authorization: Bearer and one token"))
}

/// Whether a request that needs no credential is one of this machine's own: of a program, or of a page that this node served.
fn check_page(head: &Parts) -> Result<(), Problem> {
    let single = |name: &HeaderName| {
        let mut values = head.headers.get_all(name).iter();
        let value = values.next()?.to_str().ok();
        value.filter(|_| values.next().is_none()).or(Some(""))
    };
    let refused = |detail: &str| Err(Problem::forbidden(format!("without admin.tokens, {detail}")));
    let host = single(&header::HOST).unwrap_or_default();
    let is_here = host.parse::<Authority>().is_ok_and(|host| is_this_machine(host.host()));
    if !is_here {
        return refused("this answers to localhost, 127.0.0.1 and [::1] only, and Host names something else");
    }
    if OF_PROXIES.iter().any(|name| head.headers.contains_key(name)) {
        return refused("this answers nobody behind a proxy");
    }
    let is_own = |origin: &str| {
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
    };
    if single(&header::ORIGIN).is_some_and(|origin| !is_own(origin)) {
        return refused("this answers no page but the console's own");
    }
    let site = single(&HeaderName::from_static("sec-fetch-site"));
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return refused("this answers no page but the console's own");
    }
    Ok(())
}

/// Whether a host is a name of this machine that no stranger's can be.
fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
    let is_address = host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    is_address || host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use std::sync::Arc;

    use bongsu_persistence::memory::MemoryStore;
    use bongsu_persistence::store::Store;

    use super::*;
    use crate::bus::Bell;
    use crate::config::{SettingsArgs, load_with};
    use crate::keys::Before;
    use crate::registers::Registers;

    const TOKENS: &str = "admin.tokens=[{ name = 'ada', sha256 = \
                          '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08', role = 'operator' }]";

    async fn gatekeeper(set: &[&str]) -> Gatekeeper {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let registers = Registers::new(&store, None, &Bell::default());
        let keys = Keys::open(&registers);
        registers.caught_up().await;
        let set = set.iter().map(|flag| (*flag).to_owned()).collect();
        let loaded = load_with(&SettingsArgs { set, ..SettingsArgs::default() }, []).expect("they are valid");
        Gatekeeper::new(&loaded.settings, keys)
    }

    fn ask(gatekeeper: &Gatekeeper, from: &str, headers: &[(&str, &str)]) -> Result<Role, u16> {
        let mut request = http::Request::builder().uri("/v1/nodes");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut head = request.body(()).expect("a request").into_parts().0;
        let address: SocketAddr = format!("{from}:4000").parse().expect("an address");
        head.extensions.insert(Source::direct(address, false));
        let judged = gatekeeper.judge(&head).now_or_never().expect("nothing is waited for");
        judged.map(|actor| actor.role).map_err(|problem| problem.status().as_u16())
    }

    #[tokio::test]
    async fn without_a_credential_this_machine_administers_and_nobody_else() {
        let gatekeeper = gatekeeper(&[]).await;
        for (host, expected) in [
            ("localhost:8081", Ok(Role::Admin)),
            ("127.0.0.1:8081", Ok(Role::Admin)),
            ("[::1]:8081", Ok(Role::Admin)),
            ("node.localhost", Ok(Role::Admin)),
            ("rebound.example:8081", Err(403)),
            ("127.0.0.1.example", Err(403)),
            ("localhost.example", Err(403)),
            ("localhost@evil.example", Err(403)),
            ("0.0.0.0:8081", Err(403)),
            ("", Err(403)),
        ] {
            assert_eq!(ask(&gatekeeper, "127.0.0.1", &[("host", host)]), expected, "{host}");
        }
        assert_eq!(ask(&gatekeeper, "127.0.0.1", &[]), Err(403), "no host at all");
        assert_eq!(ask(&gatekeeper, "10.0.0.7", &[("host", "localhost:8081")]), Err(401));
        assert_eq!(
            ask(&gatekeeper, "127.0.0.1", &[("host", "localhost"), ("authorization", "Bearer test")]),
            Err(401)
        );
    }

    #[tokio::test]
    async fn without_a_credential_no_strange_page_and_no_proxy_passes() {
        let gatekeeper = gatekeeper(&[]).await;
        let ask = |name, value| ask(&gatekeeper, "127.0.0.1", &[("host", "localhost:8081"), (name, value)]);
        assert_eq!(ask("origin", "http://localhost:8081"), Ok(Role::Admin));
        assert_eq!(ask("sec-fetch-site", "same-origin"), Ok(Role::Admin));
        for (name, value) in [
            ("origin", "http://evil.example"),
            ("origin", "http://localhost:8080"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("x-forwarded-for", "10.0.0.7"),
            ("forwarded", "for=10.0.0.7"),
            ("via", "1.1 proxy"),
        ] {
            assert_eq!(ask(name, value), Err(403), "{name}: {value}");
        }
    }

    #[tokio::test]
    async fn with_a_credential_everybody_shows_one_also_on_this_machine() {
        let gatekeeper = gatekeeper(&[TOKENS]).await;
        let host = ("host", "localhost:8081");
        assert_eq!(ask(&gatekeeper, "127.0.0.1", &[host]), Err(401));
        let token =
            |value| ask(&gatekeeper, "10.0.0.7", &[("host", "admin.example"), ("authorization", value)]);
        assert_eq!(token("Bearer test"), Ok(Role::Operator));
        assert_eq!(token("bearer test"), Ok(Role::Operator));
        for wrong in ["Bearer", "Bearer ", "Bearer Test", "Basic dGVzdA==", "test"] {
            assert_eq!(token(wrong), Err(401), "{wrong}");
        }
        let twice = [host, ("authorization", "Bearer test"), ("authorization", "Bearer test")];
        assert_eq!(ask(&gatekeeper, "127.0.0.1", &twice), Err(401));
    }

    #[tokio::test]
    async fn a_key_is_a_credential_and_ends_the_time_without_any() {
        let gatekeeper = gatekeeper(&[]).await;
        let host = ("host", "localhost:8081");
        assert_eq!(ask(&gatekeeper, "127.0.0.1", &[host]), Ok(Role::Admin));
        let (_, secret) = gatekeeper.keys.make("", "deploy", "operator", None, Before::Either).await.unwrap();
        assert_eq!(ask(&gatekeeper, "127.0.0.1", &[host]), Err(401));
        let token = format!("Bearer {secret}");
        assert_eq!(ask(&gatekeeper, "10.0.0.7", &[host, ("authorization", &token)]), Ok(Role::Operator));
        gatekeeper.keys.revoke("", "deploy").await.unwrap();
        assert_eq!(ask(&gatekeeper, "10.0.0.7", &[host, ("authorization", &token)]), Err(401));
    }

    #[tokio::test]
    async fn before_the_keys_are_known_nobody_is_let_in_without_a_token() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let keys = Keys::open(&Registers::new(&store, None, &Bell::default()));
        let loaded = load_with(&SettingsArgs::default(), []).expect("they are valid");
        let gatekeeper = Gatekeeper::new(&loaded.settings, keys);
        assert_eq!(ask(&gatekeeper, "127.0.0.1", &[("host", "localhost:8081")]), Err(503));
    }
}

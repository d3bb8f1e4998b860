//! Where the servers are: what `redis.url` may say.

use std::fmt;

/// What a URL says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) servers: Kind,
    /// Whether connections are encrypted.
    pub(super) is_tls: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    /// The database that keys are kept in. Pub/sub knows none.
    pub(super) database: i64,
}

/// How the servers belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// One server.
    Standalone(Server),
    /// Servers that know nothing of each other: every channel has one of them.
    Sharded(Vec<Server>),
    /// The server that sentinels call the master of this name.
    Sentinel {
        /// Where the sentinels are.
        sentinels: Vec<Server>,
        /// What they call the master.
        master: String,
    },
    /// Some servers of a Redis Cluster, which name the others.
    Cluster(Vec<Server>),
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A password. It never prints.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// What the forms look like, for whoever wrote another one.
const FORMS: &str = "redis://host:6379, redis+sentinel://sentinel:26379,sentinel:26379/master-name, \
    redis+cluster://host:6379,host:6379 or redis+sharded://host:6379,host:6379, each with rediss for TLS";

impl Address {
    /// Reads a URL. The error is the rule that it breaks, and shows nothing of it: there may be a password in any place.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let rule = || format!("must be of the form {FORMS}");
        let (scheme, rest) = url.split_once("://").ok_or_else(rule)?;
        let (protocol, kind) =
            scheme.split_once('+').map_or((scheme, None), |(protocol, kind)| (protocol, Some(kind)));
        let is_tls = match protocol {
            "redis" => false,
            "rediss" => true,
            _ => return Err(rule()),
        };
        // Everything up to the last `@` is the user's: a password may hold one, a host may not.
        let (user_info, rest) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
        if rest.contains(['?', '#']) {
            return Err("takes no parameters: other settings of redis say the rest".to_owned());
        }
        let (hosts, path) = rest.split_once('/').map_or((rest, ""), |(hosts, path)| (hosts, path));
        let port = if kind == Some("sentinel") { SENTINEL_PORT } else { REDIS_PORT };
        let mut servers = hosts.split(',').map(|host| server(host, port)).collect::<Result<Vec<_>, _>>()?;
        let (servers, database) = match kind {
            None if servers.len() == 1 => (Kind::Standalone(servers.remove(0)), database(path)?),
            None => return Err(
                "names several servers: say whether they are redis+cluster, redis+sharded or redis+sentinel"
                    .to_owned(),
            ),
            Some("sharded") => {
                let mut sorted = servers.clone();
                sorted.sort();
                if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
                    return Err("names a server twice".to_owned());
                }
                (Kind::Sharded(servers), database(path)?)
            }
            Some("sentinel") => {
                let (master, path) = path.split_once('/').unwrap_or((path, ""));
                if master.is_empty() {
                    return Err("must end with what the sentinels call the master: redis+sentinel://host:26379/master-name".to_owned());
                }
                (Kind::Sentinel { sentinels: servers, master: decode(master)? }, database(path)?)
            }
            Some("cluster") if database(path)? == 0 => (Kind::Cluster(servers), 0),
            Some("cluster") => return Err("names a database: a Redis Cluster has only 0".to_owned()),
            Some(_) => return Err(rule()),
        };
        let (user, password) = user_info.map_or((None, None), |info| match info.split_once(':') {
            Some((user, password)) => (Some(user), Some(password)),
            None => (Some(info), None),
        });
        let user = user.filter(|user| !user.is_empty()).map(decode).transpose()?;
        let password = password.map(decode).transpose()?.map(Secret);
        Ok(Self { servers, is_tls, user, password, database })
    }
}

fn server(text: &str, default_port: u16) -> Result<Server, String> {
    let rule =
        || "must name servers as host, host:port or [IPv6 address]:port, with commas between them".to_owned();
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(rule)?;
            let port = if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(rule)?) };
            (host, port)
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(default_port), |port| port.parse().map_err(|_| rule()))?;
    if host.is_empty() { Err(rule()) } else { Ok(Server { host: host.to_owned(), port }) }
}

fn database(path: &str) -> Result<i64, String> {
    if path.is_empty() {
        return Ok(0);
    }
    path.parse::<u16>()
        .map(i64::from)
        .map_err(|_| "must end with the number of a database, or without a path".to_owned())
}

/// Undoes percent-encoding (RFC 3986, 2.1).
fn decode(text: &str) -> Result<String, String> {
    let rule = || "has a `%` that begins no two hexadecimal digits of UTF-8: write it as %25".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            let digits =
                after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(rule)?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| rule())?);
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).map_err(|_| rule())
}

/// A text in which only letters, digits, `.`, `_` and `-` stand for themselves: no other text becomes the same, and what
/// follows a `:` behind it can never seem to be a part of it.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Server {
        Server { host: host.to_owned(), port }
    }

    fn parse(url: &str) -> Address {
        Address::parse(url).unwrap()
    }

    #[test]
    fn every_form_is_read() {
        let plain = parse("redis://host");
        assert_eq!(plain.servers, Kind::Standalone(at("host", 6379)));
        assert_eq!((plain.is_tls, plain.user, plain.password, plain.database), (false, None, None, 0));
        let full = parse("rediss://me:p%40s/s:word@[::1]:7/3");
        assert_eq!(full.servers, Kind::Standalone(at("::1", 7)));
        assert_eq!((full.is_tls, full.database), (true, 3));
        assert_eq!(
            (full.user.as_deref(), full.password),
            (Some("me"), Some(Secret("p@s/s:word".to_owned())))
        );
        let sentinels = vec![at("s1", 26379), at("s2", 1)];
        let master = "my master".to_owned();
        assert_eq!(
            parse("redis+sentinel://:pw@s1,s2:1/my%20master/2").servers,
            Kind::Sentinel { sentinels, master }
        );
        assert_eq!(parse("rediss+cluster://a,b:1").servers, Kind::Cluster(vec![at("a", 6379), at("b", 1)]));
        assert_eq!(parse("redis+sharded://b:1,a").servers, Kind::Sharded(vec![at("b", 1), at("a", 6379)]));
        assert_eq!(at("::1", 7).to_string(), "[::1]:7");
    }

    #[test]
    fn other_forms_are_refused_without_showing_them() {
        for url in [
            "http://pw",
            "redis://pw,other",
            "redis://pw:port",
            "redis://pw/db",
            "redis://pw?protocol=resp2",
            "redis+sentinel://pw",
            "redis+sharded://pw,pw",
            "redis+cluster://pw/1",
            "redis+pw://a",
            "redis://",
            "redis://[pw",
            "redis://u:pw%zz@host",
        ] {
            let error = Address::parse(url).unwrap_err();
            assert!(!error.contains("pw"), "{url}: {error}");
        }
        assert!(!format!("{:?}", parse("redis://me:secret@host")).contains("secret"));
    }

    #[test]
    fn names_of_clusters_cannot_be_confused() {
        assert_eq!(encode("bongsu"), "bongsu");
        assert_eq!(encode("a:b{c}%é"), "a%3Ab%7Bc%7D%25%C3%A9");
    }
}

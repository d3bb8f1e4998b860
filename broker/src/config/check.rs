//! Rules that concern more than one setting, and defaults that depend on something.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

use bongsu_protocol::topic::TopicFilter;

use super::error::Error;
use super::explain::lines;
use super::schema::{Origins, Reader, Setting, Spec};
use super::settings::{Anonymous, Settings, TopicPolicy};
use super::value::{Grant, Name};
use super::word::{Forwarding, Port, StorageKind, TopicKind};
use crate::limits::SAME_ISSUER_MAX;

/// Fills in what depends on the host and on other settings.
pub(super) fn derive(settings: &mut Settings, origins: &Origins) {
    if !origins.is_given("node.name")
        && let Some(name) = host_name()
    {
        settings.node.name = name;
    }
    if !origins.is_given("storage.kind")
        && (settings.postgres.url.is_some() || settings.postgres.url_file.is_some())
    {
        settings.storage.kind = StorageKind::Postgres;
    }
    let has_redis = settings.redis.url.is_some() || settings.redis.url_file.is_some();
    if !origins.is_given("cluster.listen") && has_redis {
        settings.cluster.listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    }
    let has_history = |key: &str| origins.is_given(&format!("{key}.history"));
    for (place, token) in settings.auth.tokens.0.iter_mut().enumerate() {
        if !has_history(&format!("auth.tokens[{place}]")) {
            token.history.clone_from(&token.subscribe);
        }
    }
    for (place, issuer) in settings.auth.issuers.0.iter_mut().enumerate() {
        if !has_history(&format!("auth.issuers[{place}]")) {
            issuer.history.clone_from(&issuer.subscribe);
        }
    }
    if !has_history("auth.anonymous") {
        settings.auth.anonymous.history.clone_from(&settings.auth.anonymous.subscribe);
    }
    if !origins.is_given("admin.listen") && settings.listen.ip().is_loopback() {
        settings.admin.listen =
            Some(SocketAddr::new(settings.listen.ip(), next_port(settings.listen.port())));
    }
    if !is_auth_given(settings, origins) {
        let everything = || vec![TopicFilter::parse("#").expect("`#` is a filter")];
        settings.auth.anonymous = Anonymous {
            subscribe: everything(),
            history: everything(),
            publish: everything(),
            presence: everything(),
        };
    }
}

/// The port of administrators where nobody says which: the next one; a free one where clients have a free one, or one of those that systems
/// hand out as free, since the next may be handed out too (RFC 6335, 6: Linux begins below the dynamic ports, at 32768).
const fn next_port(port: u16) -> u16 {
    match port {
        1..32_767 => port + 1,
        _ => 0,
    }
}

/// Whether the operator said who may do what.
fn is_auth_given(settings: &Settings, origins: &Origins) -> bool {
    let anonymous = ["subscribe", "history", "publish", "presence"];
    let says = |field| origins.is_given(&format!("auth.anonymous.{field}"));
    settings.auth.knows_tokens() || anonymous.into_iter().any(says)
}

/// The kernel's name for this host where it tells it in a file, else what the shell calls it.
fn host_name() -> Option<Name> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = kernel.or_else(|| std::env::var("HOSTNAME").ok())?;
    Name::parse(name.trim())
}

impl Default for Settings {
    /// What holds where nobody set anything.
    fn default() -> Self {
        let mut settings = Self::read(&mut Reader::default(), "", None, &Spec::SECTION)
            .expect("every setting outside of a list has a default");
        derive(&mut settings, &Origins::default());
        settings
    }
}

impl Settings {
    /// Nodes that hear of each other must keep their logs in one place.
    fn validate_cluster(&self, check: &mut Check<'_>) {
        let is_postgres = self.storage.kind == StorageKind::Postgres;
        let has_address = self.postgres.url.is_some() || self.postgres.url_file.is_some();
        if is_postgres && !has_address {
            check.fail("storage.kind", "`postgres` needs postgres.url: where the database is".to_owned());
        }
        let redis = &self.redis;
        if (redis.url.is_some() || redis.url_file.is_some()) && !is_postgres {
            let rule =
                "nodes that share a Redis must share a Postgres: set postgres.url, or leave redis.url out";
            check.fail(if redis.url.is_some() { "redis.url" } else { "redis.url_file" }, rule.to_owned());
        }
    }

    /// Nodes that forward to each other find each other.
    fn validate_peers(&self, check: &mut Check<'_>) {
        let has_redis = self.redis.url.is_some() || self.redis.url_file.is_some();
        let cluster = &self.cluster;
        let given = [
            ("cluster.listen", cluster.listen.is_some()),
            ("cluster.advertise", cluster.advertise.is_some()),
            ("cluster.secret_file", cluster.secret_file.is_some()),
        ];
        for (key, is_something) in given {
            // None of it is fine with nobody to find.
            if !has_redis && is_something {
                check.fail_if_given(key, "nodes find each other in a Redis: set redis.url, or remove this");
            }
        }
        match (&self.cluster.listen, &self.cluster.advertise) {
            (Some(listen), None) if listen.ip().is_unspecified() => {
                let rule = "other nodes cannot find every address of this machine: say with cluster.advertise where they \
                            find this node, such as http://10.1.2.3:7946";
                check.fail("cluster.listen", rule);
            }
            (_, Some(url)) if !url.is_plain_http_origin() => {
                let rule = "it takes http:// with a host, and nothing behind it but a port: an IPv6 address stands in brackets";
                check.fail("cluster.advertise", rule);
            }
            _ => {}
        }
    }

    /// Telemetry goes somewhere, by HTTP.
    fn validate_telemetry(&self, check: &mut Check<'_>) {
        match &self.telemetry.otlp_endpoint {
            None if self.telemetry.traces_ratio.as_f64() > 0.0 => {
                let rule =
                    "there is no telemetry.otlp_endpoint that it could belong to: set one, or remove it";
                check.fail("telemetry.traces_ratio", rule);
            }
            Some(url) if !url.is_http_base() => {
                let rule = "it takes http:// or https:// with a host, and neither a user nor a query: a collector beside the \
                            node can add credentials";
                check.fail("telemetry.otlp_endpoint", rule);
            }
            None | Some(_) => {}
        }
    }

    /// Checks the rules that concern more than one setting and tells all that do not hold. `origins` says which settings
    /// somebody gave: a default is never at odds with anything.
    #[must_use]
    pub fn validate(&self, origins: &Origins) -> Vec<Error> {
        let mut check = Check { values: lines(self).into_iter().collect(), origins, errors: Vec::new() };
        self.validate_reach(&mut check);
        self.validate_proxy(&mut check);
        self.validate_tokens(&mut check);
        self.validate_admin(&mut check);
        self.validate_issuers(&mut check);
        self.validate_cluster(&mut check);
        self.validate_peers(&mut check);
        self.validate_telemetry(&mut check);
        self.validate_prefixes(&mut check);
        self.validate_webhooks(&mut check);
        if self.drain.spread > self.drain.grace {
            let shown = &check.values["drain.grace"];
            let rule = format!(
                "clients are sent away within drain.grace, which is {shown}: raise that or lower this"
            );
            // Whoever lowered the grace alone should read its name.
            let key = if origins.is_given("drain.spread") { "drain.spread" } else { "drain.grace" };
            check.fail(key, rule);
        }
        for (idx, policy) in self.topics.0.iter().enumerate() {
            validate_policy(&mut check, &format!("topics[{idx}]"), policy);
            let earlier = self.topics.0[..idx].iter().position(|earlier| earlier.filter == policy.filter);
            if let Some(earlier) = earlier {
                let rule =
                    format!("topics[{earlier}] has the same filter and comes first: remove one of them");
                check.fail(&format!("topics[{idx}].filter"), rule);
            }
        }
        check.errors
    }

    /// Each path has one service.
    fn validate_prefixes(&self, check: &mut Check<'_>) {
        let mut services = HashMap::new();
        for (key, prefixes) in
            [("sockjs.prefixes", &self.sockjs.prefixes), ("stomp.prefixes", &self.stomp.prefixes)]
        {
            for prefix in prefixes {
                if let Some(earlier) = services.insert(prefix, key) {
                    let path = prefix.as_str();
                    check.fail(
                        key,
                        format!("{path} stands in {earlier} already: give each service a path of its own"),
                    );
                }
            }
        }
    }

    /// Who can reach this node, and whether anybody said what they may do.
    fn validate_reach(&self, check: &mut Check<'_>) {
        let (present, absent) = match (&self.tls.certificate, &self.tls.key) {
            (Some(_), None) => ("tls.certificate", "tls.key"),
            (None, Some(_)) => ("tls.key", "tls.certificate"),
            _ => ("", ""),
        };
        if !present.is_empty() {
            check.fail(present, format!("TLS needs {absent} as well: set both or none"));
        }
        let stomp = &self.stomp;
        let addresses = [
            ("listen", Some(self.listen)),
            ("stomp.listen", stomp.listen),
            ("stomp.tls_listen", stomp.tls_listen),
        ];
        for (key, address) in addresses {
            if address.is_some_and(|address| !address.ip().is_loopback())
                && !is_auth_given(self, check.origins)
            {
                let rule = "everybody who reaches this address could read and write everything: add auth.tokens or auth.issuers, or say \
                     with auth.anonymous.subscribe and auth.anonymous.publish what anybody may do, or listen on \
                     127.0.0.1";
                check.fail(key, rule);
            }
        }
        if stomp.tls_listen.is_some() && self.tls.certificate.is_none() && self.tls.key.is_none() {
            check.fail(
                "stomp.tls_listen",
                "TLS needs tls.certificate and tls.key: set both, or use stomp.listen",
            );
        }
    }

    /// Somebody is believed, if there is something to be believed.
    fn validate_proxy(&self, check: &mut Check<'_>) {
        let proxy = &self.proxy;
        if proxy.trusted.is_empty() {
            let rule = "nobody is believed: say with proxy.trusted which addresses proxies have";
            if proxy.headers != Forwarding::None {
                check.fail("proxy.headers", rule);
            }
            if !proxy.protocol.is_empty() {
                check.fail("proxy.protocol", rule);
            }
        }
        for (port, key, is_set) in [
            (Port::Stomp, "stomp.listen", self.stomp.listen.is_some()),
            (Port::StompTls, "stomp.tls_listen", self.stomp.tls_listen.is_some()),
        ] {
            if proxy.protocol.contains(&port) && !is_set {
                check.fail("proxy.protocol", format!("there is no such port: set {key}, or remove it here"));
            }
        }
    }

    /// Webhooks go somewhere, and their names are levels of topics.
    fn validate_webhooks(&self, check: &mut Check<'_>) {
        for (idx, webhook) in self.webhooks.0.iter().enumerate() {
            let key = |field| format!("webhooks[{idx}].{field}");
            let name = webhook.name.as_str();
            let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if name.len() > 64 || !name.chars().all(is_plain) {
                check.fail(&key("name"), "it takes letters, digits, `-` and `_`, at most 64");
            }
            if let Some(earlier) =
                self.webhooks.0[..idx].iter().position(|earlier| earlier.name == webhook.name)
            {
                check.fail(&key("name"), format!("webhooks[{earlier}] has the same name: give each its own"));
            }
            if !webhook.url.is_http() {
                check.fail(&key("url"), "it takes http:// or https:// with a host, and no user");
            }
            if webhook.topics.is_empty() {
                check.fail(&key("topics"), "without a topic there is nothing to tell: name at least one");
            }
        }
    }

    fn validate_tokens(&self, check: &mut Check<'_>) {
        let mut digests = HashMap::new();
        for (idx, token) in self.auth.tokens.0.iter().enumerate() {
            if let Some(earlier) = digests.insert(token.sha256, idx) {
                let rule = format!("auth.tokens[{earlier}] has the same digest: one token has one subject");
                check.fail(&format!("auth.tokens[{idx}].sha256"), rule);
            }
            let lists = [&token.subscribe, &token.history, &token.publish, &token.presence];
            let uses_subject = |filter: &TopicFilter| filter.as_str().contains("{sub}");
            if lists.into_iter().flatten().any(uses_subject) && !token.is_level() {
                let rule = "filters of this token have `{sub}`: its name must be one level of a topic, without `/`, `+`, `#` and `$` in front";
                check.fail(&format!("auth.tokens[{idx}].name"), rule);
            }
        }
    }

    /// Each issuer has keys from one place, for algorithms that go with them.
    fn validate_issuers(&self, check: &mut Check<'_>) {
        for (idx, issuer) in self.auth.issuers.0.iter().enumerate() {
            let key = |field| format!("auth.issuers[{idx}].{field}");
            let earlier = &self.auth.issuers.0[..idx];
            if let Some(same) = earlier.iter().position(|earlier| earlier.name == issuer.name) {
                check
                    .fail(&key("name"), format!("auth.issuers[{same}] has the same name: give each its own"));
            }
            if earlier.iter().filter(|earlier| earlier.issuer == issuer.issuer).count() >= SAME_ISSUER_MAX {
                let rule = format!(
                    "{SAME_ISSUER_MAX} issuers say the same `iss` before this one: each token would be tried with all"
                );
                check.fail(&key("issuer"), rule);
            }
            let Some(source) = issuer.source() else {
                let rule = "it takes exactly one of secret_file, public_key_file, jwks_file and jwks_url";
                check.fail(&key("issuer"), rule);
                continue;
            };
            let is_secret = source == "secret_file";
            if issuer.algorithms().into_iter().any(|algorithm| algorithm.is_symmetric() != is_secret) {
                let rule = "HS256, HS384 and HS512 go with secret_file, and all others with public keys: never both, so that nobody signs \
                            with a public key as if it were a secret";
                check.fail(&key("algorithms"), rule);
            }
            if let Some(url) = &issuer.jwks_url
                && !(url.is_http() && (url.is_https() || url.is_loopback()))
            {
                let rule = "it takes https:// with a host and no user; http:// only to 127.0.0.0/8, [::1] or localhost, since whoever can \
                            change the answer can sign tokens";
                check.fail(&key("jwks_url"), rule);
            }
            if source != "jwks_url" {
                let rule = "it belongs to jwks_url: remove it";
                for field in ["jwks_refresh", "jwks_age_max", "jwks_cooldown"] {
                    check.fail_if_given(&key(field), rule);
                }
            }
        }
    }

    /// Each administrator has a token of their own, and TLS a certificate.
    fn validate_admin(&self, check: &mut Check<'_>) {
        let (mut digests, mut names) = (HashMap::new(), HashMap::new());
        for (idx, token) in self.admin.tokens.0.iter().enumerate() {
            if let Some(earlier) = digests.insert(token.sha256, idx) {
                let rule = format!("admin.tokens[{earlier}] has the same digest: one token has one name");
                check.fail(&format!("admin.tokens[{idx}].sha256"), rule);
            }
            if let Some(earlier) = names.insert(token.name.as_str(), idx) {
                let rule = format!(
                    "admin.tokens[{earlier}] has the same name: the audit log could not tell them apart"
                );
                check.fail(&format!("admin.tokens[{idx}].name"), rule);
            }
        }
        if self.admin.tls && (self.tls.certificate.is_none() || self.tls.key.is_none()) {
            check
                .fail("admin.tls", "TLS needs tls.certificate and tls.key: set both, or leave admin.tls out");
        }
    }

    /// What clients without a token may do.
    #[must_use]
    pub fn anonymous(&self) -> Grant {
        let Anonymous { subscribe, history, publish, presence } = self.auth.anonymous.clone();
        Grant { subscribe, history, publish, presence }
    }
}

/// Settings of one kind of topic make no sense on the other; silence would look as if they held.
pub(super) fn validate_policy(check: &mut Check<'_>, key: &str, policy: &TopicPolicy) {
    match policy.kind {
        TopicKind::Durable => {
            let rule = "readers of a durable topic continue from history: remove it, or set kind = \"live\"";
            check.fail_if_given(&format!("{key}.slow_reader"), rule);
        }
        TopicKind::Live => {
            let rule = "a live topic keeps no history: remove it, or set kind = \"durable\"";
            for field in ["retention.age", "retention.count", "retention.bytes", "idempotency_window"] {
                check.fail_if_given(&format!("{key}.{field}"), rule);
            }
        }
    }
    if policy.publish_rate.is_none() {
        let rule = "there is no publish_rate that it could belong to: set one, or remove it";
        check.fail_if_given(&format!("{key}.publish_burst"), rule);
    }
}

/// Collects what does not hold.
pub(super) struct Check<'a> {
    pub(super) values: HashMap<String, String>,
    pub(super) origins: &'a Origins,
    pub(super) errors: Vec<Error>,
}

impl Check<'_> {
    fn fail(&mut self, key: &str, rule: impl Into<String>) {
        let value = self.values.get(key).cloned().unwrap_or_default();
        let origin = self.origins.get(key);
        self.errors.push(Error::Rule { key: key.to_owned(), value, origin, rule: rule.into() });
    }

    fn fail_if_given(&mut self, key: &str, rule: &str) {
        if self.origins.is_given(key) {
            self.fail(key, rule);
        }
    }
}

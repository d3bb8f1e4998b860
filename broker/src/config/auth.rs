//! Settings of who may do what.

use std::path::PathBuf;
use std::time::Duration;

use bongsu_protocol::topic::TopicFilter;

use super::schema::{Tables, settings};
use super::url::ServerUrl;
use super::value::{Name, Sha256};
use super::word::{Algorithm, Reject};

settings! {
    /// Who may do what.
    pub struct Auth {
        /// Tokens that this node knows. Their digests stand here, so the file holds no secret.
        pub tokens: Tables<Token>;
        /// Who signs tokens (JWT) that this node takes. See [tokens.md](tokens.md).
        pub issuers: Tables<Issuer>;
        /// What clients without a token may do.
        pub anonymous: Anonymous;
        /// How a handshake without permission ends: `status` answers HTTP 401 or 403, which pages cannot read; `close`
        /// upgrades and closes with 4401 or 4403 and the reason.
        pub reject: Reject = "status";
    }

    /// A token that this node knows.
    pub struct Token {
        /// The subject: who publishes with this token.
        pub name: Name;
        /// The token's digest.
        pub sha256: Sha256;
        /// Of what its bearer may read what comes from now on.
        pub subscribe: Vec<TopicFilter> = "[]";
        /// Of what its bearer may read what is kept: history, polls, and every subscription that does not begin with the next message.
        pub history: Vec<TopicFilter> = "[]" shown "as `subscribe`";
        /// What its bearer may write.
        pub publish: Vec<TopicFilter> = "[]";
        /// Where its bearer may see and join presence.
        pub presence: Vec<TopicFilter> = "[]";
    }

    /// Somebody who signs tokens, and what they mean here. Exactly one of `secret_file`, `public_key_file`, `jwks_file` and `jwks_url`
    /// says by which keys.
    pub struct Issuer {
        /// What logs and errors call it.
        pub name: Name;
        /// What its tokens say in `iss`, exactly. Up to four tables may have the same: one secret after the other, or an audience each.
        pub issuer: Name;
        /// A token must say one of these in `aud`. Without any, one that says something there is refused: it is for somebody else.
        pub audience: Vec<Name> = "[]";
        /// How its tokens may be signed. A key takes only what is made for it.
        pub algorithms: Vec<Algorithm> = "[]" shown "`[\"HS256\"]` with `secret_file`, else `[\"RS256\", \"ES256\", \"EdDSA\"]`";
        /// A file with the secret for HS256, HS384 or HS512, as it stands there but for a newline at the end: at least as many bytes as the
        /// digest has (32, 48 or 64). All files with keys are looked at once a second, and read again as they change.
        pub secret_file: Option<PathBuf> = "none";
        /// A file with the public key in PEM: RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519.
        pub public_key_file: Option<PathBuf> = "none";
        /// A file with a set of public keys (RFC 7517).
        pub jwks_file: Option<PathBuf> = "none";
        /// Where a set of public keys is: `https://`, or `http://` on this machine. Redirects are not followed.
        pub jwks_url: Option<ServerUrl> = "none";
        /// How often the set at `jwks_url` is fetched.
        pub jwks_refresh: Duration = "5m" in "10s"..="24h";
        /// How long the last good set holds while `jwks_url` does not answer, or not with a set. Afterwards tokens are refused with
        /// `unavailable`.
        pub jwks_age_max: Duration = "24h" in "1m"..="31d";
        /// A token with a `kid` that the set does not have makes the set be fetched, unless it was within this time.
        pub jwks_cooldown: Duration = "10s" in "100ms"..="10m";
        /// How far the issuer's clock and this node's may be apart.
        pub leeway: Duration = "30s" in "0s"..="5m";
        /// A token that is good for longer is refused, as is one that never ends. Revocations are kept for as long.
        pub token_lifetime_max: Duration = "31d" in "1m"..="366d";
        /// The claim that says whose token it is.
        pub subject_claim: Name = "sub";
        /// The claim that says what its bearer may do.
        pub claim: Name = "bongsu";
        /// Without that claim: of what its bearer may read what comes from now on. A level `{sub}` stands for the subject.
        pub subscribe: Vec<TopicFilter> = "[]";
        /// Without that claim: of what its bearer may read what is kept.
        pub history: Vec<TopicFilter> = "[]" shown "as `subscribe`";
        /// Without that claim: what its bearer may write.
        pub publish: Vec<TopicFilter> = "[]";
        /// Without that claim: where its bearer may see and join presence.
        pub presence: Vec<TopicFilter> = "[]";
        /// The claim that says which roles an administrator has: a text or a list of texts. A name that begins with `/` is a JSON pointer, such as
        /// `/realm_access/roles`.
        pub roles_claim: Name = "roles";
        /// Values of that claim whose bearer may look at the admin API.
        pub viewers: Vec<Name> = "[]";
        /// Values of that claim whose bearer may also operate: read and publish messages, disconnect, revoke, block.
        pub operators: Vec<Name> = "[]";
        /// Values of that claim whose bearer may do everything there.
        pub admins: Vec<Name> = "[]";
    }

    /// What clients without a token may do.
    pub struct Anonymous {
        /// Of what they may read what comes from now on.
        pub subscribe: Vec<TopicFilter> = "[]" shown "`[\"#\"]` while `auth` is empty, else `[]`";
        /// Of what they may read what is kept.
        pub history: Vec<TopicFilter> = "[]" shown "as `subscribe`";
        /// What they may write.
        pub publish: Vec<TopicFilter> = "[]" shown "`[\"#\"]` while `auth` is empty, else `[]`";
        /// Where they may see and join presence.
        pub presence: Vec<TopicFilter> = "[]" shown "`[\"#\"]` while `auth` is empty, else `[]`";
    }
}

impl Auth {
    /// Whether any token could be good here.
    #[must_use]
    pub const fn knows_tokens(&self) -> bool {
        !self.tokens.0.is_empty() || !self.issuers.0.is_empty()
    }
}

impl Token {
    /// Whether its name can stand for `{sub}`: as one level of a topic, which matches only itself.
    #[must_use]
    pub fn is_level(&self) -> bool {
        let name = self.name.as_str();
        !name.starts_with('$') && !name.contains(['/', '+', '#'])
    }
}

impl Issuer {
    /// How its tokens may be signed: as it is said, or what goes with its keys.
    #[must_use]
    pub fn algorithms(&self) -> Vec<Algorithm> {
        if !self.algorithms.is_empty() {
            return self.algorithms.clone();
        }
        match self.secret_file {
            Some(_) => vec![Algorithm::Hs256],
            None => vec![Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa],
        }
    }

    /// The one setting that says where its keys are; `None` where it is none, or several.
    #[must_use]
    pub fn source(&self) -> Option<&'static str> {
        let sources = [
            ("secret_file", self.secret_file.is_some()),
            ("public_key_file", self.public_key_file.is_some()),
            ("jwks_file", self.jwks_file.is_some()),
            ("jwks_url", self.jwks_url.is_some()),
        ];
        let mut given = sources.into_iter().filter(|(_, is_given)| *is_given);
        given.next().filter(|_| given.next().is_none()).map(|(name, _)| name)
    }
}

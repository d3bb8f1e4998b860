//! A set of public keys as RFC 7517 writes it: of each key, what can be used, and nothing of keys that should not be there.

use std::collections::HashSet;

use serde::Deserialize;

use super::keys::{Key, NoKey, from_base64url};
use crate::config::Algorithm;
use crate::limits::JWKS_KEYS_MAX;
use crate::metrics::METRICS;

/// Why a text is no set of keys that can be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoSet {
    #[error("it is no JSON object with a list `keys`")]
    Json,
    #[error("it has more than {JWKS_KEYS_MAX} keys")]
    TooMany,
    #[error("two of its keys have the same `kid`, so that nobody can say whose a signature is")]
    Twice,
    #[error("none of its keys can check a signature here")]
    Empty,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

/// The members of a key that mean something here (RFC 7517, 4; RFC 7518, 6; RFC 8037, 2).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// The private part of any of these.
    d: Option<serde::de::IgnoredAny>,
}

/// Why one key of a set is left out.
#[derive(Debug, thiserror::Error)]
enum LeftOut {
    /// A key for encryption, or of a kind that is new: sets have such keys, and nothing is wrong with them.
    #[error("it is not for signatures that are known here")]
    Other,
    #[error("it is a secret, and everybody who reads the set knows it")]
    Secret,
    #[error("its private part is there, so everybody who reads the set can sign with it")]
    Private,
    #[error("its members do not have the form of RFC 7518")]
    Form,
    #[error(transparent)]
    NoKey(#[from] NoKey),
}

/// Reads a set. A key that is none, or that must not be public, is left out, told and counted.
///
/// # Errors
/// Nothing of it can be taken: whoever has an earlier set keeps that.
pub(super) fn parse(issuer: &str, text: &[u8]) -> Result<Vec<Key>, NoSet> {
    let set: Set = serde_json::from_slice(text).map_err(|_| NoSet::Json)?;
    if set.keys.len() > JWKS_KEYS_MAX {
        return Err(NoSet::TooMany);
    }
    let mut keys = Vec::new();
    for (idx, jwk) in set.keys.into_iter().enumerate() {
        match take(jwk) {
            Ok(key) => keys.push(key),
            Err(LeftOut::Other) => tracing::debug!(issuer, idx, "a key of the set is for something else"),
            Err(left_out) => {
                METRICS.jwks_keys_refused.add(1);
                tracing::warn!(issuer, idx, error = %left_out, "a key of the set was left out");
            }
        }
    }
    let mut kids = HashSet::new();
    if !keys.iter().filter_map(|key| key.kid.as_deref()).all(|kid| kids.insert(kid)) {
        return Err(NoSet::Twice);
    }
    if keys.is_empty() { Err(NoSet::Empty) } else { Ok(keys) }
}

fn take(jwk: serde_json::Value) -> Result<Key, LeftOut> {
    let jwk: Jwk = serde_json::from_value(jwk).map_err(|_| LeftOut::Form)?;
    let is_known = matches!(jwk.kty.as_str(), "RSA" | "EC" | "OKP");
    match jwk.kty.as_str() {
        "oct" => return Err(LeftOut::Secret),
        _ if jwk.d.is_some() => return Err(LeftOut::Private),
        _ if !is_known => return Err(LeftOut::Other),
        _ => {}
    }
    let is_for_signatures = jwk.r#use.as_deref().is_none_or(|r#use| r#use == "sig")
        && jwk.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|one| one == "verify"));
    let only = match jwk.alg.as_deref().map(Algorithm::parse) {
        Some(None) => return Err(LeftOut::Other),
        Some(only) => only,
        None => None,
    };
    if !is_for_signatures {
        return Err(LeftOut::Other);
    }
    let member = |member: &Option<String>| member.as_deref().and_then(from_base64url).ok_or(LeftOut::Form);
    let point = |bytes: usize| {
        // RFC 7518, 6.2.1.2: both coordinates have all their bytes.
        let [x, y] = [member(&jwk.x)?, member(&jwk.y)?];
        if x.len() != bytes || y.len() != bytes {
            return Err(LeftOut::Form);
        }
        Ok(Key::point(&[&[4], &x[..], &y[..]].concat(), bytes)?)
    };
    let mut key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => Key::rsa(member(&jwk.n)?, member(&jwk.e)?)?,
        ("EC", Some("P-256")) => point(32)?,
        ("EC", Some("P-384")) => point(48)?,
        ("OKP", Some("Ed25519")) => Key::ed25519(&member(&jwk.x)?)?,
        _ => return Err(LeftOut::Other),
    };
    key.kid = jwk.kid;
    key.only = only;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    const EC: &str = r#"{"kty":"EC","crv":"P-256","kid":"1","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}"#;

    fn count(keys: &[&str]) -> Result<usize, NoSet> {
        parse("test", format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes()).map(|keys| keys.len())
    }

    fn with(member: &str) -> String {
        ED.replacen('{', &format!("{{{member},"), 1)
    }

    /// The public keys of RFC 8037, A.2 and RFC 7517, A.1.
    #[test]
    fn keys_for_signatures_are_taken() {
        assert_eq!(count(&[ED, EC]), Ok(2));
        for member in [r#""use":"sig""#, r#""key_ops":["verify"]"#, r#""alg":"EdDSA""#, r#""x5c":["MII"]"#] {
            assert_eq!(count(&[&with(member)]), Ok(1), "{member}");
        }
    }

    #[test]
    fn what_must_not_be_in_a_set_is_left_out() {
        let oct = r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;
        assert_eq!(count(&[oct]), Err(NoSet::Empty));
        assert_eq!(count(&[oct, ED]), Ok(1));
        for member in [
            r#""d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A""#,
            r#""use":"enc""#,
            r#""key_ops":["sign"]"#,
            r#""alg":"HS256""#,
            r#""alg":"none""#,
            r#""kid":7"#,
        ] {
            // A key that says it is for HMAC is never asked whether it fits one.
            let keys = parse("test", format!(r#"{{"keys":[{}]}}"#, with(member)).as_bytes());
            let fits = keys.is_ok_and(|keys| {
                keys.iter().any(|key| Algorithm::ALL.into_iter().any(|algorithm| key.fits(algorithm)))
            });
            assert!(!fits, "{member}");
        }
        for weak in [
            r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#,
            r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#,
            r#"{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}"#,
            r#"{"kty":"OKP","crv":"X25519","x":"AA"}"#,
            r#"{"kty":"RSA"}"#,
            r#"{}"#,
            "7",
            "[]",
        ] {
            assert_eq!(count(&[weak]), Err(NoSet::Empty), "{weak}");
        }
    }

    #[test]
    fn what_is_no_set_is_refused_as_a_whole() {
        let many = vec![ED; JWKS_KEYS_MAX + 1];
        assert_eq!(count(&many), Err(NoSet::TooMany));
        assert_eq!(count(&[EC, EC]), Err(NoSet::Twice));
        let deep = "[".repeat(10_000);
        for text in [
            "",
            "{}",
            "[]",
            r#"{"keys":{}}"#,
            r#"{"keys":null}"#,
            "<html>",
            &deep,
            &format!(r#"{{"keys":[{deep}"#),
        ] {
            assert_eq!(parse("test", text.as_bytes()).map(|keys| keys.len()), Err(NoSet::Json), "{text:.20}");
        }
    }
}

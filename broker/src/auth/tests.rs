//! Tokens that are good, and tokens of somebody who tries.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bongsu_protocol::reason::ErrorCode;
use bongsu_protocol::topic::{Topic, TopicFilter};
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::config::{Algorithm, SettingsArgs, load_with};

/// A key of this test only.
const RSA_PRIVATE: &str = include_str!("testdata/rsa.pem");
const RSA_PUBLIC: &str = include_str!("testdata/rsa.pub.pem");
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Somebody who signs.
enum Signer {
    Secret(Vec<u8>),
    Rsa(Box<RsaKeyPair>),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    fn rsa() -> Self {
        let der: String = RSA_PRIVATE.lines().filter(|line| !line.starts_with('-')).collect();
        Self::Rsa(Box::new(RsaKeyPair::from_pkcs8(&STANDARD.decode(der).unwrap()).unwrap()))
    }

    fn point(algorithm: &'static signature::EcdsaSigningAlgorithm) -> EcdsaKeyPair {
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).unwrap()
    }

    fn p256() -> Self {
        Self::P256(Self::point(&signature::ECDSA_P256_SHA256_FIXED_SIGNING))
    }

    fn p384() -> Self {
        Self::P384(Self::point(&signature::ECDSA_P384_SHA384_FIXED_SIGNING))
    }

    fn ed25519() -> Self {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap())
    }

    fn sign(&self, algorithm: Algorithm, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Secret(secret) => {
                let key = keys::Key::from_secret(secret, &[]).unwrap();
                key.sign(algorithm, signed).unwrap()
            }
            Self::Rsa(pair) => {
                let padding: &dyn signature::RsaEncoding = match algorithm {
                    Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
                    Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
                    Algorithm::Ps512 => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &random, signed, &mut signature).unwrap();
                signature
            }
            Self::P256(pair) | Self::P384(pair) => pair.sign(&random, signed).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(signed).as_ref().to_vec(),
        }
    }

    /// The public key in PEM.
    fn pem(&self) -> String {
        let (head, key): (&[u8], &[u8]) = match self {
            Self::P256(pair) => (b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00", pair.public_key().as_ref()),
            Self::P384(pair) => (b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00", pair.public_key().as_ref()),
            Self::Ed25519(pair) => (b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", pair.public_key().as_ref()),
            Self::Rsa(_) => return RSA_PUBLIC.to_owned(),
            Self::Secret(_) => panic!("a secret is not public"),
        };
        let der = STANDARD.encode([head, key].concat());
        format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
    }
}

fn encode(header: &Value, payload: &[u8], sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!("{}.{}", part(header.to_string().as_bytes()), part(payload));
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", part(&signature))
}

fn token(signer: &Signer, algorithm: Algorithm, claims: &Value) -> String {
    let header = json!({"alg": algorithm.as_str(), "typ": "JWT"});
    encode(&header, claims.to_string().as_bytes(), |signed| signer.sign(algorithm, signed))
}

fn now() -> u64 {
    clock::wall().0 / 1000
}

/// Claims that are good for an hour.
fn claims(subject: &str) -> Value {
    json!({"iss": "https://id.example", "sub": subject, "iat": now(), "exp": now() + 3600})
}

fn with(mut claims: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims
}

/// An authenticator with the settings of one issuer, whose files are in a folder.
fn authenticator(folder: &Path, issuer: &str) -> Authenticator {
    let file = folder.join("bongsu.toml");
    let folder = folder.display().to_string();
    let issuer = issuer.replace("DIR", &folder);
    let head = "[[auth.issuers]]\nname = 'id'\nissuer = 'https://id.example'\n";
    fs::write(&file, format!("{head}{issuer}")).unwrap();
    let args = SettingsArgs { config: Some(file), ..SettingsArgs::default() };
    let settings = load_with(&args, []).unwrap_or_else(|errors| panic!("{errors}")).settings;
    Authenticator::new(&settings)
}

/// One whose issuer has a secret.
fn secret(folder: &TempDir, more: &str) -> Authenticator {
    fs::write(folder.path().join("secret"), SECRET).unwrap();
    authenticator(
        folder.path(),
        &format!("secret_file = 'DIR/secret'\nalgorithms = ['HS256', 'HS384', 'HS512']\n{more}"),
    )
}

async fn why(authenticator: &Authenticator, token: &str) -> Result<Verified, TokenRefusal> {
    authenticator.verify_signed(token).await.map_err(|refused| refused.why)
}

fn hs256(claims: &Value) -> String {
    token(&Signer::Secret(SECRET.to_vec()), Algorithm::Hs256, claims)
}

#[tokio::test]
async fn each_algorithm_is_checked_by_its_own_key() {
    let folder = tempfile::tempdir().unwrap();
    let signers = [
        (
            Signer::rsa(),
            vec![
                Algorithm::Rs256,
                Algorithm::Rs384,
                Algorithm::Rs512,
                Algorithm::Ps256,
                Algorithm::Ps384,
                Algorithm::Ps512,
            ],
        ),
        (Signer::p256(), vec![Algorithm::Es256]),
        (Signer::p384(), vec![Algorithm::Es384]),
        (Signer::ed25519(), vec![Algorithm::EdDsa]),
    ];
    for (signer, algorithms) in &signers {
        fs::write(folder.path().join("key.pem"), signer.pem()).unwrap();
        let all: Vec<_> =
            Algorithm::ALL.iter().filter(|one| !one.is_symmetric()).map(|one| one.as_str()).collect();
        let issuer =
            authenticator(folder.path(), &format!("public_key_file = 'DIR/key.pem'\nalgorithms = {all:?}"));
        assert!(issuer.without_keys().is_empty());
        for algorithm in algorithms {
            let good = token(signer, *algorithm, &claims("ann"));
            let verified = why(&issuer, &good).await.unwrap_or_else(|why| panic!("{algorithm:?}: {why:?}"));
            assert_eq!(verified.identity.subject(), "ann");
            // One bit of the payload, of the signature, and another's signature.
            let changed = |at: usize| {
                let mut bytes = good.clone().into_bytes();
                bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
                String::from_utf8(bytes).unwrap()
            };
            let first_of_signature = good.rfind('.').unwrap() + 1;
            assert_eq!(why(&issuer, &changed(first_of_signature)).await.err(), Some(TokenRefusal::Signature));
            let other = token(&Signer::Secret(SECRET.to_vec()), Algorithm::Hs256, &claims("ann"));
            let stolen =
                format!("{}{}", &good[..first_of_signature], &other[other.rfind('.').unwrap() + 1..]);
            assert_eq!(why(&issuer, &stolen).await.err(), Some(TokenRefusal::Signature));
            assert_eq!(why(&issuer, &good[..first_of_signature]).await.err(), Some(TokenRefusal::Signature));
        }
        // No other algorithm is this key's, whatever the issuer's list says.
        for algorithm in
            Algorithm::ALL.into_iter().filter(|one| !algorithms.contains(one) && !one.is_symmetric())
        {
            let header = json!({"alg": algorithm.as_str()});
            let token = encode(&header, claims("ann").to_string().as_bytes(), |signed| {
                signer.sign(algorithms[0], signed)
            });
            assert_eq!(why(&issuer, &token).await.err(), Some(TokenRefusal::Key), "{algorithm:?}");
        }
    }
    let issuer = secret(&folder, "");
    for algorithm in [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512] {
        let token = token(&Signer::Secret(SECRET.to_vec()), algorithm, &claims("ann"));
        assert!(why(&issuer, &token).await.is_ok(), "{algorithm:?}");
    }
}

#[tokio::test]
async fn a_public_key_is_never_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    for signer in [Signer::rsa(), Signer::p256(), Signer::ed25519()] {
        let pem = signer.pem();
        fs::write(folder.path().join("key.pem"), &pem).unwrap();
        let issuer = authenticator(folder.path(), "public_key_file = 'DIR/key.pem'");
        let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        for secret in
            [pem.clone().into_bytes(), pem.trim_end().as_bytes().to_vec(), STANDARD.decode(der).unwrap()]
        {
            for algorithm in [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512] {
                let forged = token(&Signer::Secret(secret.clone()), algorithm, &claims("admin"));
                assert_eq!(why(&issuer, &forged).await.err(), Some(TokenRefusal::Algorithm));
            }
        }
    }
}

#[tokio::test]
async fn a_key_in_the_header_is_not_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("key.pem"), Signer::ed25519().pem()).unwrap();
    let issuer = authenticator(folder.path(), "public_key_file = 'DIR/key.pem'");
    let Signer::Ed25519(pair) = Signer::ed25519() else { unreachable!() };
    let jwk =
        json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key().as_ref())});
    for header in [
        json!({"alg": "EdDSA", "jwk": jwk}),
        json!({"alg": "EdDSA", "jku": "http://127.0.0.1:1/keys"}),
        json!({"alg": "EdDSA", "x5u": "http://127.0.0.1:1/cert", "x5c": ["MII="]}),
        json!({"alg": "EdDSA", "kid": "../../../../dev/null"}),
    ] {
        let forged = encode(&header, claims("admin").to_string().as_bytes(), |signed| {
            pair.sign(signed).as_ref().to_vec()
        });
        assert_eq!(why(&issuer, &forged).await.err(), Some(TokenRefusal::Signature), "{header}");
    }
}

#[tokio::test]
async fn unsigned_tokens_are_refused_in_every_spelling() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = secret(&folder, "");
    for alg in ["none", "None", "NONE", "nOnE", "", "null"] {
        for signature in [Vec::new(), b"x".to_vec()] {
            let token =
                encode(&json!({"alg": alg}), claims("admin").to_string().as_bytes(), |_| signature.clone());
            assert_eq!(why(&issuer, &token).await.err(), Some(TokenRefusal::Algorithm), "{alg}");
        }
    }
}

#[tokio::test]
async fn claims_are_judged_before_the_signature() {
    use TokenRefusal::{Audience, Claims, Early, Expired, Issuer, Lifetime, Malformed};
    let folder = tempfile::tempdir().unwrap();
    let issuer = secret(&folder, "audience = ['bongsu', 'other']\nleeway = '10s'\ntoken_lifetime_max = '1d'");
    let good = with(claims("ann"), &json!({"aud": "bongsu"}));
    let cases = [
        (json!({"iss": "https://evil.example"}), Some(Issuer)),
        (json!({"iss": ""}), Some(Issuer)),
        (json!({"iss": ["https://id.example"]}), Some(Claims)),
        (json!({"aud": "somebody"}), Some(Audience)),
        (json!({"aud": []}), Some(Audience)),
        (json!({"aud": ["x", "other"]}), None),
        (json!({"aud": 7}), Some(Claims)),
        (json!({"exp": now() - 60}), Some(Expired)),
        (json!({"exp": now() - 5}), None),
        (json!({"exp": 0}), Some(Expired)),
        (json!({"exp": format!("{}", now() + 60)}), Some(Claims)),
        (json!({"exp": -1}), Some(Claims)),
        (json!({"exp": 1e300}), Some(Claims)),
        (json!({"exp": u64::MAX}), Some(Claims)),
        (json!({"exp": (now() + 60) * 1000}), Some(Claims)),
        (json!({"exp": null}), Some(Claims)),
        (json!({"exp": (now() + 60) as f64 + 0.5}), None),
        (json!({"exp": now() + 2 * 86_400}), Some(Lifetime)),
        (json!({"iat": now() - 86_400, "exp": now() + 60}), Some(Lifetime)),
        (json!({"iat": now() + 60}), Some(Early)),
        (json!({"iat": now() + 5}), None),
        (json!({"iat": "now"}), Some(Claims)),
        (json!({"nbf": now() + 60}), Some(Early)),
        (json!({"nbf": now() + 5}), None),
        (json!({"nbf": "99999999999"}), Some(Claims)),
        (json!({"nbf": {}}), Some(Claims)),
    ];
    for (changes, expected) in cases {
        let claims = with(good.clone(), &changes);
        assert_eq!(why(&issuer, &hs256(&claims)).await.err(), expected, "{changes}");
        // The same without any signature: it was not looked at before.
        let unsigned = encode(&json!({"alg": "HS256"}), claims.to_string().as_bytes(), |_| Vec::new());
        assert_eq!(
            why(&issuer, &unsigned).await.err(),
            expected.or(Some(TokenRefusal::Signature)),
            "{changes}"
        );
    }
    let mut endless = good.clone();
    endless.as_object_mut().unwrap().remove("exp");
    assert_eq!(why(&issuer, &hs256(&endless)).await.err(), Some(Lifetime));
    let signer = Signer::Secret(SECRET.to_vec());
    let text = good.to_string();
    for payload in [
        text.replacen('{', &format!(r#"{{"exp":{},"#, now() + 60), 1),
        text.replacen('{', r#"{"\u0073ub":"admin","#, 1),
        format!("[{text}]"),
        "{}{}".to_owned(),
        String::new(),
    ] {
        let token = encode(&json!({"alg": "HS256"}), payload.as_bytes(), |signed| {
            signer.sign(Algorithm::Hs256, signed)
        });
        assert_eq!(why(&issuer, &token).await.err(), Some(Malformed), "{payload}");
    }
}

#[tokio::test]
async fn an_audience_that_nobody_set_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = secret(&folder, "");
    assert!(why(&issuer, &hs256(&claims("ann"))).await.is_ok());
    let other = with(claims("ann"), &json!({"aud": "another-service"}));
    assert_eq!(why(&issuer, &hs256(&other)).await.err(), Some(TokenRefusal::Audience), "RFC 7519, 4.1.3");
}

#[tokio::test]
async fn a_token_says_what_its_bearer_may_do() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = secret(&folder, "subscribe = ['public/#', 'inbox/{sub}/#']\nhistory = ['inbox/{sub}/#']");
    let filter = |text: &str| TopicFilter::parse(text).unwrap();
    let by_default = why(&issuer, &hs256(&claims("ann"))).await.unwrap().identity;
    assert!(
        by_default.grants.may_subscribe(&filter("inbox/ann/x"))
            && by_default.grants.may_subscribe(&filter("public/+"))
    );
    assert!(
        !by_default.grants.may_subscribe(&filter("inbox/bob/x"))
            && !by_default.grants.may_subscribe(&filter("inbox/+/x"))
    );
    assert!(
        !by_default.grants.may_read_history(&filter("public/a"))
            && by_default.grants.may_read_history(&filter("inbox/ann/#"))
    );
    let own = json!({"jti": "t1", "bongsu": {
        "can": [{"topics": ["chat/{sub}"], "do": ["publish"]}],
        "limits": {"connections": 2, "bytes_per_second": 1000}}});
    let own = why(&issuer, &hs256(&with(claims("ann"), &own))).await.unwrap().identity;
    assert!(own.grants.may_publish(&Topic::parse("chat/ann").unwrap()));
    assert!(own.grants.subscribe.is_empty(), "the issuer's defaults are for tokens without the claim");
    assert_eq!(own.token_id.as_deref(), Some("t1"));
    assert_eq!((own.limits.connections, own.limits.bytes_per_second), (Some(2), Some(1000)));
    assert!(own.expires_at > own.issued_at);
    for subject in ["", "#", "+", "a/b", "$sys", "a#", "a\n"] {
        let refused = why(&issuer, &hs256(&claims(subject))).await;
        assert_eq!(refused.err(), Some(TokenRefusal::Subject), "{subject:?}");
    }
    let nothing = with(claims("a/b"), &json!({"bongsu": {}}));
    assert!(why(&issuer, &hs256(&nothing)).await.is_ok(), "only `{{sub}}` asks for a level");
    let wrong = with(claims("ann"), &json!({"bongsu": {"can": "all"}}));
    assert_eq!(why(&issuer, &hs256(&wrong)).await.err(), Some(TokenRefusal::Claims));
}

#[tokio::test]
async fn a_token_without_its_time_counts_as_old_as_it_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = secret(&folder, "token_lifetime_max = '1d'");
    let mut ageless = claims("ann");
    ageless.as_object_mut().unwrap().remove("iat");
    let identity = why(&issuer, &hs256(&ageless)).await.unwrap().identity;
    let exp = ageless["exp"].as_u64().unwrap();
    assert_eq!(identity.issued_at.map(|time| time.0), Some((exp - 86_400) * 1000));
}

#[tokio::test]
async fn roles_come_from_the_claim_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let issuer =
        secret(&folder, "roles_claim = '/realm/roles'\nviewers = ['staff']\nadmins = ['root', 'boss']");
    for (roles, expected) in [
        (json!(["staff"]), Some(Role::Viewer)),
        (json!(["boss", "staff"]), Some(Role::Admin)),
        (json!("root"), Some(Role::Admin)),
        (json!(["Root"]), None),
        (json!({"root": true}), None),
        (json!([["root"]]), None),
    ] {
        let token = hs256(&with(claims("ann"), &json!({"realm": {"roles": roles}})));
        assert_eq!(why(&issuer, &token).await.unwrap().role, expected, "{roles}");
    }
    let token = hs256(&with(claims("ann"), &json!({"roles": ["root"]})));
    assert_eq!(why(&issuer, &token).await.unwrap().role, None);
}

#[tokio::test]
async fn who_holds_a_bad_token_is_told_what_to_do_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = secret(&folder, "");
    let expired = hs256(&with(claims("ann"), &json!({"iat": now() - 7200, "exp": now() - 3600})));
    let error = issuer.verify(&Token(expired)).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unauthenticated);
    assert_eq!(error.text, "the token has expired: get a new one");
    let unknown = issuer.verify(&Token("letmein".to_owned())).await.unwrap_err();
    assert_eq!(unknown.text, "this token is not known here");
    assert!(!format!("{issuer:?}").contains("0123456789abcdef"), "secrets do not print");
}

#[tokio::test]
async fn a_secret_is_as_long_as_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    for (bytes, algorithm, is_fit) in [
        (31, "HS256", false),
        (32, "HS256", true),
        (32, "HS384", false),
        (63, "HS512", false),
        (64, "HS512", true),
    ] {
        fs::write(folder.path().join("secret"), format!("{}\n", "x".repeat(bytes))).unwrap();
        let issuer = authenticator(
            folder.path(),
            &format!("secret_file = 'DIR/secret'\nalgorithms = ['{algorithm}']"),
        );
        assert_eq!(issuer.without_keys().is_empty(), is_fit, "{bytes} bytes for {algorithm}");
    }
}

#[tokio::test]
async fn one_secret_can_follow_another_while_both_are_good() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("old"), b"old-secret-old-secret-old-secret-old").unwrap();
    let second = "[[auth.issuers]]\nname = 'before'\nissuer = 'https://id.example'\nsecret_file = 'DIR/old'";
    let issuer = secret(&folder, second);
    let old = token(
        &Signer::Secret(b"old-secret-old-secret-old-secret-old".to_vec()),
        Algorithm::Hs256,
        &claims("ann"),
    );
    assert_eq!(why(&issuer, &old).await.map(|verified| verified.issuer), Ok("before".to_owned()));
    assert_eq!(
        why(&issuer, &hs256(&claims("ann"))).await.map(|verified| verified.issuer),
        Ok("id".to_owned())
    );
}

#[tokio::test]
async fn a_file_that_changes_is_read_again_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = secret(&folder, "");
    let next = b"fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
    let token = token(&Signer::Secret(next.to_vec()), Algorithm::Hs256, &claims("ann"));
    assert_eq!(why(&issuer, &token).await.err(), Some(TokenRefusal::Signature));
    let watch = async {
        fs::write(folder.path().join("secret"), b"short").unwrap();
        for _ in 0..3 {
            tokio::time::sleep(crate::limits::KEY_FILE_INTERVAL).await;
            assert!(why(&issuer, &hs256(&claims("ann"))).await.is_ok(), "the last good one holds");
        }
        fs::write(folder.path().join("secret"), next).unwrap();
        while why(&issuer, &token).await.is_err() {
            tokio::time::sleep(crate::limits::KEY_FILE_INTERVAL).await;
        }
        assert_eq!(why(&issuer, &hs256(&claims("ann"))).await.err(), Some(TokenRefusal::Signature));
    };
    tokio::select! {
        () = issuer.keep_keys() => unreachable!("it runs until it is dropped"),
        done = tokio::time::timeout(Duration::from_secs(60), watch) => done.unwrap(),
    }
}

//! Keys that signatures are checked with, each for its own algorithms only.
//!
//! A key knows what it is: an RSA key never checks an HMAC, whatever a token's header says, so that nobody signs with a public key as
//! if it were a secret (RFC 8725, 2.1).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{hmac, signature};
use tokio_rustls::rustls::pki_types::SubjectPublicKeyInfoDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use crate::config::Algorithm;
use crate::limits::RSA_BITS;

/// Bytes of a public exponent: ring takes up to 33 bits.
const EXPONENT_BYTES_MAX: usize = 5;

/// One key, with what is known of it. Never prints its bytes.
#[derive(Clone)]
pub(super) struct Key {
    /// Its name in its set; tokens name it.
    pub(super) kid: Option<String>,
    /// The one algorithm that its set says it is for.
    pub(super) only: Option<Algorithm>,
    material: Material,
}

#[derive(Clone, PartialEq, Eq)]
enum Material {
    Secret(Vec<u8>),
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// An uncompressed point.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// Why something is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoKey {
    #[error(
        "it holds no public key in PEM: `-----BEGIN PUBLIC KEY-----`. `openssl x509 -pubkey -noout` takes it out of a certificate, `openssl pkey -pubout` out of a private key"
    )]
    Pem,
    #[error("its public key is neither RSA, P-256, P-384 nor Ed25519")]
    Kind,
    #[error("an RSA key must have from 2048 to 8192 bits and an odd exponent from 3 on")]
    Rsa,
    #[error("a point of the curve is not uncompressed, or has the wrong length")]
    Point,
    #[error("a secret for {0} must have at least {1} bytes; `head -c {1} /dev/urandom | base64` makes one")]
    Short(&'static str, usize),
}

impl Key {
    /// A secret for algorithms of the family HS: at least as long as the longest of their digests (RFC 7518, 3.2).
    pub(super) fn from_secret(bytes: &[u8], algorithms: &[Algorithm]) -> Result<Self, NoKey> {
        // Editors end a file with a newline, which is no part of the secret.
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        for algorithm in algorithms {
            if let Some(digest) = hmac_of(*algorithm)
                && bytes.len() < digest.digest_algorithm().output_len()
            {
                return Err(NoKey::Short(algorithm.as_str(), digest.digest_algorithm().output_len()));
            }
        }
        Ok(Self { kid: None, only: None, material: Material::Secret(bytes.to_vec()) })
    }

    /// The public key of a file in PEM.
    pub(super) fn from_pem(pem: &[u8]) -> Result<Self, NoKey> {
        let key = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| NoKey::Pem)?;
        Self::from_spki(&key)
    }

    /// RFC 5280, 4.1: SEQUENCE { SEQUENCE { algorithm, parameters }, BIT STRING }.
    fn from_spki(der: &[u8]) -> Result<Self, NoKey> {
        let (spki, rest) = element(der, 0x30).ok_or(NoKey::Kind)?;
        let (algorithm, key) = element(spki, 0x30).ok_or(NoKey::Kind)?;
        let (bits, end) = element(key, 0x03).ok_or(NoKey::Kind)?;
        // The first byte counts the unused bits of the last one: none.
        let Some((0, bits)) = bits.split_first() else { return Err(NoKey::Kind) };
        if !rest.is_empty() || !end.is_empty() {
            return Err(NoKey::Kind);
        }
        match algorithm {
            // rsaEncryption with NULL: RFC 3279, 2.3.1. The key is RFC 8017, A.1.1: SEQUENCE { modulus, exponent }.
            b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00" => {
                let (key, rest) = element(bits, 0x30).ok_or(NoKey::Rsa)?;
                let (modulus, exponent) = element(key, 0x02).ok_or(NoKey::Rsa)?;
                let (exponent, end) = element(exponent, 0x02).ok_or(NoKey::Rsa)?;
                // An INTEGER whose first bit is set has a zero in front.
                let unsigned = |integer: &'_ [u8]| integer.strip_prefix(&[0]).unwrap_or(integer).to_vec();
                if rest.is_empty() && end.is_empty() {
                    Self::rsa(unsigned(modulus), unsigned(exponent))
                } else {
                    Err(NoKey::Rsa)
                }
            }
            // id-ecPublicKey with prime256v1 or secp384r1: RFC 5480, 2.1.
            b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07" => {
                Self::point(bits, 32)
            }
            b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22" => Self::point(bits, 48),
            // id-Ed25519: RFC 8410, 3.
            b"\x06\x03\x2b\x65\x70" => Self::ed25519(bits),
            _ => Err(NoKey::Kind),
        }
    }

    /// An RSA key: modulus and exponent, the most significant byte first, without zeros in front.
    pub(super) fn rsa(modulus: Vec<u8>, exponent: Vec<u8>) -> Result<Self, NoKey> {
        let bits = modulus.len() * 8 - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
        let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
        let is_plain = |number: &[u8]| number.first().is_some_and(|byte| *byte != 0);
        let is_fit = RSA_BITS.contains(&bits)
            && [&modulus, &exponent].into_iter().all(|number| is_odd(number) && is_plain(number))
            && exponent.len() <= EXPONENT_BYTES_MAX
            && exponent != [1];
        if is_fit {
            Ok(Self { kid: None, only: None, material: Material::Rsa { modulus, exponent } })
        } else {
            Err(NoKey::Rsa)
        }
    }

    /// A point of P-256 or P-384, by the bytes of one coordinate.
    pub(super) fn point(point: &[u8], coordinate_bytes: usize) -> Result<Self, NoKey> {
        if point.first() != Some(&4) || point.len() != 1 + 2 * coordinate_bytes {
            return Err(NoKey::Point);
        }
        let material = match coordinate_bytes {
            32 => Material::P256(point.to_vec()),
            48 => Material::P384(point.to_vec()),
            _ => return Err(NoKey::Kind),
        };
        Ok(Self { kid: None, only: None, material })
    }

    /// A point of Ed25519, as RFC 8032 encodes it.
    pub(super) fn ed25519(point: &[u8]) -> Result<Self, NoKey> {
        let is_fit = point.len() == 32;
        let key = || Self { kid: None, only: None, material: Material::Ed25519(point.to_vec()) };
        is_fit.then(key).ok_or(NoKey::Point)
    }

    /// Whether signatures by this algorithm can be this key's.
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{EdDsa, Es256, Es384, Hs256, Hs384, Hs512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        let is_of_kind = match self.material {
            Material::Secret(_) => matches!(algorithm, Hs256 | Hs384 | Hs512),
            Material::Rsa { .. } => matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512),
            Material::P256(_) => matches!(algorithm, Es256),
            Material::P384(_) => matches!(algorithm, Es384),
            Material::Ed25519(_) => matches!(algorithm, EdDsa),
        };
        is_of_kind && self.only.is_none_or(|only| only == algorithm)
    }

    /// Whether the signature is this key's, by an algorithm that fits it.
    pub(super) fn verify(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        if !self.fits(algorithm) {
            return false;
        }
        let by = |verification: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            signature::UnparsedPublicKey::new(verification, key).verify(signed, signature).is_ok()
        };
        match &self.material {
            Material::Secret(secret) => hmac_of(algorithm).is_some_and(|digest| {
                hmac::verify(&hmac::Key::new(digest, secret), signed, signature).is_ok()
            }),
            Material::Rsa { modulus, exponent } => rsa_of(algorithm).is_some_and(|parameters| {
                let key = signature::RsaPublicKeyComponents { n: modulus, e: exponent };
                key.verify(parameters, signed, signature).is_ok()
            }),
            Material::P256(point) => by(&signature::ECDSA_P256_SHA256_FIXED, point),
            Material::P384(point) => by(&signature::ECDSA_P384_SHA384_FIXED, point),
            Material::Ed25519(point) => by(&signature::ED25519, point),
        }
    }

    /// Signs with a secret, to mint a token; `None` for a public key, or an algorithm that is not the secret's.
    pub(super) fn sign(&self, algorithm: Algorithm, signed: &[u8]) -> Option<Vec<u8>> {
        let Material::Secret(secret) = &self.material else { return None };
        Some(hmac::sign(&hmac::Key::new(hmac_of(algorithm)?, secret), signed).as_ref().to_vec())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.material {
            Material::Secret(_) => "secret",
            Material::Rsa { .. } => "RSA",
            Material::P256(_) => "P-256",
            Material::P384(_) => "P-384",
            Material::Ed25519(_) => "Ed25519",
        };
        f.debug_struct("Key").field("kid", &self.kid).field("kind", &kind).finish_non_exhaustive()
    }
}

fn hmac_of(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::Hs256 => Some(hmac::HMAC_SHA256),
        Algorithm::Hs384 => Some(hmac::HMAC_SHA384),
        Algorithm::Hs512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

fn rsa_of(algorithm: Algorithm) -> Option<&'static signature::RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

/// The content of a DER element with this tag at the front, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    // From 128 on, the low bits say how many bytes hold the length; two are enough for every key that is taken.
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), &rest[2..]),
        _ => return None,
    };
    (*found == tag).then(|| rest.split_at_checked(length)).flatten()
}

/// Undoes base64url without padding, as in a JWK.
pub(super) fn from_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

//! Signs what is sent, as the specification of Standard Webhooks has it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::limits::WEBHOOK_SECRETS_MAX;

/// What secrets are written with.
const PREFIX: &str = "whsec_";

/// The secrets of a webhook: the newest first, and while one is being replaced the one before. They never print.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Secrets(Vec<Vec<u8>>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

impl Secrets {
    /// Reads them from a file's text: one a line, `whsec_` and base64. `None` if it holds none, too many, or something else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let secret = |line: &str| STANDARD.decode(line.strip_prefix(PREFIX)?).ok();
        let secrets: Vec<Vec<u8>> = lines.map(secret).collect::<Option<_>>()?;
        let fits = (1..=WEBHOOK_SECRETS_MAX).contains(&secrets.len());
        (fits && secrets.iter().all(|secret| !secret.is_empty())).then_some(Self(secrets))
    }

    /// The header `webhook-signature`: a signature by each secret, so that a receiver that knows either believes it.
    pub(super) fn sign(&self, id: &str, seconds: u64, body: &[u8]) -> String {
        let sign = |secret: &Vec<u8>| {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
            mac.update(format!("{id}.{seconds}.").as_bytes());
            mac.update(body);
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        };
        self.0.iter().map(sign).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn signature_is_that_of_the_specification_s_example() {
        let secrets = Secrets::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signature = secrets.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn both_secrets_sign_while_one_is_replaced() {
        let [old, new] = ["whsec_b2xkIHNlY3JldA==", "whsec_bmV3IHNlY3JldA=="];
        let both = Secrets::parse(&format!("{new}\n\n  {old}  \n")).unwrap();
        let alone = |secret| Secrets::parse(secret).unwrap().sign("id", 1, b"body");
        assert_eq!(both.sign("id", 1, b"body"), format!("{} {}", alone(new), alone(old)));
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let many = "whsec_YQ==\n".repeat(WEBHOOK_SECRETS_MAX + 1);
        for text in ["", "\n", "YQ==", "whsec_", "whsec_%", "whsec_YQ==\nsecret", many.as_str()] {
            assert_eq!(Secrets::parse(text), None, "{text:?}");
        }
        assert!(!format!("{:?}", Secrets::parse("whsec_YWJj").unwrap()).contains("YWJj"));
    }
}

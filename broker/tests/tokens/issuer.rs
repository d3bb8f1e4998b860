//! Somebody who signs tokens, and who publishes keys.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use sha2::Sha256;

const SECRET: &[u8] = b"a secret of the tests, of 32 bytes at the very least";

pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

fn part(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The setting of a node that takes the tokens of [`token`], with its secret in this folder.
pub(crate) fn setting(folder: &Path) -> String {
    let file = folder.join("secret");
    std::fs::write(&file, SECRET).expect("a file");
    let file = file.display();
    format!(
        "auth.issuers=[{{ name = \"app\", issuer = \"app\", secret_file = \"{file}\", leeway = \"0s\" }}]"
    )
}

/// A token of somebody for so many seconds, who may do everything in the own topics and in those of the room.
pub(crate) fn token(subject: &str, seconds: f64) -> String {
    let filters = json!(["own/{sub}/#", "room/#"]);
    let actions = json!(["subscribe", "history", "publish", "presence"]);
    signed(subject, seconds, &json!([{ "topics": filters, "do": actions }]))
}

pub(crate) fn signed(subject: &str, seconds: f64, can: &Value) -> String {
    let claims = json!({
        "iss": "app", "sub": subject, "iat": now(), "exp": now() + seconds, "bongsu": { "can": can },
    });
    let signed = format!("{}.{}", part(r#"{"alg":"HS256","typ":"JWT"}"#), part(claims.to_string()));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).expect("any length");
    mac.update(signed.as_bytes());
    format!("{signed}.{}", part(mac.finalize().into_bytes()))
}

/// A key with a name.
pub(crate) struct Key {
    kid: String,
    pair: Ed25519KeyPair,
}

impl Key {
    pub(crate) fn new(kid: &str) -> Self {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("random bytes");
        let pair = Ed25519KeyPair::from_pkcs8(der.as_ref()).expect("a key");
        Self { kid: kid.to_owned(), pair }
    }

    pub(crate) fn jwk(&self) -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": self.kid, "use": "sig", "x": part(self.pair.public_key()) })
    }

    pub(crate) fn sign(&self, subject: &str) -> String {
        self.sign_as(&self.kid, subject)
    }

    pub(crate) fn sign_as(&self, kid: &str, subject: &str) -> String {
        self.sign_all(kid, subject, &json!({}))
    }

    pub(crate) fn sign_with(&self, subject: &str, more: &Value) -> String {
        self.sign_all(&self.kid, subject, more)
    }

    fn sign_all(&self, kid: &str, subject: &str, more: &Value) -> String {
        let header = json!({ "alg": "EdDSA", "kid": kid });
        let mut claims = json!({ "iss": "https://id", "sub": subject, "iat": now(), "exp": now() + 600.0 });
        for (name, value) in more.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        let signed = format!("{}.{}", part(header.to_string()), part(claims.to_string()));
        let signature = self.pair.sign(signed.as_bytes());
        format!("{signed}.{}", part(signature))
    }
}

/// A server of a set of keys, as good or bad as it is told to be.
pub(crate) struct KeyServer {
    pub(crate) address: SocketAddr,
    answer: Arc<Mutex<String>>,
    n_asked: Arc<AtomicUsize>,
}

impl KeyServer {
    pub(crate) fn start(keys: &[&Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let answer = Arc::new(Mutex::new(String::new()));
        let n_asked = Arc::new(AtomicUsize::new(0));
        let server = Self { address, answer: Arc::clone(&answer), n_asked: Arc::clone(&n_asked) };
        server.publish(keys);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                n_asked.fetch_add(1, Ordering::SeqCst);
                let answer = answer.lock().expect("nobody panics").clone();
                let _ = serve(&stream, &answer);
            }
        });
        server
    }

    pub(crate) fn publish(&self, keys: &[&Key]) {
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        self.say("200 OK", &json!({ "keys": keys }).to_string());
    }

    pub(crate) fn say(&self, status: &str, body: &str) {
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nlocation: /elsewhere\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        *self.answer.lock().expect("nobody panics") = answer;
    }

    pub(crate) fn n_asked(&self) -> usize {
        self.n_asked.load(Ordering::SeqCst)
    }
}

fn serve(stream: &TcpStream, answer: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    (&*stream).write_all(answer.as_bytes())
}

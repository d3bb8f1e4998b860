//! A node with tokens, and what a test does to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;

use bongsu::access::{Note, Target};
use bongsu::config::{Settings, SettingsArgs, load_with};
use bongsu::listener::StompListener;
use bongsu::node::Node;
use bongsu_persistence::memory::MemoryStore;
use bongsu_persistence::store::Store;
use bongsu_protocol::message::Time;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::nodes::{self, TestNode};
use crate::support::http::{Answer, ask};

/// A token that may do everything, which nobody takes back.
pub(crate) const ROOT: &str = "root";

/// A token of the settings: its text is its name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Token {
    pub(crate) name: String,
    pub(crate) subscribe: Vec<String>,
    pub(crate) history: Vec<String>,
    pub(crate) publish: Vec<String>,
    pub(crate) presence: Vec<String>,
}

impl Token {
    /// One that may do everything under these filters.
    pub(crate) fn all(name: &str, filters: &[&str]) -> Self {
        let filters: Vec<String> = filters.iter().map(|filter| (*filter).to_owned()).collect();
        Self {
            name: name.to_owned(),
            subscribe: filters.clone(),
            history: filters.clone(),
            publish: filters.clone(),
            presence: filters,
        }
    }

    fn toml(&self) -> String {
        let Self { name, subscribe, history, publish, presence } = self;
        let digest: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "{{ name = \"{name}\", sha256 = \"{digest}\", subscribe = {subscribe:?}, history = {history:?}, \
             publish = {publish:?}, presence = {presence:?} }}"
        )
    }
}

pub(crate) struct World {
    pub(crate) node: TestNode,
    pub(crate) address: SocketAddr,
    pub(crate) stomp: SocketAddr,
}

impl World {
    pub(crate) fn start(tokens: &[Token]) -> Self {
        Self::start_on(tokens, Arc::new(MemoryStore::default()))
    }

    pub(crate) fn start_on(tokens: &[Token], store: Arc<dyn Store>) -> Self {
        let settings = settings(tokens);
        let (told, stomp) = mpsc::channel();
        let node = TestNode::launch(move || {
            let node = Node::start(settings, store, None);
            let listener = StompListener::bind(&node).unwrap().remove(0);
            told.send(listener.url().unwrap()).unwrap();
            tokio::spawn(listener.serve(Arc::clone(&node)));
            node
        });
        let stomp = stomp.recv().unwrap();
        let stomp = stomp.strip_prefix("stomp://").unwrap().parse().unwrap();
        Self { address: node.address, node, stomp }
    }

    /// Keeps somebody out; when this returns, the node says that it does.
    pub(crate) async fn bar(&self, target: &Target, reason: &str) {
        let note = Note { at: now().0, by: "operator".to_owned(), reason: reason.to_owned(), until: None };
        self.node.node.control().bar(target, &note, None).await.unwrap();
    }

    pub(crate) async fn revoke(&self, token: &str) {
        self.bar(&Target::Token(token.to_owned()), "lost phone").await;
    }

    pub(crate) async fn block(&self, subject: &str) {
        self.bar(&Target::Block(subject.to_owned()), "spam").await;
    }

    /// A request with a token.
    pub(crate) fn ask(
        &self,
        token: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let bearer = format!("Bearer {token}");
        let mut all = vec![("authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        ask(self.address, method, path, &all, body)
    }

    /// Publishes, so that whoever reads the topic has been offered it when this returns.
    pub(crate) fn publish(&self, topic: &str, data: &Value) {
        let body = json!({ "topic": topic, "data": data }).to_string();
        let answer = self.ask(ROOT, "POST", "/v1/publish", &[], &body);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

pub(crate) fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Time(u64::try_from(since.as_millis()).unwrap())
}

pub(crate) fn settings(tokens: &[Token]) -> Settings {
    use clap::Parser as _;
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        settings: SettingsArgs,
    }
    let parsed = Cli::parse_from(["bongsu", "--set", &flags(tokens)]);
    let mut settings = nodes::settings("n");
    settings.auth = load_with(&parsed.settings, []).unwrap().settings.auth;
    settings.stomp.listen = Some("127.0.0.1:0".parse().unwrap());
    settings
}

/// The setting of these tokens and the one of [`ROOT`].
pub(crate) fn flags(tokens: &[Token]) -> String {
    let root = Token::all(ROOT, &["#", "$sys/#"]);
    let tokens: Vec<_> = [&root].into_iter().chain(tokens).map(Token::toml).collect();
    format!("auth.tokens=[{}]", tokens.join(", "))
}

//! What stands in pages: addresses of scripts.

use ::config::Value;

use super::schema::{Form, Leaf};
use super::value::text;

/// Bytes of an address: more than any real one has.
const BYTES_MAX: usize = 1024;

/// Where a page finds a script: an address, or a path on the host that the page came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptUrl(String);

impl ScriptUrl {
    /// The address, as it stands in a page.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Leaf for ScriptUrl {
    const FORM: Form = Form::Text;
    fn take(value: &Value) -> Option<Self> {
        let text = text(value)?;
        let is_address = ["/", "http://", "https://"].iter().any(|begin| text.starts_with(begin));
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>');
        (is_address && text.len() <= BYTES_MAX && text.bytes().all(is_plain)).then(|| Self(text.to_owned()))
    }
    fn kind() -> String {
        "address".to_owned()
    }
    fn allowed() -> String {
        "an address such as \"https://cdn.example/sockjs.min.js\", or a path such as \"/sockjs.min.js\""
            .to_owned()
    }
    fn show(&self) -> String {
        toml::Value::from(self.0.as_str()).to_string()
    }
}

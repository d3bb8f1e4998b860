//! What a token says: its claims, read strictly.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use bongsu_protocol::limits::NAME_BYTES_MAX;
use bongsu_protocol::message::Time;
use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::refused::Refused;
use crate::limits::{TOKEN_AUDIENCES_MAX, TOKEN_CLAIMS_MAX, TOKEN_ID_BYTES_MAX};
use crate::metrics::TokenRefusal;

/// Seconds from 1970 to the end of the year 9999: a later time is a mistake, such as milliseconds in the place of seconds.
const SECONDS_MAX: f64 = 253_402_300_799.0;

/// The claims of one token, by name. A name that comes twice is refused: who signed it and who reads it could take different ones.
#[derive(Debug)]
pub(super) struct Claims(BTreeMap<String, Box<RawValue>>);

impl Claims {
    /// Reads the payload of a token.
    ///
    /// # Errors
    /// It is no JSON object, or has more claims than [`TOKEN_CLAIMS_MAX`], or one of them twice.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Refused> {
        serde_json::from_slice(payload).map_err(|_| {
            Refused::malformed(
                "the token's payload is no JSON object, has more than 64 claims or one of them twice",
            )
        })
    }

    /// A claim that is a text, where it is there.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Refused> {
        self.read(name, "must be a text")
    }

    /// A time in seconds since 1970, where it is there (RFC 7519, 2: a number, with a fraction perhaps).
    pub(super) fn time(&self, name: &str) -> Result<Option<Time>, Refused> {
        let seconds: Option<f64> = self.read(name, "must be a number of seconds since 1970")?;
        let Some(seconds) = seconds else { return Ok(None) };
        if !(0.0..=SECONDS_MAX).contains(&seconds) {
            let text = format!("the token's claim `{name}` is no time: it takes seconds since 1970");
            return Err(Refused::new(TokenRefusal::Claims, text));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "judged above")]
        Ok(Some(Time((seconds * 1000.0) as u64)))
    }

    /// For whom the token is: one text, or a list of texts.
    pub(super) fn audiences(&self) -> Result<Vec<String>, Refused> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Audience {
            One(String),
            Many(Vec<String>),
        }
        let rule = "must be a text or a list of at most 32 texts";
        match self.read("aud", rule)? {
            None => Ok(Vec::new()),
            Some(Audience::One(audience)) => Ok(vec![audience]),
            Some(Audience::Many(audiences)) if audiences.len() <= TOKEN_AUDIENCES_MAX => Ok(audiences),
            Some(Audience::Many(_)) => Err(unfit("aud", rule)),
        }
    }

    /// The token's own name (`jti`), where it has one.
    pub(super) fn id(&self) -> Result<Option<String>, Refused> {
        let id = self.text("jti")?;
        match &id {
            Some(text) if text.is_empty() || text.len() > TOKEN_ID_BYTES_MAX => {
                Err(unfit("jti", "must have 1 to 128 bytes"))
            }
            _ => Ok(id),
        }
    }

    /// Whose token it is.
    pub(super) fn subject(&self, name: &str) -> Result<String, Refused> {
        let subject = self.text(name)?.unwrap_or_default();
        if subject.is_empty() || subject.len() > NAME_BYTES_MAX || subject.chars().any(char::is_control) {
            let text = format!(
                "the token needs a subject in its claim `{name}`, of 1 to 255 bytes without control characters"
            );
            return Err(Refused::new(TokenRefusal::Subject, text));
        }
        Ok(subject)
    }

    /// A claim as it stands, where it is there.
    pub(super) fn raw(&self, name: &str) -> Option<&RawValue> {
        self.0.get(name).map(AsRef::as_ref)
    }

    /// The texts at a place: of the claim of that name, or where it begins with `/`, at that JSON pointer (RFC 6901). A lone text counts as
    /// a list of one; anything else holds none.
    pub(super) fn texts(&self, place: &str) -> Vec<String> {
        let (name, pointer) = match place.strip_prefix('/') {
            None => (place.to_owned(), ""),
            Some(path) => {
                let (name, _) = path.split_once('/').unwrap_or((path, ""));
                // RFC 6901, 4: `~1` first, so that `~01` stays `~1`.
                (name.replace("~1", "/").replace("~0", "~"), &path[name.len()..])
            }
        };
        let value: Option<Value> = self.0.get(&name).and_then(|raw| serde_json::from_str(raw.get()).ok());
        match value.as_ref().and_then(|value| value.pointer(pointer)) {
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }

    fn read<'de, T: Deserialize<'de>>(&'de self, name: &str, rule: &str) -> Result<Option<T>, Refused> {
        let Some(raw) = self.0.get(name) else { return Ok(None) };
        serde_json::from_str(raw.get()).map(Some).map_err(|_| unfit(name, rule))
    }
}

fn unfit(name: &str, rule: &str) -> Refused {
    Refused::new(TokenRefusal::Claims, format!("the token's claim `{name}` {rule}"))
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Claims;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object whose names differ")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
                let mut claims = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if claims.len() == TOKEN_CLAIMS_MAX {
                        return Err(A::Error::custom("too many"));
                    }
                    match claims.entry(name) {
                        Entry::Vacant(entry) => entry.insert(value),
                        Entry::Occupied(_) => return Err(A::Error::custom("twice")),
                    };
                }
                Ok(Claims(claims))
            }
        }
        deserializer.deserialize_map(Names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(json: &str) -> Claims {
        Claims::parse(json.as_bytes()).expect("claims")
    }

    #[test]
    fn a_name_that_comes_twice_is_refused_however_it_is_spelt() {
        for json in [
            r#"{"sub":"ann","sub":"bob"}"#,
            r#"{"sub":"ann","\u0073ub":"bob"}"#,
            r#"{"exp":1,"exp":1}"#,
            r#"{"x":1,"x":1}"#,
            "[]",
            "7",
            "",
            r#"{"a":1}x"#,
        ] {
            assert!(Claims::parse(json.as_bytes()).is_err(), "{json}");
        }
        let many: Vec<String> = (0..=TOKEN_CLAIMS_MAX).map(|idx| format!(r#""c{idx}":1"#)).collect();
        assert!(Claims::parse(format!("{{{}}}", many.join(",")).as_bytes()).is_err());
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(3000), "]".repeat(3000));
        assert!(claims(&deep).texts("a").is_empty(), "deep JSON costs no stack");
        assert!(claims(&deep).texts("/a/0/0").is_empty());
    }

    #[test]
    fn times_are_numbers_of_seconds() {
        for (json, expected) in [
            ("1700000000", Some(1_700_000_000_000)),
            ("1700000000.25", Some(1_700_000_000_250)),
            ("1.7e9", Some(1_700_000_000_000)),
            ("0", Some(0)),
            ("253402300799", Some(253_402_300_799_000)),
            ("1700000000000", None),
            ("-1", None),
            ("-0.5", None),
            ("1e300", None),
            ("1e999", None),
            ("18446744073709551616", None),
            ("\"1700000000\"", None),
            ("\"never\"", None),
            ("true", None),
            ("null", None),
            ("[1700000000]", None),
            ("{}", None),
            ("NaN", None),
        ] {
            let time = Claims::parse(format!(r#"{{"exp":{json}}}"#).as_bytes())
                .and_then(|claims| claims.time("exp"));
            assert_eq!(time.ok().flatten(), expected.map(Time), "{json}");
        }
        assert_eq!(claims("{}").time("exp"), Ok(None));
    }

    #[test]
    fn subjects_and_ids_are_texts_of_some_length() {
        for (json, expected) in [
            (r#""ann""#.to_owned(), true),
            (r#""a/b""#.to_owned(), true),
            (r#""""#.to_owned(), false),
            ("null".to_owned(), false),
            ("7".to_owned(), false),
            (r#"["ann"]"#.to_owned(), false),
            (r#""a\u0000""#.to_owned(), false),
            (format!(r#""{}""#, "a".repeat(256)), false),
        ] {
            assert_eq!(claims(&format!(r#"{{"sub":{json}}}"#)).subject("sub").is_ok(), expected, "{json}");
        }
        assert!(claims("{}").subject("sub").is_err());
        assert!(claims(&format!(r#"{{"jti":"{}"}}"#, "a".repeat(129))).id().is_err());
        assert_eq!(claims("{}").id(), Ok(None));
    }

    #[test]
    fn texts_are_found_by_name_and_by_pointer() {
        let claims = claims(
            r#"{"roles":["a","b",7],"role":"c","realm":{"roles":["d"]},"https://x.example/r":["e"],"a~b":{"c/d":"f"}}"#,
        );
        assert_eq!(claims.texts("roles"), ["a", "b"]);
        assert_eq!(claims.texts("role"), ["c"]);
        assert_eq!(claims.texts("/realm/roles"), ["d"]);
        assert_eq!(claims.texts("https://x.example/r"), ["e"]);
        assert_eq!(claims.texts("/a~0b/c~1d"), ["f"]);
        assert!(
            claims.texts("realm").is_empty()
                && claims.texts("/none/roles").is_empty()
                && claims.texts("/").is_empty()
        );
    }

    #[test]
    fn audiences_are_one_text_or_a_list() {
        assert_eq!(claims(r#"{"aud":"a"}"#).audiences().as_deref(), Ok(&["a".to_owned()][..]));
        assert_eq!(claims(r#"{"aud":["a","b"]}"#).audiences().map(|all| all.len()), Ok(2));
        assert_eq!(claims("{}").audiences(), Ok(Vec::new()));
        let many = vec!["\"a\""; TOKEN_AUDIENCES_MAX + 1].join(",");
        for json in ["7", "{}", "[7]", "null", &format!("[{many}]")] {
            assert!(claims(&format!(r#"{{"aud":{json}}}"#)).audiences().is_err(), "{json}");
        }
    }
}

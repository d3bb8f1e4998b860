//! The binary format, by hand from `bongsu.v1.proto` and the encoding that protobuf documents: as much of it as the checker says and hears.

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::event::{
    Delivery, Event, Lost, Position, Published, Receipt, Refusal, Reply, Reset, Results, Subscribed,
    SubscribedResult, TopicPosition, Welcome,
};

/// A `ClientFrame` of one request, whose body is what it would be in JSON.
pub(super) fn request(id: u64, command: &str, body: &Value) -> anyhow::Result<Vec<u8>> {
    let list = |name: &str| body[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let (number, command) = match command {
        "subscribe" => {
            (3, list("subscriptions").iter().flat_map(|it| nested(1, &subscription(it))).collect())
        }
        "publish" => (5, list("messages").iter().flat_map(|it| nested(1, &message(it))).collect::<Vec<u8>>()),
        other => bail!("{other} is nothing that is said in binary here"),
    };
    Ok(nested(1, &[varint_field(1, id), nested(number, &command)].concat()))
}

fn subscription(body: &Value) -> Vec<u8> {
    let seen = body["seen"].as_array().map(Vec::as_slice).unwrap_or_default();
    let seen = seen
        .iter()
        .map(|it| nested(3, &[text_field(1, &it["topic"]), nested(2, &position(&it["position"]))].concat()));
    let from = &body["from"];
    let start = match (from.as_str(), from.get("after"), from.get("time")) {
        (Some("earliest"), ..) => nested(2, &[]),
        (None, Some(after), _) => nested(4, &position(after)),
        (None, None, Some(time)) => varint_field(5, time.as_u64().unwrap_or_default()),
        _ => nested(1, &[]),
    };
    [text_field(1, &body["filter"]), nested(2, &start), seen.collect::<Vec<_>>().concat()].concat()
}

fn message(body: &Value) -> Vec<u8> {
    let payload = nested(2, body["data"].to_string().as_bytes());
    [text_field(1, &body["topic"]), payload, nested(3, b"application/json"), text_field(5, &body["id"])]
        .concat()
}

fn position(body: &Value) -> Vec<u8> {
    let number = |name: &str| body[name].as_u64().unwrap_or_default();
    [varint_field(1, number("epoch")), varint_field(2, number("offset"))].concat()
}

fn text_field(number: u64, text: &Value) -> Vec<u8> {
    nested(number, text.as_str().unwrap_or_default().as_bytes())
}

fn nested(number: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn varint_field(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        // Seven bits at a time, the lowest first; the eighth says that more follow.
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// The events of a `ServerFrame`.
pub(super) fn events(frame: &[u8]) -> anyhow::Result<Vec<Event>> {
    fields(frame)?.all(1).map(event).collect::<anyhow::Result<_>>().context("not a frame of events")
}

fn event(bytes: &[u8]) -> anyhow::Result<Event> {
    let fields = fields(bytes)?;
    let mut event = Event::default();
    let Some((number, body)) = fields.0.first().and_then(|(number, field)| Some((*number, field.bytes()?)))
    else {
        return Ok(event);
    };
    let body = self::fields(body)?;
    match number {
        1 => event.welcome = Some(Welcome { node: body.text(2), heartbeat_ms: body.number(5) }),
        2 => event.reply = Some(reply(&body)?),
        3 => event.delivery = Some(delivery(&body)?),
        4 => {
            let (topic, epoch) = (body.text(1), body.number(2));
            event.lost = Some(Lost { topic, epoch, from: body.number(3), until: body.number(4) });
        }
        5 => event.reset = Some(Reset { topic: body.text(1), epoch: body.number(2) }),
        6 => event.unsubscribed = Some(body.text(1).into()),
        8 => event.goodbye = Some(format!("{}: {}", body.text(1), body.text(2)).into()),
        _ => {}
    }
    Ok(event)
}

fn delivery(body: &Fields<'_>) -> anyhow::Result<Delivery> {
    let Position { epoch, offset } = body.position(2)?;
    let data = serde_json::from_slice(body.bytes(5)).unwrap_or_default();
    Ok(Delivery { topic: body.text(1), epoch, offset, id: body.text(8), data })
}

fn reply(body: &Fields<'_>) -> anyhow::Result<Reply> {
    let subscribed = body.message(4).map(|results| {
        let results: anyhow::Result<_> = results?.all(1).map(|result| subscribed(&fields(result)?)).collect();
        anyhow::Ok(Results { results: results? })
    });
    let published = body.message(6).map(|results| {
        let results: anyhow::Result<_> = results?.all(1).map(|result| published(&fields(result)?)).collect();
        anyhow::Ok(Results { results: results? })
    });
    Ok(Reply {
        id: body.number(1),
        error: refusal(body, 2)?,
        subscribed: subscribed.transpose()?,
        published: published.transpose()?,
        history: None,
    })
}

fn subscribed(body: &Fields<'_>) -> anyhow::Result<SubscribedResult> {
    let subscribed = body.message(1).map(|subscribed| {
        let subscribed = subscribed?;
        let positions = subscribed.all(3).map(|known| {
            let known = fields(known)?;
            Ok(TopicPosition { topic: known.text(1), position: known.position(2)? })
        });
        let positions = positions.collect::<anyhow::Result<_>>()?;
        anyhow::Ok(Subscribed { filter: subscribed.text(1), since: subscribed.number(2), positions })
    });
    Ok(SubscribedResult { subscribed: subscribed.transpose()?, error: refusal(body, 2)? })
}

fn published(body: &Fields<'_>) -> anyhow::Result<Published> {
    let receipt = body.message(1).map(|receipt| anyhow::Ok(Receipt { position: receipt?.position(1)? }));
    Ok(Published { published: receipt.transpose()?, error: refusal(body, 2)? })
}

fn refusal(body: &Fields<'_>, number: u64) -> anyhow::Result<Option<Refusal>> {
    let Some(error) = body.message(number).transpose()? else { return Ok(None) };
    let retry_after_ms = Some(error.number(3)).filter(|wait| *wait > 0);
    Ok(Some(Refusal { code: error.text(1), text: error.text(2), retry_after_ms }))
}

/// The fields of a message, in order.
struct Fields<'a>(Vec<(u64, Field<'a>)>);

#[derive(Clone, Copy)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    const fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Number(_) => None,
        }
    }
}

impl<'a> Fields<'a> {
    /// Every value of a repeated field.
    fn all(&self, number: u64) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |(known, _)| *known == number).filter_map(|(_, field)| field.bytes())
    }

    /// The last value counts, as protobuf says.
    fn bytes(&self, number: u64) -> &'a [u8] {
        self.all(number).last().unwrap_or_default()
    }

    fn text(&self, number: u64) -> String {
        String::from_utf8_lossy(self.bytes(number)).into_owned()
    }

    fn number(&self, number: u64) -> u64 {
        let mut values =
            self.0.iter().filter(|(known, _)| *known == number).filter_map(|(_, field)| match field {
                Field::Number(value) => Some(*value),
                Field::Bytes(_) => None,
            });
        values.next_back().unwrap_or_default()
    }

    fn message(&self, number: u64) -> Option<anyhow::Result<Self>> {
        self.all(number).last().map(fields)
    }

    fn position(&self, number: u64) -> anyhow::Result<Position> {
        let position = self.message(number).context("a position is missing")??;
        Ok(Position { epoch: position.number(1), offset: position.number(2) })
    }
}

fn fields(mut bytes: &[u8]) -> anyhow::Result<Fields<'_>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = take_varint(&mut bytes)?;
        let field = match key & 7 {
            0 => Field::Number(take_varint(&mut bytes)?),
            2 => {
                let n_bytes = usize::try_from(take_varint(&mut bytes)?)?;
                let (value, rest) = bytes.split_at_checked(n_bytes).context("a field is cut off")?;
                bytes = rest;
                Field::Bytes(value)
            }
            other => bail!("the schema has no wire type {other}"),
        };
        found.push((key >> 3, field));
    }
    Ok(Fields(found))
}

fn take_varint(bytes: &mut &[u8]) -> anyhow::Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().context("a number is cut off")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a number has more than ten bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse;

    /// The examples that every client's author gets, in both formats: `protocol/vectors`.
    fn vectors(name: &str) -> Vec<(Value, Vec<u8>)> {
        let path = format!("{}/../protocol/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let vectors: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let bytes = |hex: &str| {
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
        };
        let vector = |vector: Value| (vector["json"].clone(), bytes(vector["binaryHex"].as_str().unwrap()));
        vectors.into_iter().map(vector).collect()
    }

    #[test]
    fn both_formats_say_the_same() {
        // What only people read, and what is read in JSON only.
        let comparable = |mut events: Vec<Event>| {
            for event in &mut events {
                event.unsubscribed.take();
                event.goodbye.take();
                if let Some(reply) = &mut event.reply {
                    reply.history.take();
                }
            }
            format!("{events:?}")
        };
        let mut n_compared = 0;
        for (json, bytes) in vectors("events") {
            // Deliveries of live topics have no positions, and are not read here; texts are not published.
            let Ok(expected) = parse(&json.to_string()) else { continue };
            if json["delivery"].get("text").is_none() && json["delivery"].get("bytes").is_none() {
                assert_eq!(comparable(events(&bytes).unwrap()), comparable(expected), "{json}");
                n_compared += 1;
            }
        }
        assert!(n_compared > 20, "{n_compared}");
    }

    #[test]
    fn requests_are_those_of_the_examples() {
        let mut n_compared = 0;
        for (json, bytes) in vectors("requests") {
            let subscriptions = json["subscribe"]["subscriptions"].as_array();
            let known = |it: &Value| {
                it["from"] == "earliest"
                    || ["after", "time"].iter().any(|name| it["from"].get(name).is_some())
            };
            if subscriptions.is_some_and(|all| all.iter().all(known)) {
                let id = json["id"].as_u64().unwrap();
                assert_eq!(request(id, "subscribe", &json["subscribe"]).unwrap(), bytes, "{json}");
                n_compared += 1;
            }
        }
        assert!(n_compared > 2, "{n_compared}");
    }
}

//! Following what happens on connections of all nodes.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bongsu_admin_api::Error;
use bongsu_admin_api::resources::trace::{Trace, TraceEvent, TraceQuery, What};
use bongsu_protocol::topic::Topic;
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use http_body_util::BodyExt as _;

use super::Admin;
use super::connections::known_topic;
use crate::clock;
use crate::limits::{TRACE_LINE_BYTES_MAX, TURNED_AWAY_TIME};
use crate::peers::Body;
use crate::trace::{self, Followed, Frame, Happened, Step, Wanted};

impl Trace for Admin {
    fn trace(&self, query: TraceQuery) -> BoxFuture<'_, Result<BoxStream<'static, TraceEvent>, Error>> {
        async move {
            query.topic.clone().map(known_topic).transpose()?;
            let own = self.own_trace(&query).ok_or_else(|| Error::TooMany {
                detail: "as much is being followed already as may be at the same time".to_owned(),
                retry_after: TURNED_AWAY_TIME,
            })?;
            let query = serde_urlencoded::to_string(&query)
                .map_err(|_| Error::invalid("session", "it cannot be asked of other nodes"))?;
            let path = format!("/$node/trace?{query}");
            let others = self.others().into_iter().map(|other| {
                let (admin, path) = (self.clone(), path.clone());
                async move {
                    let name = other.name.clone();
                    let lines = admin.ask_on(&other, &path).await.map(lines);
                    let lines = lines.unwrap_or_else(|| stream::empty().boxed());
                    let end = stream::once(std::future::ready(about(What::Missing, &name, None)));
                    lines.chain(end)
                }
                .into_stream()
                .flatten()
                .boxed()
            });
            Ok(stream::select_all(std::iter::once(own).chain(others)).boxed())
        }
        .boxed()
    }
}

impl Admin {
    /// What happens on this node; `None` if too many follow already, or what is wanted makes no sense.
    fn own_trace(&self, query: &TraceQuery) -> Option<BoxStream<'static, TraceEvent>> {
        let sessions = self.node.sessions();
        let wanted = Wanted {
            session: query.session.clone(),
            subject: query.subject.clone(),
            topic: query.topic.as_deref().map(Topic::parse).transpose().ok()?,
            payloads: query.payloads.unwrap_or_default(),
        };
        let number = query.session.as_deref().and_then(|session| sessions.number_of(session));
        let followed = sessions.tracer().follow(wanted, number)?;
        let admin = self.clone();
        let follows = about(What::Follows, self.node.name(), None);
        let steps = stream::unfold((followed, admin), |(mut followed, admin): (Followed, Self)| async move {
            let event = match followed.next().await {
                Step::Happened(happened) => admin.event(happened),
                Step::Dropped(count) => about(What::Dropped, admin.node.name(), Some(count)),
            };
            Some((event, (followed, admin)))
        });
        Some(stream::once(std::future::ready(follows)).chain(steps).boxed())
    }

    /// The same as another node wants it.
    pub(super) fn own_trace_lines(&self, query: &TraceQuery) -> Option<BoxStream<'static, Bytes>> {
        let line = |event: TraceEvent| {
            let mut line = serde_json::to_vec(&event).unwrap_or_default();
            line.push(b'\n');
            Bytes::from(line)
        };
        Some(self.own_trace(query)?.map(line).boxed())
    }

    fn event(&self, happened: Happened) -> TraceEvent {
        let Happened { time, connection, subject, what } = happened;
        let sessions = self.node.sessions();
        let mut event = TraceEvent {
            time: time.into(),
            session: format!("{}{connection:x}", sessions.prefix()),
            subject,
            ..about(What::Opened, self.node.name(), None)
        };
        match what {
            trace::What::Opened => {}
            trace::What::Closed(reason) => {
                event.what = What::Closed;
                event.code = Some(reason.as_str().to_owned());
            }
            trace::What::In(frame) => put(&mut event, What::In, frame),
            trace::What::Out(frame) => put(&mut event, What::Out, frame),
            trace::What::Authorized(frame) => put(&mut event, What::Authorized, frame),
            trace::What::Refused(frame, error) => {
                put(&mut event, What::Refused, frame);
                event.code = Some(error.code.as_str().to_owned());
                event.text = Some(error.text);
            }
            trace::What::Lost(frame, count) => {
                put(&mut event, What::Lost, frame);
                event.count = Some(count);
            }
        }
        event
    }
}

fn put(event: &mut TraceEvent, what: What, frame: Frame) {
    let Frame { kind, bytes, topics, payload } = frame;
    event.what = what;
    event.frame = Some(kind);
    event.bytes = Some(bytes);
    event.topics = topics;
    event.payload = payload.map(|payload| BASE64_STANDARD.encode(payload));
}

/// An event about the trace itself.
fn about(what: What, node: &str, count: Option<u64>) -> TraceEvent {
    TraceEvent {
        time: clock::wall().into(),
        node: node.to_owned(),
        session: String::new(),
        subject: String::new(),
        what,
        frame: None,
        bytes: None,
        topics: Vec::new(),
        code: None,
        text: None,
        count,
        payload: None,
    }
}

/// The events of another node, until it ends or says something that this version does not understand.
fn lines(body: Body) -> BoxStream<'static, TraceEvent> {
    stream::unfold((body, BytesMut::new()), |(mut body, mut ahead)| async move {
        loop {
            if let Some(end) = ahead.iter().position(|byte| *byte == b'\n') {
                let line = ahead.split_to(end + 1);
                let event = serde_json::from_slice(&line).ok()?;
                return Some((event, (body, ahead)));
            }
            if ahead.len() > TRACE_LINE_BYTES_MAX {
                return None;
            }
            let frame = body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                ahead.extend_from_slice(&data);
            }
        }
    })
    .boxed()
}

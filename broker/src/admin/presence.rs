//! Who is present on a topic: asked as a client would ask.

use std::sync::Arc;

use bongsu_admin_api::Error;
use bongsu_admin_api::resources::presence::{Member, Members, Presence};
use bongsu_protocol::codec::Format;
use bongsu_protocol::command::RequestId;
use bongsu_protocol::event::{Event, Reply};
use bongsu_protocol::reason::ErrorCode;
use bongsu_protocol::session::{Grants, Outgoing};
use bongsu_protocol::topic::Topic;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::Admin;
use crate::carrier::Carrier;
use crate::dialog::{Dialog, Language};
use crate::limits::MEMBERS_DEADLINE;
use crate::outbound::Outbound;
use crate::presence::Command;

impl Presence for Admin {
    fn members(&self, topic: String) -> BoxFuture<'_, Result<Members, Error>> {
        async move {
            let asked = Topic::parse(&topic).map_err(|error| Error::invalid("topic", error.to_string()))?;
            if !self.node.policies().for_topic(&asked).presence {
                return Err(Error::NotFound(format!("{topic} shows no presence")));
            }
            match tokio::time::timeout(MEMBERS_DEADLINE, self.ask_members(asked)).await {
                Ok(answer) => answer.map(|(members, total)| Members { topic, members, total }),
                Err(_) => Err(Error::Unavailable("who is present is not known now".to_owned())),
            }
        }
        .boxed()
    }
}

impl Admin {
    /// Asks in the name of a session that nobody has.
    async fn ask_members(&self, topic: Topic) -> Result<(Vec<Member>, u64), Error> {
        let language = Language::Native(Format::Json);
        let dialog = Dialog::new(language, self.node.bounds(), String::new(), Arc::new(Grants::default()));
        let outbound = Outbound::new(self.node.next_connection(), dialog, Carrier::Bytes, None);
        let command = Command::Members { outbound: Arc::clone(&outbound), id: RequestId(1), topic };
        self.node.presence().send(command).await;
        loop {
            let outgoing = outbound.lock().session_mut().poll_outgoing();
            let reply = match outgoing {
                None => {
                    outbound.called().await;
                    continue;
                }
                Some(Outgoing::Event(event)) => match *event {
                    Event::Reply { result, .. } => result,
                    _ => continue,
                },
                Some(Outgoing::Delivery(_)) => continue,
            };
            return match reply {
                Ok(Reply::Members { members, total }) => {
                    let member = |member: bongsu_protocol::event::Member| Member {
                        session: member.session,
                        subject: member.subject,
                        since: member.since.into(),
                        info_bytes: member.info.len() as u64,
                    };
                    Ok((members.into_iter().map(member).collect(), total))
                }
                Ok(_) => Err(Error::Internal("presence answered something else".to_owned())),
                Err(error) if error.code == ErrorCode::NotFound => Err(Error::NotFound(error.text)),
                Err(error) => Err(Error::Unavailable(error.text)),
            };
        }
    }
}

//! What a connection waits for besides its socket.

use std::sync::Arc;

use bongsu_persistence::store::TopicsQuery;
use bongsu_protocol::command::{HistoryQuery, RequestId, Token};
use bongsu_protocol::event::Reply;
use bongsu_protocol::reason::Error;
use bongsu_protocol::session::{LIST_LOGS_MAX, Listed, LogPage};
use bongsu_protocol::topic::{Topic, TopicFilter};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::auth::Identity;
use crate::delivery::SharedDelivery;
use crate::node::Node;
use crate::publisher::Waiting;

/// Something that was waited for.
pub(crate) enum Answer {
    /// The publisher has room.
    Room,
    /// Who the bearer of a token is, which a request brought.
    Identified(RequestId, Result<Arc<Identity>, Error>),
    /// Who a STOMP client is by its first frame; `None` if that says nothing.
    LoggedIn(Result<Option<Arc<Identity>>, Error>),
    /// A request's own answer.
    Reply(RequestId, Result<Reply, Error>),
    /// A page for a reader.
    Page(Result<LogPage<SharedDelivery>, Error>),
    /// Logs under a filter.
    Listed(TopicFilter, Result<Vec<Listed>, Error>),
}

/// Answers that are under way. Bounded by what the session asks for: its requests in flight, one page, one listing per pattern.
#[derive(Default)]
pub(crate) struct Answers {
    /// Made with the first of them and dropped with the last, so that an idle connection holds nothing.
    under_way: Option<Box<FuturesUnordered<BoxFuture<'static, Answer>>>>,
    waits_for_room: bool,
}

impl Answers {
    pub(crate) const fn is_empty(&self) -> bool {
        self.under_way.is_none()
    }

    pub(crate) const fn is_waiting_for_room(&self) -> bool {
        self.waits_for_room
    }

    /// The next answer. Only to be called if there is one under way.
    pub(crate) async fn next(&mut self) -> Answer {
        let answer = match &mut self.under_way {
            Some(under_way) => under_way.next().await,
            None => None,
        };
        let Some(answer) = answer else { return std::future::pending().await };
        if self.under_way.as_ref().is_some_and(|under_way| under_way.is_empty()) {
            self.under_way = None;
        }
        if matches!(answer, Answer::Room) {
            self.waits_for_room = false;
        }
        answer
    }

    pub(crate) fn wait_for_room(&mut self, node: &Arc<Node>, waiting: Waiting) {
        self.waits_for_room = true;
        let node = Arc::clone(node);
        self.push(async move {
            node.publisher().wait(waiting).await;
            Answer::Room
        });
    }

    pub(crate) fn authenticate(&mut self, node: &Arc<Node>, id: RequestId, token: Token) {
        let node = Arc::clone(node);
        self.push(async move { Answer::Identified(id, node.verify(&token).await) });
    }

    /// Waits for who a STOMP client is; without a token, it is known at once that nothing is known.
    pub(crate) fn log_in(&mut self, node: &Arc<Node>, token: Option<Token>) {
        let node = Arc::clone(node);
        self.push(async move {
            Answer::LoggedIn(match token {
                Some(token) => node.verify(&token).await.map(Some),
                None => Ok(None),
            })
        });
    }

    pub(crate) fn history(&mut self, node: &Arc<Node>, id: RequestId, query: HistoryQuery) {
        let node = Arc::clone(node);
        self.push(async move { Answer::Reply(id, node.history().page(query).await.map(Reply::History)) });
    }

    pub(crate) fn catch_up(&mut self, node: &Arc<Node>, query: HistoryQuery) {
        let node = Arc::clone(node);
        self.push(async move { Answer::Page(node.history().catch_up(query).await) });
    }

    pub(crate) fn list(&mut self, node: &Arc<Node>, filter: TopicFilter, after: Option<Topic>) {
        let node = Arc::clone(node);
        self.push(async move {
            let query = TopicsQuery { filter: filter.clone(), after, limit: LIST_LOGS_MAX };
            let logs = node.history().topics(query).await;
            let listed =
                logs.map(|logs| logs.into_iter().map(|log| (log.topic, log.first, log.head)).collect());
            Answer::Listed(filter, listed)
        });
    }

    fn push(&mut self, answer: impl Future<Output = Answer> + Send + 'static) {
        self.under_way.get_or_insert_default().push(Box::pin(answer));
    }
}

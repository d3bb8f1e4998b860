//! What everybody in a run shares.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bongsu::auth::Identity;
use bongsu::connection::{self, Framing, Io, Opened};
use bongsu::dialog::Language;
use bongsu::node::Node;
use bongsu_protocol::codec::Format;
use bongsu_protocol::position::Position;
use bongsu_protocol::session::Grants;
use bongsu_protocol::topic::Topic;
use bytes::Bytes;
use tokio::runtime::Handle;

use crate::agenda::Agenda;
use crate::bus::SimBus;
use crate::dice::Dice;
use crate::plan::Plan;
use crate::record::Record;
use crate::socket::{Plug, Socket};
use crate::store::SimStore;
use crate::trace::Trace;
use crate::wire::Wire;

/// Bytes that a socket holds in each direction. Few, so that a reader that stalls is felt soon.
const SOCKET_BYTES: usize = 8 << 10;

/// What everybody in a run shares.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) trace: Arc<Trace>,
    pub(crate) agenda: Arc<Agenda>,
    pub(crate) bus: Arc<SimBus>,
    pub(crate) store: Arc<SimStore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// No faults, and clients behave: whatever is behind must catch up.
    pub(crate) is_calm: bool,
    /// Which chaos: what an earlier one still has to say concerns nobody.
    pub(crate) n_chaos: u64,
    up: BTreeMap<usize, Up>,
    /// What is to be done to the nodes.
    pub(crate) orders: Vec<Order>,
    pub(crate) violations: Vec<String>,
    /// By reader.
    pub(crate) records: BTreeMap<usize, Record>,
    /// Publishers that still have something to publish.
    pub(crate) n_publishing: usize,
    /// A topic that the first publisher publishes a message to, though all is calm.
    pub(crate) errand: Option<Topic>,
    /// The last live message that was published: its topic, session and number.
    pub(crate) last_live: Option<(Topic, String, u64)>,
    /// Messages that were acknowledged with a position.
    pub(crate) n_acknowledged: u64,
    pub(crate) n_delivered: u64,
    pub(crate) n_connections: u64,
}

/// A node that runs.
#[derive(Debug)]
pub(crate) struct Up {
    pub(crate) handle: Handle,
    pub(crate) node: Arc<Node>,
    /// Of its sockets, in the order in which they were opened.
    pub(crate) plugs: Vec<Plug>,
}

/// What is to be done to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// End its process, in the middle of whatever it does.
    Crash(usize),
    /// Start its process.
    Boot(usize),
}

impl World {
    pub(crate) fn new(plan: Plan) -> Arc<Self> {
        let trace = Arc::new(Trace::new(plan.keep));
        let agenda = Arc::new(Agenda::default());
        let bus = SimBus::new(plan.seed, &agenda, &trace);
        let store = SimStore::new(plan.seed, &agenda, &trace);
        Arc::new(Self { plan, trace, agenda, bus, store, state: Mutex::default() })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.lock().is_calm
    }

    /// Something is not as it should be.
    pub(crate) fn violation(&self, what: &str) {
        self.trace.note(format_args!("VIOLATION {what}"));
        let now = self.trace.now();
        self.lock().violations.push(format!("{}.{:03}: {what}", now / 1000, now % 1000));
    }

    /// Notes what a reader's record found.
    pub(crate) fn judge(&self, reader: usize, judge: impl FnOnce(&mut Record, &Self) -> Result<(), String>) {
        let result = {
            let mut state = self.lock();
            let Some(record) = state.records.get_mut(&reader) else { return };
            judge(record, self)
        };
        if let Err(what) = result {
            self.violation(&format!("reader-{reader}: {what}"));
        }
    }

    /// A message was acknowledged: it is in the log, where the acknowledgment says.
    pub(crate) fn acknowledged(&self, topic: &Topic, id: &str, position: Position) {
        self.lock().n_acknowledged += 1;
        let there = self.store.with_ledger(|ledger| {
            let log = ledger.log(topic).filter(|log| log.epoch == position.epoch);
            log.and_then(|log| log.entry(position.offset.0)).is_some_and(|entry| entry.id == id)
        });
        if !there {
            self.violation(&format!("{topic} {position} was acknowledged for {id}, which is not there"));
        }
    }

    /// A node begins to serve.
    pub(crate) fn rise(&self, node: usize, up: Up) {
        self.lock().up.insert(node, up);
    }

    /// A node is gone, and its sockets with it.
    pub(crate) fn fall(&self, node: usize) {
        let up = self.lock().up.remove(&node);
        // The lock is let go of first: whoever is woken may want it.
        if let Some(Up { plugs, .. }) = up {
            plugs.iter().for_each(Plug::pull);
        }
    }

    pub(crate) fn nodes_up(&self) -> Vec<usize> {
        self.lock().up.keys().copied().collect()
    }

    /// Opens a connection to some node; `None` if there is none.
    pub(crate) fn connect(&self, who: &str, dice: &mut Dice) -> Option<Wire> {
        let format = if dice.chance(0.5) { Format::Json } else { Format::Binary };
        let mut state = self.lock();
        let nodes: Vec<usize> = state.up.keys().copied().collect();
        let number = *dice.pick(&nodes)?;
        let Up { handle, node, plugs } = state.up.get_mut(&number)?;
        let (ours, theirs) = tokio::io::duplex(SOCKET_BYTES);
        let (socket, plug) = Socket::new(theirs);
        plugs.retain(|plug| !plug.is_loose());
        plugs.push(plug);
        let opened = Opened {
            io: Io::Stream(Box::new(socket)),
            read_ahead: Bytes::new(),
            language: Language::Native(format),
            framing: Framing::WebSocket { deflate: None },
            identity: Ok(Arc::new(Identity::of(Grants::everything()))),
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            admission: node.admit()?,
        };
        handle.spawn(connection::run(Arc::clone(node), opened));
        state.n_connections += 1;
        self.trace.note(format_args!("{who} connects to node-{number}"));
        Some(Wire::new(ours, format))
    }
}

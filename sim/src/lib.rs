//! A seeded simulation of a whole cluster: real nodes, in one thread and virtual time, over a bus and a store that fail.
//!
//! The job: to find what only shows when faults meet, and to show it again from a seed. Not the job: sockets, TLS, handshakes,
//! Redis and Postgres themselves, and how fast anything is; `docs/simulation.md` says more.
//!
//! | module | what it holds |
//! |---|---|
//! | `plan`, `run` | how large a run is, and its course: chaos and calm in turns, with what must hold after each |
//! | `machine`, `socket` | a process of a node: a runtime of its own, which a crash drops, and its ends of clients' sockets |
//! | `agenda` | what happens outside of every process: frames that arrive, transactions that commit |
//! | `bus`, `store` | the two that fail, and the `ledger` of what was committed |
//! | `faults` | what goes wrong, and when |
//! | `reader`, `publisher`, `wire` | clients, which speak to nodes as any other does |
//! | `record` | what a reader was told, compared with the ledger as it comes |
//! | `trace`, `dice` | what happened, and the chance that decided it |

mod agenda;
mod bus;
mod dice;
mod faults;
mod ledger;
mod machine;
mod plan;
mod publisher;
mod reader;
mod record;
mod run;
mod socket;
mod store;
mod trace;
mod wire;
mod world;

pub use plan::Plan;
pub use run::{Report, run};
pub use trace::Keep;

//! What the node tells about itself while it runs: times in [`METRICS`], and traces of single messages, both sent to an OpenTelemetry
//! collector where the settings name one.
//!
//! A trace follows one message from its publisher to its readers:
//!
//! ```text
//! publish             on the node that took it, from the session until the acknowledgment
//! ├── store append    the transaction that kept it, with links to the other traced messages of the batch
//! ├── bus publish     handing it to the bus
//! ├── deliver         fanning it out to that node's readers
//! ├── bus receive     on every other node that takes it from the bus …
//! └── deliver         … and fans it out there
//! ```
//!
//! The message itself carries its trace, in the headers that W3C Trace Context names: so every step finds it without being told, also on
//! other nodes and in readers. A message whose publisher sent a sampled `traceparent` continues that trace; of all others, a share is
//! traced. A message that is not traced costs one look through its headers, and nothing where no collector is named.
//!
//! | module | what it holds |
//! |---|---|
//! | `context` | W3C Trace Context |
//! | `span` | what happens to traced messages, from its beginning to its end |
//! | `store` | a store that is watched: how long it takes, and the spans of its batches |
//! | `otlp` | metrics and spans as OTLP has them |
//! | `exporter` | the task that sends them |
//!
//! [`METRICS`]: crate::metrics::METRICS

mod context;
mod exporter;
mod otlp;
mod span;
mod store;

pub use exporter::Telemetry;
pub use span::{Delivering, Publish, Stage, Step, acknowledged};
pub use store::MeasuredStore;

//! The admin API: what operators see of a cluster and do to it, over HTTP.
//!
//! This crate is the face of it: resources with their types, the role that each request needs, problems, pages, and the OpenAPI document that
//! says all of that. It knows no broker. What a request asks for is a method of a trait, one trait for each resource; a broker implements them
//! ([`Control`] is all of them), and says who asks ([`Gatekeeper`]).
//!
//! | module | what it holds |
//! |---|---|
//! | [`role`], [`actor`] | who may do what, and who somebody is |
//! | [`error`], [`problem`] | why something was not done; how that is said (RFC 9457) |
//! | [`page`], [`position`], [`query`], [`body`], [`lines`], [`etag`], [`number`], [`time`] | the parts that requests and answers are made of |
//! | [`schema`] | how those look, as the document says it |
//! | [`route`] | a route with its role: the gate before it, the audit record before every change |
//! | [`gatekeeper`], [`audit`] | who somebody is; what is written down before something is changed |
//! | [`console`] | the console: files for a browser |
//! | [`resources`] | what there is: one module for each resource, all routes together, and the OpenAPI document |
//!
//! A new resource is a module with its types, its trait and `routes()`, and a line in [`Control`] and in the [table](resources::table).

pub mod actor;
pub mod audit;
pub mod body;
pub mod console;
pub mod error;
pub mod etag;
pub mod gatekeeper;
pub mod lines;
pub mod number;
pub mod page;
pub mod position;
pub mod problem;
pub mod query;
pub mod resources;
pub mod role;
pub mod route;
pub mod schema;
pub mod time;

pub use actor::Actor;
pub use error::Error;
pub use gatekeeper::Gatekeeper;
pub use problem::Problem;
pub use resources::{Control, Shared, router};
pub use role::Role;

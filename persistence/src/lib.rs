//! Where Bongsu's logs live.

pub mod store;

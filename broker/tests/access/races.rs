//! Taking back while publishing.

//! Two links over conditioned paths, in virtual time: what a link promises, from the outside.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]
#![allow(clippy::print_stdout, reason = "what was measured, for who asks for it by --nocapture")]

// Tens of thousands of messages, in time that is made up: once is enough, and native is quick.
mod channels;
#[cfg(not(target_arch = "wasm32"))]
mod copies;
mod hostile;
mod life;
mod messages;
mod pair;
mod path;
#[cfg(not(target_arch = "wasm32"))]
mod rate;

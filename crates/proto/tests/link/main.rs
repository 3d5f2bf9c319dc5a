//! Two links over conditioned paths, in virtual time: what a link promises, from the outside.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]
#![allow(clippy::print_stdout, reason = "what was measured, for who asks for it by --nocapture")]

mod copies;
mod hostile;
mod life;
mod messages;
mod pair;
mod path;
mod rate;

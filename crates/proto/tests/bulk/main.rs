//! Two machines over one path, in virtual time: what bulk transfer promises, from the outside.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod anew;
mod hostile;
mod pair;
mod path;
mod properties;
mod resuming;
mod transfers;

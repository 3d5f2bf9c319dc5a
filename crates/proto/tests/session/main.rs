//! How sessions behave together: many of them over simulated links, in virtual time.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by it")]
#![allow(clippy::print_stdout, reason = "what was measured, for who asks for it by --nocapture")]

mod events;
mod full;
mod game;
mod limits;
// Minutes of a room, in time that is made up: once is enough, and native is quick.
#[cfg(not(target_arch = "wasm32"))]
mod narrow;
mod properties;
mod regressions;
mod rooms;
mod support;
mod worlds;

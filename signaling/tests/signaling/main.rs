//! Does a running signaling server do what `docs/SIGNALING.md` says? Asked by raw WebSocket, TCP and UDP clients.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod binary;
mod client;
mod hostile;
mod ice;
mod leader;
mod lobbies;
mod quick;
mod resume;
mod rooms;
mod serving;
mod wire;

//! Does a running signaling server do what `docs/SIGNALING.md` says? Asked by raw WebSocket, TCP and UDP clients.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod audit;
mod binary;
mod client;
mod draining;
mod firewall;
mod guard;
mod hostile;
mod ice;
mod leader;
mod lobbies;
mod log;
mod metrics;
mod options;
mod process;
mod quick;
mod relay;
mod resume;
mod rooms;
mod serving;
mod spoiled;
mod tls;
mod turn;
mod turn_client;
mod wire;

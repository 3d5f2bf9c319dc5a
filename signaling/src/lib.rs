//! Rooms, matchmaking and ICE servers: how peers find each other before they are connected directly.
//!
//! A peer opens a WebSocket at `ws://HOST/ROOM` and is told who comes; the server passes offers, answers and candidates
//! on between the members of a room. It sees no game data; for two who cannot connect it passes that on sealed, unless
//! [`Limits::relay`] is `None`. The wire is that of `matchbox_server` 0.15, so that unmodified
//! `matchbox_socket` peers can use it; peers that ask for the subprotocol `coplay.v1` are told more
//! (see [`coplay_proto::signal`], and `docs/SIGNALING.md` for the whole protocol).
//!
//! Run the binary `coplay-signaling`, or have a server within a program:
//!
//! ```
//! use coplay_signaling::{Config, Signaling};
//!
//! let signaling = Signaling::spawn(Config::local())?;
//! println!("join at {}/my-room", signaling.url());
//! // It runs until it is dropped.
//! # assert!(signaling.url().starts_with("ws://127.0.0.1:"));
//! # Ok::<(), coplay_signaling::StartError>(())
//! ```
//!
//! A page of the same port, for the browsers among the peers, is any [`axum::Router`]:
//!
//! ```
//! use coplay_signaling::{Config, Signaling, axum};
//!
//! let page = axum::Router::new().route("/", axum::routing::get(|| async { "the game" }));
//! let signaling = Signaling::spawn(Config::local().page(page))?;
//! # Ok::<(), coplay_signaling::StartError>(())
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::panic, clippy::expect_used, clippy::indexing_slicing))]

mod addresses;
mod ask;
mod budget;
mod config;
mod connections;
mod deadline;
mod drain;
mod firewall;
mod guard;
mod http;
mod ice;
mod identity;
mod lobby;
mod metrics;
mod origin;
mod peer;
mod proxies;
mod quick;
mod registry;
mod relay;
mod room;
mod running;
mod secrets;
mod server;
mod shares;
mod stun;
mod ticket;
mod tls;
mod turn;
mod wire;

pub use axum;

pub use addresses::{AddressLimits, Pace};
pub use ask::MAX_ROOM_NAME;
pub use config::{Config, DEFAULT_PORT, Limits, Rate, Secret, Stun, Timing, Turn};
pub use firewall::{
    MAX_CANDIDATES,
    shape::{MAX_CANDIDATE, MAX_SDP},
};
pub use metrics::MetricsAccess;
pub use origin::Origins;
pub use proxies::{ForwardedHeader, Proxies, network};
pub use relay::RelayLimits;
pub use running::Running;
pub use server::{Occupancy, Signaling, StartError};
pub use ticket::{MIN_TICKET_SECRET, ticket};
pub use tls::{TlsError, TlsFiles, TlsReload};
pub use turn::{EmbeddedTurn, RelayRate, RelayStats, Relays};
pub use wire::{MAX_MESSAGE, close, status};

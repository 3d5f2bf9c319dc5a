//! The coplay protocol as a state machine: bytes and time in, bytes and facts out.
//!
//! No sockets, no threads, no clock and no engine: every entry takes `now`, so virtual hours run in seconds, and the
//! same code runs native and in the browser. Three machines live here:
//!
//! * [`link::Link`], one per peer, runs where bytes arrive: sequences, acks, round trips, messages exactly once.
//! * [`bulk::Bulk`], beside each link: files and levels, in chunks.
//! * [`session::Session`], one per room, runs per frame: membership, ownership, state.
//!
//! All are driven alike: `handle(now, Input)`, then drain `poll()`.
#![forbid(unsafe_code)]
#![warn(clippy::panic, clippy::indexing_slicing, clippy::needless_pass_by_ref_mut)]

pub mod bulk;
pub mod codec;
pub mod conditioner;
mod ids;
pub mod link;
pub mod rng;
pub mod schema;
pub mod session;
pub mod signal;
pub mod sim_net;

pub use ids::{Channel, EventChannel, Lane, MemberId, NetId, PeerId, Term, Tick, Topology};

/// Version of everything that two peers say to each other. Peers with different versions do not play together.
pub const PROTOCOL_VERSION: u16 = 1;

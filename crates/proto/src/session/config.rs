//! How a session is set up, and how much it takes: every bound has its name here.

use core::time::Duration;

use crate::{Topology, link, schema::Schema};

/// The most members of a session, whatever [`SessionConfig::max_players`] says.
pub const MAX_MEMBERS: u16 = 256;
/// The most living entities that one member can own.
pub const MAX_ENTITIES: usize = 65_536;
/// The most bytes of values that the living entities of one member can have in all.
pub const MAX_STATE_BYTES: usize = 64 << 20;
/// What a remote owner may have on top. Entities that are given to it, and what others write and give away meanwhile, are
/// not heard of in the same order everywhere: a minute of all that [`SessionConfig::budget`] lets through by default.
pub(super) const STATE_SLACK: usize = 16 << 20;
/// The most bytes of one component's value: it goes whole into one frame, with all that names it.
pub const MAX_VALUE: usize = 1024;
/// The most bytes of one input's value: three of them go into one frame.
pub const MAX_INPUT: usize = 256;
/// The most bytes of one event's value: it goes into one message, with all that names it, and that it is about.
pub const MAX_EVENT: usize = link::MAX_MESSAGE - 2048;
/// The same for one that is unreliable: it goes with one datagram.
pub const MAX_UNRELIABLE_EVENT: usize = 960;
/// The most entities that an event is about ([`super::Session::send_about`]): further ones are not waited for.
pub const MAX_ABOUT: usize = 8;
/// A peer that is heard, and that takes nothing for so long while more than half of what may wait for it does, is cut off
/// ([`super::DisconnectReason::TooSlow`]).
pub(super) const SLOW: Duration = Duration::from_secs(10);
/// The most links at a time; more are closed as they open.
pub const MAX_LINKS: usize = 1024;

/// A peer that opened a link says what it speaks within this time, or is turned away.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Whoever enters a room whose leader cannot be reached within this time gives up.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long, once the leader is lost, a member counts that has not shown yet that it knows of us.
pub(super) const MEETING: Duration = Duration::from_secs(3);
/// How long a new leader waits for a link to a member that it inherited without one.
pub(super) const RELINK: Duration = Duration::from_secs(10);
/// The most bytes, and the most frames, that are kept of a peer that is about to join.
pub(super) const MAX_HELD_BYTES: usize = 1 << 20;
/// What each message counts besides its own bytes, so that very many empty ones are many bytes, too.
pub(super) const HELD_OVERHEAD: usize = 64;
pub(super) const MAX_HELD_FRAMES: usize = 64;

/// The settings of a session.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Who decides. The same on every peer of a room.
    pub topology: Topology,
    /// What is shared.
    pub schema: Schema,
    /// Ticks a second of the room's clock, 1 to 240. Default 60. The same on every peer of a room.
    pub tick_rate: u16,
    /// Most members, this peer included, at most [`MAX_MEMBERS`]. Only the leader's counts. Default 16 in a mesh,
    /// 64 under a host.
    pub max_players: u16,
    /// How long a peer that nobody told who leads waits to hear of a session before it founds one. Default 2 s.
    pub founding: Duration,
    /// Most bytes of messages that wait for each peer ([`super::SendError::QueueFull`]): at most what its link takes
    /// ([`link::LinkConfig::send_queue`]). Default 1 MiB.
    pub send_queue: usize,
    /// Most bytes of state a second for each peer; less if its path carries less ([`link::Figures::budget`]). Default
    /// 256 kB.
    pub budget: u32,
}

impl SessionConfig {
    /// The defaults.
    pub const fn new(topology: Topology, schema: Schema) -> Self {
        let max_players = Self::default_max_players(topology);
        Self {
            topology,
            schema,
            tick_rate: 60,
            max_players,
            founding: Duration::from_secs(2),
            send_queue: 1 << 20,
            budget: 256_000,
        }
    }

    /// [`Self::max_players`] unless it is set: 16 in a mesh, where everyone sends to everyone; 64 under a host.
    pub const fn default_max_players(topology: Topology) -> u16 {
        match topology {
            Topology::Mesh => 16,
            Topology::Host => 64,
        }
    }

    pub(super) fn max_members(&self) -> usize {
        usize::from(self.max_players.clamp(1, MAX_MEMBERS))
    }

    /// Ticks a second, within its limits.
    pub(super) fn rate(&self) -> u16 {
        self.tick_rate.clamp(1, 240)
    }

    pub(super) fn tick_rate(&self) -> f64 {
        f64::from(self.rate())
    }
}

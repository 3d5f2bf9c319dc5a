//! Is the mesh larger than the paths carry? Told once for each size, with what to do.

use core::time::Duration;

use bevy_app::{App, PreUpdate};
use bevy_ecs::{
    event::Event,
    schedule::IntoScheduleConfigs,
    system::{Commands, Local, Query, Res},
};
use coplay_proto::{
    Topology,
    link::{Cause, Quality},
};

use crate::{
    net::Clock,
    peers::PeerPath,
    room::{Room, RoomState},
    schedule::NetSystems,
};

/// Fewer others are no crowd: then it is the path to one of them.
const LEAST_OTHERS: usize = 3;
/// How long it has to be so: longer than a download in the same house slows a game down at its start.
const PATIENCE: Duration = Duration::from_secs(5);

/// The mesh has more players than the paths of this one carry: for 5 seconds at least half of them were reached by a path that
/// is full or narrow, so they see less and later than they should. Every player of a mesh sends to all others; under a host the
/// upload of a player does not grow with their number.
///
/// Told once, and again when more players are in the room; also as a warning in the log, N0014. What to do: play under a host
/// ([`JoinRoom::host`](crate::JoinRoom::host)), have [fewer players](crate::JoinRoom::max_players), or share less: fewer
/// entities, coarser fields.
#[derive(Event, Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeshCrowded {
    /// How many others are in the room.
    pub others: usize,
    /// To how many of them the path is full or narrow.
    pub affected: usize,
    /// Bytes a second that the paths to all of them are thought to carry, together.
    pub rate: u64,
}

pub(crate) fn plugin(app: &mut App) {
    app.add_systems(PreUpdate, watch.after(NetSystems::Apply));
}

/// Since when it is so, and for how many others it was told.
#[derive(Default)]
struct Watch {
    since: Option<Duration>,
    told: usize,
}

fn watch(room: Res<Room>, clock: Res<Clock>, paths: Query<&PeerPath>, mut watch: Local<Watch>, mut commands: Commands) {
    if room.state != RoomState::Joined || room.topology != Topology::Mesh {
        *watch = Watch::default();
        return;
    }
    let others = paths.iter().len();
    let affected = paths.iter().filter(|path| is_full(path)).count();
    if others < LEAST_OTHERS || affected * 2 < others || others <= watch.told {
        watch.since = None;
        return;
    }
    let since = *watch.since.get_or_insert(clock.now);
    if clock.now < since + PATIENCE {
        return;
    }
    (watch.since, watch.told) = (None, others);
    let rate: u64 = paths.iter().map(|path| u64::from(path.rate)).sum();
    tracing::warn!(
        "N0014: a mesh of {} players is more than the paths of this one carry: {affected} of {others} are full or narrow, {} kB/s \
         in all. Play under a host (`.host()`), with fewer players (`.max_players(..)`), or share less",
        others + 1,
        rate / 1_000,
    );
    commands.trigger(MeshCrowded { others, affected, rate });
}

fn is_full(path: &PeerPath) -> bool {
    path.quality <= Quality::Fair && matches!(path.cause, Some(Cause::Narrow | Cause::Queueing))
}

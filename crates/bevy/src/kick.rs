//! How is a player sent away? By the leader of the room.

use bevy_app::App;
use bevy_ecs::{event::Event, observer::On, system::Commands, world::World};
use coplay_proto::{PeerId, signal::lobby::RoomCommand};

use crate::{net::Net, settings};

/// Sends a peer away. Trigger it on the peer that leads the room ([`Room::is_leader`](crate::Room::is_leader)), which is
/// the host where there is one: `commands.trigger(KickPeer(id))`. Elsewhere it has no effect, but a warning.
///
/// Signaling is told, too, if it is ours: nobody comes in from the peer's address for a minute.
///
/// Everybody else's [`PeerLeft`](crate::PeerLeft) says that it was kicked
/// ([`DisconnectReason::Kicked`](crate::DisconnectReason::Kicked)); so does the peer's [`RoomFailed`](crate::RoomFailed), unless
/// signaling was faster ([`SignalError::Kicked`](crate::SignalError::Kicked)).
#[derive(Event, Clone, Copy, Debug, PartialEq, Eq)]
pub struct KickPeer(pub PeerId);

pub(crate) fn plugin(app: &mut App) {
    app.add_observer(|kicked: On<KickPeer>, mut commands: Commands| {
        let peer = kicked.0;
        commands.queue(move |world: &mut World| kick(world, peer));
    });
}

fn kick(world: &mut World, peer: PeerId) {
    let net = &mut *world.resource_mut::<Net>();
    match &mut net.session {
        // What comes of it is told with the next poll, as all that the session tells.
        Some(session) if session.is_leader() => {
            session.kick(peer);
            settings::command_room(world, RoomCommand::Kick(peer));
        }
        _ => tracing::warn!("{peer} is not kicked: only the leader of a room can do that (`Room::is_leader`)"),
    }
}

//! What of a room can change while it is played in, who changes it, and who hears of it?

use bevy_app::App;
use bevy_ecs::{event::Event, observer::On, system::Commands, world::World};
use coplay_proto::signal::{
    SignalError,
    lobby::{Lobby, Metadata, RoomCommand},
};
use coplay_socket::RoomEvent;

use crate::{
    net::{Links, Net},
    room::Room,
};

/// Changes the room's settings, as its leader may ([`Room::is_leader`]): `commands.trigger(ChangeRoom::Lock(true))`.
///
/// [`RoomChanged`] comes on every peer when it is done, [`RoomDenied`] on this one if it is not. It is signaling that
/// keeps the settings, so a room of a `matchbox_server` has none.
#[derive(Event, Clone, Debug, PartialEq, Eq)]
pub enum ChangeRoom {
    /// Whether nobody else may come in. Who is in stays.
    Lock(bool),
    /// Other metadata, in place of all there was.
    Metadata(Metadata),
    /// How many players the room takes from now on. Who is in stays, even if they are more.
    MaxPlayers(u16),
    /// Whether the room is in the public list.
    Public(bool),
}

/// The room's settings are known, or other than before: [`Room::lobby`].
#[derive(Event, Clone, Debug, PartialEq, Eq)]
pub struct RoomChanged {
    /// The settings.
    pub lobby: Lobby,
}

/// What was asked of the room, by [`ChangeRoom`] or [`KickPeer`](crate::KickPeer), was not done.
#[derive(Event, Clone, Debug, PartialEq, Eq)]
pub struct RoomDenied {
    /// Why.
    pub error: RoomDenial,
}

/// Why something was not done with the room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoomDenial {
    /// Signaling said no.
    #[error(transparent)]
    Refused(#[from] SignalError),
    /// Signaling is not there, or is none of ours.
    #[error("signaling is not there to do it, or is a server without settings: try again when it is connected")]
    NotConnected,
}

/// How many wait for a quick match: [`JoinRoom::quick_match`](crate::JoinRoom::quick_match). Comes whenever that changes.
#[derive(Event, Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatchWaiting {
    /// So many wait, this player included.
    pub waiting: u32,
    /// So many are to play.
    pub players: u32,
}

pub(crate) fn plugin(app: &mut App) {
    app.add_observer(|change: On<ChangeRoom>, mut commands: Commands| {
        let change = change.event().clone();
        commands.queue(move |world: &mut World| ask(world, change));
    });
}

fn ask(world: &mut World, change: ChangeRoom) {
    let command = match change {
        ChangeRoom::Lock(locked) => RoomCommand::Lock(locked),
        ChangeRoom::Metadata(metadata) => RoomCommand::Metadata(metadata),
        ChangeRoom::MaxPlayers(players) => RoomCommand::Max(players.into()),
        ChangeRoom::Public(public) => RoomCommand::Public(public),
    };
    command_room(world, command);
}

/// Has signaling do something with the room; says so where there is none.
pub(crate) fn command_room(world: &mut World, command: RoomCommand) {
    match &mut world.non_send_mut::<Links>().0 {
        Some(network) => network.room_command(command),
        None => world.trigger(RoomDenied { error: RoomDenial::NotConnected }),
    }
}

/// Signaling said something about the room.
pub(crate) fn told(world: &mut World, event: RoomEvent) {
    match event {
        RoomEvent::Settings(lobby) => {
            // Whoever leads the session lets in as many as signaling does.
            if let Some(session) = &mut world.resource_mut::<Net>().session {
                session.set_max_players(u16::try_from(lobby.max).unwrap_or(u16::MAX));
            }
            world.resource_mut::<Room>().lobby = Some(lobby.clone());
            world.trigger(RoomChanged { lobby: *lobby });
        }
        RoomEvent::Waiting(status) => {
            world.trigger(MatchWaiting { waiting: status.waiting, players: status.size });
        }
        RoomEvent::Denied(error) => deny(world, error.into()),
        // The session sends a player away with or without signaling.
        RoomEvent::Unsent(RoomCommand::Kick(_)) => {}
        RoomEvent::Unsent(_) => deny(world, RoomDenial::NotConnected),
        RoomEvent::Kicked(_) | RoomEvent::Resumed => tracing::debug!("room: {event:?}"),
    }
}

fn deny(world: &mut World, error: RoomDenial) {
    tracing::warn!("{error}");
    world.trigger(RoomDenied { error });
}

//! Which room is this peer in? The room's state, what is known of it, and how it ends.

use bevy_ecs::{
    entity::Entity,
    event::Event,
    query::{With, Without},
    reflect::ReflectResource,
    resource::Resource,
    world::World,
};
use bevy_reflect::{Reflect, std_traits::ReflectDefault};
use bevy_state::state::{NextState, States};
use coplay_proto::{
    MemberId, PeerId, Topology,
    session::DisconnectReason,
    signal::{
        SignalError,
        lobby::{Lobby, TooLong},
    },
};
use coplay_socket::{Entered, SocketError};

use crate::{
    absent::Absent,
    blobs,
    control::{self, NetEntity, Remote, Shared, Touched},
    events::Parked,
    interpolate::Playheads,
    net::{Links, Net},
    offline::LOCAL,
    peers,
    refs::Refs,
    relay::Relay,
    scene::SceneId,
};

/// Whether this peer is in a room.
#[derive(States, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Reflect)]
pub enum RoomState {
    /// In no room: everything is owned here, and events come back.
    #[default]
    Offline,
    /// On the way into one.
    Joining,
    /// In one.
    Joined,
}

/// The room that this peer is in, or on the way into.
#[derive(Resource, Clone, Debug, Reflect)]
#[reflect(opaque)]
#[reflect(Resource, Clone, Debug, Default)]
pub struct Room {
    pub(crate) me: PeerId,
    pub(crate) member: Option<MemberId>,
    pub(crate) code: String,
    /// The signaling server that was asked for it.
    pub(crate) server: String,
    pub(crate) topology: Topology,
    pub(crate) leader: Option<PeerId>,
    pub(crate) state: RoomState,
    pub(crate) tick: f64,
    pub(crate) lobby: Option<Box<Lobby>>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            me: LOCAL,
            member: None,
            code: String::new(),
            server: String::new(),
            topology: Topology::default(),
            leader: None,
            state: RoomState::Offline,
            tick: 0.0,
            lobby: None,
        }
    }
}

impl Room {
    /// This peer. Out of a room it has an id too, always the same.
    pub fn me(&self) -> PeerId {
        self.me
    }

    /// This peer's seat, from 0, while it is in a room.
    pub fn slot(&self) -> Option<u16> {
        self.member.map(|member| member.slot)
    }

    /// The room's name, which is the code to join it by. Empty until it is known.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Who decides in it.
    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// Who leads it: the host, or in a mesh the member that keeps the others together. `None` while not joined.
    pub fn leader(&self) -> Option<PeerId> {
        self.leader.filter(|_| self.state == RoomState::Joined)
    }

    /// Whether this peer leads: it does offline too, and does not on the way into a room.
    pub fn is_leader(&self) -> bool {
        match self.state {
            RoomState::Offline => true,
            RoomState::Joining => false,
            RoomState::Joined => self.leader == Some(self.me),
        }
    }

    /// The room's settings: its metadata, how many it takes, whether it is locked. `None` until signaling has told of them,
    /// and where it does not: in a room of a `matchbox_server`.
    pub fn lobby(&self) -> Option<&Lobby> {
        self.lobby.as_deref()
    }

    /// The room's clock at the start of this frame, in ticks. 0 while not joined.
    pub fn tick(&self) -> f64 {
        self.tick
    }
}

/// The room could not be joined, or is over, and not because this peer left it.
#[derive(Event, Clone, Debug)]
pub struct RoomFailed {
    /// Why.
    pub error: RoomError,
}

/// Why a peer is not in a room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoomError {
    /// The signaling server cannot be reached or said no, or there is no WebRTC.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// No room can have this name: N0009.
    #[error(transparent)]
    Name(#[from] BadRoomName),
    /// Something that was to be said about the room is too long: N0012.
    #[error("N0012: {0}")]
    TooLong(#[from] TooLong),
    /// The session ended, or did not take this peer.
    #[error("out of the session: {0}")]
    Session(#[from] DisconnectReason),
}

impl RoomError {
    /// Whether the same [`JoinRoom`](crate::JoinRoom) may get in a few seconds later: the server was not there, or the room was
    /// full. If not, something has to be changed first: a name, a password, a version, the leader's mind.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Socket(SocketError::Unreachable { .. }) => true,
            Self::Socket(SocketError::Refused(refused)) => matches!(
                refused,
                SignalError::RoomFull { .. }
                    | SignalError::TooMuch
                    | SignalError::SeatGone
                    | SignalError::ServerFull
                    | SignalError::Stopping
            ),
            Self::Session(reason) => matches!(
                reason,
                DisconnectReason::Full(_)
                    | DisconnectReason::TooSlow
                    | DisconnectReason::Link(_)
                    | DisconnectReason::Declared
                    | DisconnectReason::HostLeft
                    | DisconnectReason::Absorbed
                    | DisconnectReason::Unreachable
                    | DisconnectReason::NoHandshake
            ),
            Self::Socket(_) | Self::Name(_) | Self::TooLong(_) => false,
        }
    }
}

/// The most bytes of a room's name.
const MAX_NAME: usize = 64;
/// What signaling keeps for itself.
const RESERVED: [&str; 3] = ["healthz", "metrics", "readyz"];

/// A name that no room can have, and that signaling refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "N0009: no room can be named `{0}`: use 1 to {MAX_NAME} of the characters A-Z a-z 0-9 - _ . ~ : @ + (not {reserved})", reserved = RESERVED.join(", ")
)]
pub struct BadRoomName(String);

/// Whether a room can have this name.
pub(crate) fn check_name(name: &str) -> Result<(), BadRoomName> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~:@+".contains(&byte);
    let good = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(plain) && !RESERVED.contains(&name);
    // What is long was pasted: its beginning is enough to know it by.
    good.then_some(()).ok_or_else(|| BadRoomName(name.chars().take(MAX_NAME).collect()))
}

/// Signaling has let us in.
pub(crate) fn entered(world: &mut World, entered: Entered) {
    tracing::debug!("entered room {} as {}", entered.room, entered.me);
    world.resource_mut::<Room>().code = entered.room;
}

/// Sets the state that the game sees.
pub(crate) fn set_state(world: &mut World, state: RoomState) {
    world.resource_mut::<Room>().state = state;
    world.resource_mut::<NextState<RoomState>>().set_if_neq(state);
}

/// Leaves the room, if in one: says goodbye, and cleans up.
pub(crate) fn leave(world: &mut World) {
    if let Some(session) = &mut world.resource_mut::<Net>().session {
        session.leave();
        crate::net::drain(world);
    }
    close(world, None);
}

/// Is out of the room, for good; without an error it was this peer's wish.
pub(crate) fn close(world: &mut World, error: Option<RoomError>) {
    let reason = match &error {
        Some(RoomError::Session(reason)) => reason.clone(),
        _ => DisconnectReason::Local,
    };
    let net = &mut *world.resource_mut::<Net>();
    net.session = None;
    net.relay = Relay::default();
    // Dropping it says goodbye to every peer.
    world.non_send_mut::<Links>().0 = None;
    world.resource_mut::<Room>().lobby = None;
    set_state(world, RoomState::Offline);
    blobs::clear(world);
    clear(world, &reason);
    if let Some(error) = error {
        tracing::warn!("{error}");
        world.trigger(RoomFailed { error });
    }
}

/// Everything that came from the session goes with it. What is owned here becomes local again.
pub(crate) fn clear(world: &mut World, reason: &DisconnectReason) {
    world.resource_mut::<Net>().facts.clear();
    *world.resource_mut::<Refs>() = Refs::default();
    *world.resource_mut::<Absent>() = Absent::default();
    *world.resource_mut::<Parked>() = Parked::default();
    if let Some(mut heads) = world.get_resource_mut::<Playheads>() {
        heads.clear();
    }
    let me = world.resource::<Room>().me;
    let mut remote = world.query_filtered::<Entity, (With<Remote>, Without<SceneId>)>();
    for entity in remote.iter(world).collect::<Vec<_>>() {
        world.try_despawn(entity).ok();
    }
    let mut scenes = world.query_filtered::<Entity, (With<Remote>, With<SceneId>)>();
    for entity in scenes.iter(world).collect::<Vec<_>>() {
        control::set_owned(world, entity, true);
    }
    peers::all_left(world, reason);
    // Entities of a parent that went are gone too, so ask again.
    let mut named = world.query_filtered::<Entity, With<NetEntity>>();
    for entity in named.iter(world).collect::<Vec<_>>() {
        world.entity_mut(entity).remove::<NetEntity>();
    }
    if me != LOCAL {
        let room = &mut *world.resource_mut::<Room>();
        (room.me, room.member, room.leader, room.tick) = (LOCAL, None, None, 0.0);
        control::rename(world, me, LOCAL);
    }
    let mut shared = world.query_filtered::<Entity, With<Shared>>();
    let shared = shared.iter(world).collect();
    *world.resource_mut::<Touched>() = Touched { shared, ..Touched::default() };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trying_again_helps_where_nothing_has_to_be_changed_first() {
        let (url, reason) = ("ws://localhost:1".to_owned(), "refused".to_owned());
        let refused = |error| RoomError::Socket(SocketError::Refused(error));
        assert!(RoomError::Socket(SocketError::Unreachable { url, reason }).is_temporary());
        for passes in [SignalError::RoomFull { max: 4 }, SignalError::ServerFull, SignalError::Stopping] {
            assert!(refused(passes.clone()).is_temporary(), "{passes}");
        }
        let code = "PLAY".to_owned();
        for stays in [SignalError::NoSuchRoom { code }, SignalError::WrongPassword, SignalError::Kicked { seconds: 60 }]
        {
            assert!(!refused(stays.clone()).is_temporary(), "{stays}");
        }
        assert!(RoomError::Session(DisconnectReason::HostLeft).is_temporary());
        assert!(!RoomError::Session(DisconnectReason::Kicked).is_temporary());
        assert!(!RoomError::Name(BadRoomName(String::new())).is_temporary());
    }

    #[test]
    fn names_are_those_that_signaling_takes() {
        for good in ["a", "bumper-cars", "A.b_c~d:e@f+9", &"x".repeat(64)] {
            assert_eq!(check_name(good), Ok(()));
        }
        for bad in ["", " ", "a b", "a/b", "\u{e4}", "a?b", "healthz", "metrics", &"x".repeat(65)] {
            let error = check_name(bad).expect_err("signaling refuses it").to_string();
            assert!(error.starts_with("N0009") && error.contains("A-Z a-z 0-9 - _ . ~ : @ +"), "{error}");
            assert!(error.len() < 300, "{error}");
        }
    }
}

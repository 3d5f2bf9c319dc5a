//! Which rooms may be joined? The public list of a signaling server, for a menu.

use std::fmt;

use bevy_app::{App, PreUpdate};
use bevy_ecs::{
    event::Event, observer::On, reflect::ReflectResource, resource::Resource, schedule::IntoScheduleConfigs,
    system::Commands, world::World,
};
use bevy_reflect::{Reflect, std_traits::ReflectDefault};
use bevy_state::{
    app::AppExtStates,
    state::{NextState, States},
};
use coplay_proto::signal::lobby::{Lobby, LobbyFilter, MAX_TICKET, Ticket, TooLong};
use coplay_socket::{LobbyBrowser, LobbyEvent, SignalingState, SocketError};

use crate::schedule::NetSystems;

/// Keeps [`Lobbies`] up to date from now on, until [`UnwatchLobbies`]. Trigger it when a menu opens:
///
/// ```
/// # use bevy_ecs::prelude::*;
/// # use bevy_coplay::prelude::*;
/// fn open_menu(mut commands: Commands) {
///     commands.trigger(WatchLobbies::of("bumper-cars").version("2").free_seats(1));
/// }
///
/// fn show(_changed: On<LobbiesChanged>, lobbies: Res<Lobbies>) {
///     for lobby in lobbies.iter() {
///         println!("{} {}/{}", lobby.code, lobby.players, lobby.max);
///     }
/// }
/// # let mut world = World::new();
/// # world.add_observer(show);
/// # world.run_system_cached(open_menu).unwrap();
/// ```
///
/// It can be triggered again, with another filter. It needs `coplay-signaling`: a `matchbox_server` has no list.
#[derive(Event, Clone, Debug, PartialEq, Eq)]
pub struct WatchLobbies {
    signaling: Option<String>,
    ticket: Option<Ticket>,
    filter: LobbyFilter,
    mistake: Option<TooLong>,
}

impl WatchLobbies {
    /// The public rooms of this game, which [`JoinRoom::game`](crate::JoinRoom::game) names.
    pub fn of(game: impl Into<String>) -> Self {
        let filter = LobbyFilter { game: Some(game.into()), ..LobbyFilter::default() };
        Self { signaling: None, ticket: None, filter, mistake: None }
    }

    /// Only those of this version.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.filter.version = Some(version.into());
        self
    }

    /// Only those with so many free seats. From 1 on, rooms that are locked are left out.
    #[must_use]
    pub fn free_seats(mut self, seats: u16) -> Self {
        self.filter.free = seats.into();
        self
    }

    /// Only those with this among their metadata, such as `("map", "canyon")`.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        if let Err(mistake) = self.filter.metadata.set(key, value) {
            self.mistake.get_or_insert(mistake);
        }
        self
    }

    /// The signaling server, as for [`JoinRoom::signaling`](crate::JoinRoom::signaling), with the same default.
    #[must_use]
    pub fn signaling(mut self, url: impl Into<String>) -> Self {
        self.signaling = Some(url.into());
        self
    }

    /// A ticket for any room, where the signaling server asks for one: [`JoinRoom::ticket`](crate::JoinRoom::ticket).
    #[must_use]
    pub fn ticket(mut self, ticket: impl Into<String>) -> Self {
        let ticket = ticket.into();
        if !(1..=MAX_TICKET).contains(&ticket.len()) {
            self.mistake.get_or_insert(TooLong::Ticket);
        }
        self.ticket = Some(ticket.into());
        self
    }
}

/// The list is not needed any more: [`Lobbies`] is empty from now on.
#[derive(Event, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnwatchLobbies;

/// Whether there is a list of public rooms.
#[derive(States, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Reflect)]
pub enum LobbiesState {
    /// None is asked for.
    #[default]
    Closed,
    /// It is asked for, and signaling does not answer yet, or not any more. What was known last is shown meanwhile.
    Connecting,
    /// It is up to date.
    Open,
}

/// The public rooms that [`WatchLobbies`] asked for, at most 200, in the order of their codes.
#[derive(Resource, Clone, Debug, Default, Reflect)]
#[reflect(opaque)]
#[reflect(Resource, Clone, Debug, Default)]
pub struct Lobbies(Vec<Lobby>);

impl Lobbies {
    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Lobby> {
        self.0.iter()
    }

    /// The one with this code.
    pub fn get(&self, code: &str) -> Option<&Lobby> {
        self.0.iter().find(|lobby| lobby.code == code)
    }
}

/// [`Lobbies`] is another than before. At most twice a second, apart from the first time.
#[derive(Event, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LobbiesChanged;

/// There is no list, and nothing more is tried.
#[derive(Event, Clone, Debug, PartialEq, Eq)]
pub struct LobbiesFailed {
    /// Why.
    pub error: LobbiesError,
}

/// Why there is no list of rooms.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LobbiesError {
    /// The signaling server cannot be reached or said no.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// No room can have such metadata: N0012.
    #[error("N0012: {0}")]
    TooLong(#[from] TooLong),
}

/// What keeps the list; on the web it is bound to the main thread.
#[derive(Default)]
struct Watched(Option<LobbyBrowser>);

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&self.0).finish()
    }
}

pub(crate) fn plugin(app: &mut App) {
    app.init_state::<LobbiesState>()
        .register_type_state::<LobbiesState>()
        .register_type::<Lobbies>()
        .init_resource::<Lobbies>()
        .add_observer(|watch: On<WatchLobbies>, mut commands: Commands| {
            let watch = watch.event().clone();
            commands.queue(move |world: &mut World| open(world, &watch));
        })
        .add_observer(|_: On<UnwatchLobbies>, mut commands: Commands| {
            commands.queue(|world: &mut World| close(world, None));
        })
        .add_systems(PreUpdate, poll.in_set(NetSystems::Poll));
    app.world_mut().init_non_send::<Watched>();
}

fn open(world: &mut World, watch: &WatchLobbies) {
    if let Some(mistake) = watch.mistake {
        return close(world, Some(mistake.into()));
    }
    let server = watch.signaling.clone().unwrap_or_else(coplay_socket::default_signaling_url);
    world.non_send_mut::<Watched>().0 =
        Some(LobbyBrowser::open_with_ticket(&server, watch.ticket.clone(), watch.filter.clone()));
    empty(world);
    set_state(world, LobbiesState::Connecting);
}

fn close(world: &mut World, error: Option<LobbiesError>) {
    world.non_send_mut::<Watched>().0 = None;
    empty(world);
    set_state(world, LobbiesState::Closed);
    if let Some(error) = error {
        tracing::warn!("no list of rooms: {error}");
        world.trigger(LobbiesFailed { error });
    }
}

/// What another server, or another filter, told of is void.
fn empty(world: &mut World) {
    if !world.resource::<Lobbies>().0.is_empty() {
        world.resource_mut::<Lobbies>().0.clear();
        world.trigger(LobbiesChanged);
    }
}

fn poll(world: &mut World) {
    let mut changed = None;
    loop {
        // An observer of what was told may have closed it, or opened another.
        let Some(browser) = &mut world.non_send_mut::<Watched>().0 else { return };
        match browser.poll() {
            Some(LobbyEvent::Changed) => changed = Some(browser.lobbies()),
            Some(LobbyEvent::Signaling(SignalingState::Connected)) => set_state(world, LobbiesState::Open),
            Some(LobbyEvent::Signaling(_)) => set_state(world, LobbiesState::Connecting),
            Some(LobbyEvent::Failed(error)) => return close(world, Some(error.into())),
            None => break,
        }
    }
    if let Some(lobbies) = changed {
        world.resource_mut::<Lobbies>().0 = lobbies;
        world.trigger(LobbiesChanged);
    }
}

fn set_state(world: &mut World, state: LobbiesState) {
    world.resource_mut::<NextState<LobbiesState>>().set_if_neq(state);
}

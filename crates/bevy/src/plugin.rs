//! What does a game add? One group of plugins, told which room to join.

use std::{net::IpAddr, ops::RangeInclusive};

use bevy_app::{
    App, FixedLast, FixedPreUpdate, Last, Plugin, PluginGroup, PluginGroupBuilder, PostStartup, PostUpdate, PreStartup,
    PreUpdate,
};
use bevy_ecs::{
    resource::Resource,
    schedule::{IntoScheduleConfigs, common_conditions::resource_exists},
    world::World,
};
use bevy_state::app::{AppExtStates, StatesPlugin};
use bevy_time::{Fixed, Time, TimePlugin};
use coplay_proto::{conditioner::Conditions, signal::IceServer};
use coplay_socket::{IceTransportPolicy, RelayPolicy, Socket};

use crate::{
    absent::Absent,
    apply,
    blob_policy::BlobPolicy,
    blobs, collect, conditions, control, crowd,
    diagnostics::NetDiagnosticsPlugin,
    events::Parked,
    inputs,
    interpolate::NetInterpolationPlugin,
    join::{self, JoinRoom, TICK_RATE, TickRate},
    kick, lobby,
    net::{self, Clock, Links, Net},
    offline, peers,
    refs::Refs,
    registry,
    room::{Room, RoomState},
    scene::SceneId,
    schedule::{self, NetSystems},
    settings,
};

/// Everything that a game needs to share entities and events. Add it after `DefaultPlugins` or `MinimalPlugins`:
///
/// ```no_run
/// # use bevy_app::prelude::*;
/// # use bevy_coplay::prelude::*;
/// App::new().add_plugins(CoplayPlugins::room("bumper-cars").mesh());
/// ```
///
/// The group has [`RoomPlugin`], [`NetInterpolationPlugin`] and [`NetDiagnosticsPlugin`]; the latter two can be
/// disabled.
#[derive(Clone, Debug)]
#[must_use = "add it to the app"]
pub struct CoplayPlugins {
    room: RoomPlugin,
}

impl CoplayPlugins {
    /// Joins the room of this name at start, which is made if it is not there. What a name may be: [`JoinRoom::room`].
    /// With another one the game starts offline, and [`RoomFailed`](crate::RoomFailed) says why (N0009).
    pub fn room(name: impl Into<String>) -> Self {
        Self::joining(JoinRoom::room(name))
    }

    /// Makes a new room with a short code at start: [`Room::code`].
    pub fn new_room() -> Self {
        Self::joining(JoinRoom::new_room())
    }

    /// Starts offline. [`JoinRoom`] goes online at any time.
    pub fn offline() -> Self {
        Self { room: RoomPlugin::default() }
    }

    /// Meets so many players at start: [`JoinRoom::quick_match`].
    pub fn quick_match(players: u16) -> Self {
        Self::joining(JoinRoom::quick_match(players))
    }

    /// As asked for: `CoplayPlugins::joining(JoinRoom::room("attic").metadata("map", "canyon"))`.
    pub fn joining(join: JoinRoom) -> Self {
        Self { room: RoomPlugin { join: Some(join), ..RoomPlugin::default() } }
    }

    fn with(mut self, change: impl FnOnce(JoinRoom) -> JoinRoom) -> Self {
        self.room.join = self.room.join.map(change);
        self
    }

    /// See [`JoinRoom::mesh`].
    pub fn mesh(self) -> Self {
        self.with(JoinRoom::mesh)
    }

    /// See [`JoinRoom::host`].
    pub fn host(self) -> Self {
        self.with(JoinRoom::host)
    }

    /// See [`JoinRoom::signaling`].
    pub fn signaling(self, url: impl Into<String>) -> Self {
        self.with(|join| join.signaling(url))
    }

    /// See [`JoinRoom::existing`].
    pub fn existing(self) -> Self {
        self.with(JoinRoom::existing)
    }

    /// See [`JoinRoom::max_players`].
    pub fn max_players(self, players: u16) -> Self {
        self.with(|join| join.max_players(players))
    }

    /// See [`JoinRoom::public`].
    pub fn public(self) -> Self {
        self.with(JoinRoom::public)
    }

    /// See [`JoinRoom::game`].
    pub fn game(self, name: impl Into<String>) -> Self {
        self.with(|join| join.game(name))
    }

    /// See [`JoinRoom::version`].
    pub fn version(self, version: impl Into<String>) -> Self {
        self.with(|join| join.version(version))
    }

    /// See [`JoinRoom::password`].
    pub fn password(self, password: impl Into<String>) -> Self {
        self.with(|join| join.password(password))
    }

    /// See [`JoinRoom::ticket`].
    pub fn ticket(self, ticket: impl Into<String>) -> Self {
        self.with(|join| join.ticket(ticket))
    }

    /// See [`JoinRoom::relay`].
    pub fn relay(self, policy: RelayPolicy) -> Self {
        self.with(|join| join.relay(policy))
    }

    /// See [`JoinRoom::udp_ports`].
    pub fn udp_ports(self, ports: RangeInclusive<u16>) -> Self {
        self.with(|join| join.udp_ports(ports))
    }

    /// See [`JoinRoom::external_ips`].
    pub fn external_ips(self, ips: impl IntoIterator<Item = IpAddr>) -> Self {
        self.with(|join| join.external_ips(ips))
    }

    /// See [`JoinRoom::ice_server`].
    pub fn ice_server(self, server: IceServer) -> Self {
        self.with(|join| join.ice_server(server))
    }

    /// See [`JoinRoom::ice_transport_policy`].
    pub fn ice_transport_policy(self, policy: IceTransportPolicy) -> Self {
        self.with(|join| join.ice_transport_policy(policy))
    }

    /// See [`JoinRoom::matchbox`].
    #[cfg(feature = "matchbox")]
    pub fn matchbox(self) -> Self {
        self.with(JoinRoom::matchbox)
    }

    /// See [`JoinRoom::socket`].
    pub fn socket(self, connect: impl Fn(&str) -> Box<dyn Socket> + Send + Sync + 'static) -> Self {
        self.with(|join| join.socket(connect))
    }

    /// Which blobs are taken from peers: [`BlobPolicy`]. Default none.
    pub fn blobs(mut self, policy: BlobPolicy) -> Self {
        self.room.blobs = Some(policy);
        self
    }

    /// What the paths to other players are made to be like: [`LinkConditions`](crate::LinkConditions). Default as they are.
    ///
    /// Whoever starts the game can say something else: by the environment variable `COPLAY_CONDITIONS` on native, or the
    /// parameter `conditions` of the page's URL, such as `wifi` or `latency=60ms,loss=2%`. What cannot be read stops the
    /// game at its start: N0013.
    pub fn conditions(mut self, conditions: Conditions) -> Self {
        self.room.conditions = conditions;
        self
    }

    /// Ticks a second of the fixed loop and of the room, 1 to 240; the nearest of these is taken. Default 60.
    ///
    /// The plugin sets `Time<Fixed>` to it, offline too: leave that alone. It is the same on every peer, and peers whose
    /// rates differ do not play together (N0008).
    pub fn tick_rate(mut self, rate: u16) -> Self {
        self.room.tick_rate = rate.clamp(1, 240);
        self
    }
}

impl PluginGroup for CoplayPlugins {
    fn build(self) -> PluginGroupBuilder {
        PluginGroupBuilder::start::<Self>().add(self.room).add(NetInterpolationPlugin).add(NetDiagnosticsPlugin)
    }
}

/// The room itself. Added by [`CoplayPlugins`].
#[derive(Clone, Debug)]
pub struct RoomPlugin {
    join: Option<JoinRoom>,
    tick_rate: u16,
    blobs: Option<BlobPolicy>,
    conditions: Conditions,
}

impl Default for RoomPlugin {
    fn default() -> Self {
        Self { join: None, tick_rate: TICK_RATE, blobs: None, conditions: Conditions::PERFECT }
    }
}

impl Plugin for RoomPlugin {
    fn build(&self, app: &mut App) {
        if !app.is_plugin_added::<TimePlugin>() {
            app.add_plugins(TimePlugin);
        }
        if !app.is_plugin_added::<StatesPlugin>() {
            app.add_plugins(StatesPlugin);
        }
        let state = if self.join.is_some() { RoomState::Joining } else { RoomState::Offline };
        app.insert_state(state)
            .register_type_state::<RoomState>()
            .register_type::<Room>()
            .register_type::<SceneId>()
            .insert_resource(Room { state, ..Room::default() })
            .insert_resource(Time::<Fixed>::from_hz(self.tick_rate.into()))
            .insert_resource(TickRate(self.tick_rate))
            .init_resource::<Net>()
            .init_resource::<Clock>()
            .init_resource::<Refs>()
            .init_resource::<Absent>()
            .init_resource::<Parked>()
            .init_resource::<collect::Pace>();
        app.world_mut().init_non_send::<Links>();
        schedule::configure(app);
        registry::add_built_in(app);
        app.add_plugins(blobs::plugin);
        if let Some(policy) = &self.blobs {
            app.insert_resource(policy.clone());
        }
        conditions::start(app, self.conditions);
        app.add_plugins((
            control::plugin,
            crowd::plugin,
            peers::plugin,
            join::plugin,
            kick::plugin,
            lobby::plugin,
            settings::plugin,
        ));
        let join = self.join.clone();
        app.add_systems(PreStartup, |world: &mut World| _ = registry::table(world))
            .add_systems(PostStartup, move |world: &mut World| match &join {
                Some(asked) if cfg!(target_arch = "wasm32") => world.insert_resource(Due(asked.clone(), FIRST_FRAMES)),
                Some(asked) => join::join(world, asked),
                None => offline::enter(world),
            })
            .add_systems(Last, join_when_due.run_if(resource_exists::<Due>))
            .add_systems(PreUpdate, net::poll.in_set(NetSystems::Poll))
            .add_systems(PreUpdate, apply::apply.in_set(NetSystems::Apply))
            .add_systems(FixedPreUpdate, inputs::say.after(NetSystems::Input))
            .add_systems(FixedLast, collect::count)
            .add_systems(PostUpdate, collect::collect.in_set(NetSystems::Collect))
            .add_systems(PostUpdate, collect::flush.in_set(NetSystems::Flush))
            .add_systems(Last, net::part);
    }
}

/// A page stands still for seconds in its first frames, while it makes what it draws with. Who is in a room by then does not
/// answer those who want to connect, and is relayed or given up.
const FIRST_FRAMES: u32 = 5;

/// The room that is joined in so many frames.
#[derive(Resource)]
struct Due(JoinRoom, u32);

fn join_when_due(world: &mut World) {
    let due = &mut *world.resource_mut::<Due>();
    due.1 = due.1.saturating_sub(1);
    if due.1 == 0
        && let Some(Due(asked, _)) = world.remove_resource::<Due>()
        // The game may have decided otherwise.
        && world.resource::<Room>().state == RoomState::Joining
        && world.non_send::<Links>().0.is_none()
    {
        join::join(world, &asked);
    }
}

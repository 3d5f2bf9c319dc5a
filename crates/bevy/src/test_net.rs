//! How is a game tested with several peers? Several apps in one process, over memory, in time that only passes when told.

use core::{fmt, time::Duration};

use bevy_app::{App, TaskPoolPlugin};
use bevy_ecs::{observer::On, resource::Resource, system::Commands};
use bevy_state::{app::StatesPlugin, state::State};
use bevy_time::{TimePlugin, TimeUpdateStrategy};
use coplay_proto::{Topology, conditioner::Conditions};
use coplay_socket::MemoryHub;

use crate::{
    join::{JoinRoom, TICK_RATE},
    net::Clock,
    plugin::CoplayPlugins,
    room::{Room, RoomFailed, RoomState},
};

/// The room that everybody joins.
const ROOM: &str = "test";
/// Of the network's fate.
const SEED: u64 = 0x00C0_91A7;
/// How long it may take to join, in ticks of the test: 20 seconds.
const JOIN_TICKS: u32 = 20 * TICK_RATE as u32;

/// Peers of one game in one process, connected over memory. Time passes only in [`Self::step`]: the same test does the
/// same every time, on every machine.
///
/// ```
/// # use bevy_app::prelude::*;
/// # use bevy_ecs::prelude::*;
/// # use bevy_coplay::{Conditions, prelude::*};
/// #[derive(Component, Networked, Clone)]
/// struct Score(u32);
///
/// let mut net = TestNet::mesh(2, |app| _ = app.add_net::<Score>()).with(Conditions::CELLULAR);
/// net.app(0).world_mut().spawn((Score(3), Shared));
/// net.run_secs(2.0);
/// let there = net.app(1).world_mut();
/// assert_eq!(there.query::<&Score>().single(there).unwrap().0, 3);
/// ```
pub struct TestNet {
    topology: Topology,
    hub: MemoryHub,
    setup: Box<dyn FnMut(&mut App)>,
    peers: Vec<Option<App>>,
    now: Duration,
}

impl fmt::Debug for TestNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestNet").field("topology", &self.topology).field("now", &self.now).finish_non_exhaustive()
    }
}

/// Why a peer is not in the room, if it is not.
#[derive(Resource, Default)]
struct Problem(Option<String>);

impl TestNet {
    /// So many peers that have joined a mesh. Each is an app with [`CoplayPlugins`], time and states, and what the
    /// closure adds: it is called once for each.
    ///
    /// # Panics
    /// A peer cannot join.
    pub fn mesh(peers: usize, setup: impl FnMut(&mut App) + 'static) -> Self {
        Self::new(Topology::Mesh, setup).joined(peers)
    }

    /// So many peers that have joined a host, which is the first of them.
    ///
    /// # Panics
    /// A peer cannot join.
    pub fn host(peers: usize, setup: impl FnMut(&mut App) + 'static) -> Self {
        Self::new(Topology::Host, setup).joined(peers)
    }

    /// Nobody yet.
    pub fn new(topology: Topology, setup: impl FnMut(&mut App) + 'static) -> Self {
        Self {
            topology,
            hub: MemoryHub::with(Conditions::PERFECT, SEED),
            setup: Box::new(setup),
            peers: Vec::new(),
            now: Duration::ZERO,
        }
    }

    fn joined(mut self, peers: usize) -> Self {
        for _ in 0..peers {
            self.add();
        }
        self.wait_joined();
        self
    }

    /// From now on the network between all peers is like this. At first it is perfect.
    #[must_use]
    pub fn with(mut self, conditions: Conditions) -> Self {
        self.set_conditions(conditions);
        self
    }

    /// From now on the network between all peers is like this.
    pub fn set_conditions(&mut self, conditions: Conditions) {
        self.hub.set(conditions);
    }

    /// From now on the network between this peer and all others is like this.
    ///
    /// # Panics
    /// There is no such peer any more, or it has not joined.
    pub fn set_conditions_of(&mut self, index: usize, conditions: Conditions) {
        let peer = self.app(index).world().resource::<Room>().me();
        let members = self.hub.members();
        assert!(members.contains(&peer), "the peer has not joined");
        for other in members {
            self.hub.set_between(peer, other, conditions);
            self.hub.set_between(other, peer, conditions);
        }
    }

    /// Another peer, on its way into the room. Returns its index.
    pub fn add(&mut self) -> usize {
        self.add_with(CoplayPlugins::joining(self.way_in()))
    }

    /// Another peer, which plays offline. Returns its index.
    pub fn add_offline(&mut self) -> usize {
        self.add_with(CoplayPlugins::offline())
    }

    /// A peer that is in no room goes on its way into this one.
    ///
    /// # Panics
    /// There is no such peer any more.
    pub fn rejoin(&mut self, index: usize) {
        let join = self.way_in();
        self.app(index).world_mut().trigger(join);
    }

    fn way_in(&self) -> JoinRoom {
        let hub = self.hub.clone();
        let join = JoinRoom::room(ROOM).inline(move |_| hub.socket());
        match self.topology {
            Topology::Host => join.host(),
            Topology::Mesh => join.mesh(),
        }
    }

    fn add_with(&mut self, plugins: CoplayPlugins) -> usize {
        let mut app = App::new();
        app.add_plugins((TaskPoolPlugin::default(), TimePlugin, StatesPlugin))
            .insert_resource(TimeUpdateStrategy::ManualDuration(Self::tick()))
            .init_resource::<Problem>()
            .add_observer(|failed: On<RoomFailed>, mut commands: Commands| {
                commands.insert_resource(Problem(Some(failed.error.to_string())));
            })
            .add_plugins(plugins);
        app.world_mut().resource_mut::<Clock>().start = self.now;
        (self.setup)(&mut app);
        app.finish();
        app.cleanup();
        self.peers.push(Some(app));
        self.peers.len() - 1
    }

    /// Another peer, which has joined. Returns its index.
    ///
    /// # Panics
    /// It cannot join.
    pub fn add_late(&mut self) -> usize {
        let index = self.add();
        self.wait_joined();
        index
    }

    /// How much time one step is.
    pub fn tick() -> Duration {
        Duration::from_secs_f64(1.0 / f64::from(TICK_RATE))
    }

    /// Every peer runs so many frames, in turn, each of one tick.
    pub fn step(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.now += Self::tick();
            for app in self.peers.iter_mut().flatten() {
                app.update();
            }
        }
    }

    /// As [`Self::step`], for so many seconds.
    pub fn run_secs(&mut self, seconds: f32) {
        self.step((seconds * f32::from(TICK_RATE)).ceil() as u32);
    }

    /// A peer's app.
    ///
    /// # Panics
    /// There is no such peer any more.
    pub fn app(&mut self, index: usize) -> &mut App {
        self.peers.get_mut(index).and_then(Option::as_mut).expect("the peer was never added, or is gone")
    }

    /// The peers that are there, each with its index.
    pub fn apps(&mut self) -> impl Iterator<Item = (usize, &mut App)> {
        self.peers.iter_mut().enumerate().filter_map(|(index, app)| Some((index, app.as_mut()?)))
    }

    /// The peer's process dies: without a goodbye, so that the others find out by its silence, after 10 seconds.
    pub fn kill(&mut self, index: usize) {
        let me = self.app(index).world().resource::<Room>().me();
        self.hub.vanish(me);
        self.peers[index] = None;
    }

    /// The peer's process ends as it should: with a goodbye.
    pub fn end(&mut self, index: usize) {
        self.app(index);
        self.peers[index] = None;
    }

    fn wait_joined(&mut self) {
        let joined = |app: &App| *app.world().resource::<State<RoomState>>().get() == RoomState::Joined;
        for _ in 0..JOIN_TICKS {
            if self.peers.iter().flatten().all(joined) {
                return;
            }
            self.step(1);
        }
        if let Some((index, app)) = self.apps().find(|(_, app)| !joined(app)) {
            let problem = app.world().resource::<Problem>().0.as_deref();
            panic!("peer {index} has not joined: {}", problem.unwrap_or("it is still on its way"));
        }
    }
}

//! Multiplayer for Bevy games over WebRTC: shared state and events, native and in the browser, without a game server.
//!
//! A whole game, but for its looks. One word makes a host of the first peer: `.host()` instead of `.mesh()`.
//!
//! ```
//! # use bevy_app::prelude::*;
//! # use bevy_color::prelude::*;
//! # use bevy_ecs::prelude::*;
//! # use bevy_math::prelude::*;
//! # use bevy_time::prelude::*;
//! use bevy_coplay::prelude::*;
//!
//! #[derive(Component, Networked, Clone, Default)]
//! #[net(interpolate)]
//! struct Pos { #[net(step = 0.01, range = -512.0..=512.0)] xy: Vec2 }
//!
//! #[derive(Component, Networked, Clone, Default)]
//! struct Tint(Color);
//!
//! #[derive(Component, NetInput, Clone, Default)]
//! struct Move(Vec2);
//!
//! #[derive(NetEvent, Clone)]
//! struct Honk { by: Option<Entity> }
//!
//! fn game(app: &mut App) {
//!     app.add_net::<(Pos, Tint, Move, Honk)>()
//!         .add_observer(enter)
//!         .add_observer(|honk: On<Received<Honk>>| println!("honk from {}", honk.from))
//!         .add_systems(FixedPreUpdate, read_keys.in_set(NetSystems::Input))
//!         .add_systems(Simulate, drive)
//!         .add_systems(Update, honk);
//! }
//!
//! fn enter(player: On<PlayerEntered>, mut commands: Commands) {
//!     commands.spawn((Pos::default(), Tint(player.color()), Move::default(), ControlledBy(player.id())));
//! }
//!
//! fn read_keys(mut mine: Query<&mut Move, With<Mine>>) {
//!     for mut go in &mut mine { go.0 = Vec2::X; }
//! }
//!
//! // Written once for every role.
//! fn drive(mut cars: Query<(&mut Pos, &Move), With<Simulated>>, time: Res<Time>) {
//!     for (mut pos, go) in &mut cars { pos.xy += go.0 * 5.0 * time.delta_secs(); }
//! }
//!
//! fn honk(mine: Query<Entity, Added<Mine>>, mut commands: Commands) {
//!     for car in &mine { commands.net_trigger(Honk { by: Some(car) }); }
//! }
//!
//! # let play_for_real = |app: &mut App| {
//! app.add_plugins(CoplayPlugins::room("bumper-cars").mesh()).add_plugins(game);
//! # };
//!
//! // Here three of them play in one process, for as long as it takes to read this.
//! let mut net = TestNet::mesh(3, game);
//! net.run_secs(2.0);
//! for peer in 0..3 {
//!     let world = net.app(peer).world_mut();
//!     let cars: Vec<_> = world.query::<&Pos>().iter(world).map(|pos| pos.xy.x).collect();
//!     assert_eq!(cars.len(), 3);
//!     assert!(cars.iter().all(|x| *x > 5.0));
//! }
//! ```
//!
//! # What is shared
//!
//! * Types are named by [`add_net`](AppNetExt::add_net) while the app is built. They derive [`Networked`] (state: the
//!   newest value wins), [`NetInput`] (from a player to the owner) or [`NetEvent`] (once and in order, unless the type
//!   says otherwise).
//! * Entities are shared if they have [`Shared`], which [`ControlledBy`] and [`SceneId`] bring along.
//!   Their components of other types stay at home, and so does `ChildOf`, unless both entities are shared.
//! * Each entity has one owner: [`Owned`] there, and nowhere else. In a mesh, and under a host too, it is whoever
//!   spawned it. [`Mine`] is what is controlled from here. What others write is undone.
//! * References to entities, in components and events, are those of the reader's world. What is not shared, or gone,
//!   is `None`. What is on its way is filled in when it comes, where a component names it; an event waits for it, and to
//!   be as new as it was for the sender, for two and a half seconds at most. Other channels of events do not wait:
//!   [`NetEvent`].
//! * An event is for a [`Target`]: everyone, the host, one peer, who sees an entity. If there is no room for it, it is not
//!   sent, and comes back: [`Unsent`]. [`EventCounts`] counts those, and those that came without what they name.
//!
//! # From a remote entity to its looks
//!
//! What an entity looks like is not shared: every peer gives its own looks to what appears, wherever it came from. All
//! components arrive together, so that an observer of one finds the others:
//!
//! ```
//! # use bevy_app::prelude::*;
//! # use bevy_ecs::prelude::*;
//! # use bevy_coplay::prelude::*;
//! # #[derive(Component, Default)] struct Sprite(u8);
//! # #[derive(Component, Default)] struct Trail;
//! #[derive(Component, Networked, Clone, Default)]
//! #[require(Trail)]                       // as simple as that, if every `Car` looks the same
//! struct Car { #[net(range = 0..=7)] paint: u8 }
//!
//! fn dress(car: On<Add, Car>, cars: Query<&Car>, mut commands: Commands) -> Result {
//!     let paint = cars.get(car.entity)?.paint;
//!     commands.entity(car.entity).insert(Sprite(paint));
//!     Ok(())
//! }
//!
//! let mut net = TestNet::host(2, |app| _ = app.add_net::<Car>().add_observer(dress));
//! net.app(0).world_mut().spawn((Car { paint: 5 }, Shared));
//! net.run_secs(0.5);
//! let there = net.app(1).world_mut();
//! let sprite = there.query_filtered::<&Sprite, (With<Car>, With<Trail>)>().single(there).unwrap();
//! assert_eq!(sprite.0, 5);
//! ```
//!
//! # What is large
//!
//! Levels, replays and pictures go by [`send_blob`](BlobCommandsExt::send_blob): to one peer, in chunks, beside the game.
//! What a peer takes, its [`BlobPolicy`] says; the default is nothing. What everybody needs belongs on an HTTP server.
//!
//! # When a connection breaks
//!
//! A peer that is not heard for 2 s is [`Unresponsive`]; meanwhile another connection to it is made, as after a change of
//! networks, and what was on its way is repeated (but for unreliable events). After 10 s it has left: [`PeerLeft`].
//! Signaling is needed to meet, and not to play: while it is away the game goes on, and when it is back, this peer is in
//! the room again as who it was.
//!
//! # When things happen
//!
//! | schedule | what |
//! |---|---|
//! | `PreUpdate` | [`NetSystems::Poll`], then [`NetSystems::Apply`]: what has come is in the world, its observers run |
//! | `FixedPreUpdate` | [`NetSystems::Input`]: the game writes its inputs |
//! | [`Simulate`] | the game's rules, on what is [`Simulated`] |
//! | `PostUpdate` | [`NetSystems::Collect`], then [`NetSystems::Flush`]: what has changed is sent, once for the ticks of a frame |

mod absent;
mod apply;
mod blob_policy;
mod blobs;
mod child;
mod collect;
mod component;
mod conditions;
mod control;
mod crowd;
mod diagnostics;
mod event_counts;
mod event_type;
mod events;
mod input_type;
mod inputs;
mod interpolate;
mod join;
mod kick;
mod lobby;
mod net;
mod offline;
mod parked;
mod part;
mod peers;
mod plugin;
mod refs;
mod registry;
mod relay;
mod room;
mod scene;
mod schedule;
mod settings;
mod snapshot;
mod spawn;
mod target;
// A game is tested on the machine that it is written on: the sockets in memory do not cross threads on the web.
#[cfg(not(target_arch = "wasm32"))]
mod test_net;

// types
// The derives name this crate by its path, also within it.
extern crate self as bevy_coplay;

mod field;
mod net_type;

#[doc(hidden)]
pub use net_type::derived as __private;

pub use coplay_macros::{NetEvent, NetField, NetInput, Networked};
pub use field::{Accepts, FieldOptions, MAX_ITEMS, MAX_TEXT, NetField, Precision};
pub use net_type::{EncodeError, EntityRefs, NetEvent, NetInput, NetType, Networked, Register, Registrar};
// end of types

pub use blob_policy::BlobPolicy;
pub use blobs::{
    AcceptBlob, BlobChunk, BlobCommandsExt, BlobFailed, BlobOffered, BlobProgress, BlobReceived, BlobSent,
    BlobTransfer, CancelBlob, RefuseBlob,
};
pub use conditions::LinkConditions;
pub use control::{ControlledBy, Mine, NetEntity, Owned, Shared, Simulated};
pub use coplay_proto::{
    MemberId, NetId, PeerId, Topology,
    bulk::{
        Blob, Digest as BlobDigest, Failure as BlobFailure, Refusal as BlobRefusal, Source as BlobSource,
        Unsendable as BlobUnsendable,
    },
    conditioner::{Bursts, Conditions},
    link::{Cause as QualityCause, Quality as PeerQuality},
    session::{Denied, DisconnectReason, SendError},
    signal::{
        IceServer, SignalError,
        lobby::{Lobby, Metadata, TooLong},
    },
};
pub use coplay_socket::{IceTransportPolicy, PathKind, RelayPolicy, Socket, SocketError};
pub use crowd::MeshCrowded;
pub use diagnostics::NetDiagnosticsPlugin;
pub use event_counts::EventCounts;
pub use events::{EventNotAdded, NetCommandsExt, Received, Unsent, UnsentError};
pub use interpolate::NetInterpolationPlugin;
pub use join::{JoinRoom, LeaveRoom};
pub use kick::KickPeer;
pub use lobby::{Lobbies, LobbiesChanged, LobbiesError, LobbiesFailed, LobbiesState, UnwatchLobbies, WatchLobbies};
pub use peers::{Peer, PeerDenied, PeerJoined, PeerLeft, PeerPath, PeerRefused, PlayerEntered, Unresponsive};
pub use plugin::{CoplayPlugins, RoomPlugin};
pub use registry::AppNetExt;
pub use room::{BadRoomName, Room, RoomError, RoomFailed, RoomState};
pub use scene::SceneId;
pub use schedule::{NetSystems, Simulate};
pub use settings::{ChangeRoom, MatchWaiting, RoomChanged, RoomDenial, RoomDenied};
pub use snapshot::snapshot;
pub use target::Target;
#[cfg(not(target_arch = "wasm32"))]
pub use test_net::TestNet;

/// What a game uses: `use bevy_coplay::prelude::*;`
pub mod prelude {
    #[cfg(not(target_arch = "wasm32"))]
    pub use crate::TestNet;
    pub use crate::{
        AcceptBlob, AppNetExt, Blob, BlobChunk, BlobCommandsExt, BlobFailed, BlobFailure, BlobOffered, BlobPolicy,
        BlobProgress, BlobReceived, BlobSent, BlobTransfer, CancelBlob, ChangeRoom, ControlledBy, CoplayPlugins,
        DisconnectReason, JoinRoom, KickPeer, LeaveRoom, LinkConditions, Lobbies, LobbiesChanged, LobbiesFailed,
        LobbiesState, Lobby, MatchWaiting, MeshCrowded, Metadata, Mine, NetCommandsExt, NetEntity, NetEvent, NetField,
        NetInput, NetSystems, Networked, Owned, PathKind, Peer, PeerDenied, PeerId, PeerJoined, PeerLeft, PeerPath,
        PeerQuality, PeerRefused, PlayerEntered, QualityCause, Received, RefuseBlob, Room, RoomChanged, RoomDenied,
        RoomFailed, RoomState, SceneId, Shared, Simulate, Simulated, Target, Topology, Unresponsive, Unsent,
        UnwatchLobbies, WatchLobbies,
    };
}

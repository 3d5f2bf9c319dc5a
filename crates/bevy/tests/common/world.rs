//! What do the tests share? A few types, and short ways to look into a world.

#![allow(dead_code, reason = "not every test uses all of it")]

use bevy_app::prelude::*;
use bevy_coplay::{NetId, prelude::*, snapshot};
use bevy_ecs::{prelude::*, query::QueryFilter, system::IntoObserverSystem};

#[derive(Component, Networked, Clone, Debug, Default, PartialEq)]
pub(crate) struct Health(pub u16);

#[derive(Component, Networked, Clone, Debug, Default, PartialEq)]
pub(crate) struct Label(pub String);

#[derive(Component, Networked, Clone, Debug, PartialEq)]
pub(crate) struct Aim(pub Option<Entity>);

#[derive(Component, Networked, Clone, Debug, Default, PartialEq)]
#[net(interpolate)]
pub(crate) struct Slide(pub f32);

#[derive(Component, NetInput, Clone, Debug, Default, PartialEq)]
pub(crate) struct Steer(pub i8);

#[derive(NetEvent, Clone, Debug, PartialEq)]
pub(crate) struct Say {
    pub number: u32,
    pub about: Option<Entity>,
    pub text: String,
}

/// What was seen, in order.
#[derive(Resource, Clone, Debug, PartialEq)]
pub(crate) struct Log<T: Send + Sync + 'static>(pub Vec<T>);

impl<T: Send + Sync + 'static> Default for Log<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// Shares all the types.
pub(crate) fn types(app: &mut App) {
    app.add_net::<(Health, Label, Aim, Slide, Steer, Say)>();
}

/// Adds an observer and a log for it.
pub(crate) fn log<E: Event, T: Send + Sync + 'static, M>(app: &mut App, observer: impl IntoObserverSystem<E, (), M>) {
    app.init_resource::<Log<T>>().add_observer(observer);
}

/// What was logged.
pub(crate) fn logged<T: Clone + Send + Sync + 'static>(app: &App) -> Vec<T> {
    app.world().resource::<Log<T>>().0.clone()
}

/// Values of all components of a type, in the order of the names of their entities.
pub(crate) fn all<T: Component + Clone>(app: &mut App) -> Vec<T> {
    all_with::<T, ()>(app)
}

/// As [`all`], of some entities.
pub(crate) fn all_with<T: Component + Clone, F: QueryFilter>(app: &mut App) -> Vec<T> {
    let world = app.world_mut();
    let mut found: Vec<(Option<NetId>, T)> = world
        .query_filtered::<(Option<&NetEntity>, &T), F>()
        .iter(world)
        .map(|(id, t)| (id.map(|id| id.id()), t.clone()))
        .collect();
    found.sort_by_key(|(id, _)| *id);
    found.into_iter().map(|(_, t)| t).collect()
}

/// How many entities there are.
pub(crate) fn count<F: QueryFilter>(app: &mut App) -> usize {
    let world = app.world_mut();
    world.query_filtered::<Entity, F>().iter(world).count()
}

/// The name of an entity.
pub(crate) fn id(app: &App, entity: Entity) -> NetId {
    app.world().get::<NetEntity>(entity).expect("the entity has a name in the room").id()
}

/// The entity with this name.
pub(crate) fn find(app: &mut App, id: NetId) -> Option<Entity> {
    let world = app.world_mut();
    world.query::<(Entity, &NetEntity)>().iter(world).find(|(_, name)| name.id() == id).map(|(entity, _)| entity)
}

pub(crate) fn me(app: &App) -> PeerId {
    app.world().resource::<Room>().me()
}

pub(crate) fn state(app: &App) -> RoomState {
    *app.world().resource::<bevy_state::state::State<RoomState>>().get()
}

/// Every peer sees the same; says what.
pub(crate) fn same(net: &mut TestNet) -> Vec<(NetId, Vec<(String, bytes::Bytes)>)> {
    let all: Vec<_> = net.apps().map(|(index, app)| (index, snapshot(app.world_mut()))).collect();
    let (_, first) = &all[0];
    for (index, other) in &all {
        assert_eq!(other, first, "peer {index} differs from peer {}", all[0].0);
    }
    first.clone()
}

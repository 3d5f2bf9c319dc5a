//! When does what run? The schedule of the game's rules, and the sets of the plugin's systems.

use bevy_app::{App, FixedMainScheduleOrder, FixedPreUpdate, FixedUpdate, PostUpdate, PreUpdate};
use bevy_ecs::schedule::{IntoScheduleConfigs, ScheduleLabel, SystemSet};

/// The rules of the game: runs once a tick of the fixed loop, right after [`FixedUpdate`].
///
/// What moves entities with [`Simulated`](crate::Simulated) belongs here, and nothing else: a prediction runs this
/// schedule again, without the rest of the tick.
#[derive(ScheduleLabel, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Simulate;

/// What the plugin does in a frame, in this order.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NetSystems {
    /// [`PreUpdate`]: takes what has arrived.
    Poll,
    /// [`PreUpdate`], after [`Self::Poll`]: brings the world up to date. The events of the network fire here.
    Apply,
    /// [`FixedPreUpdate`]: the game writes its inputs to what is [`Mine`](crate::Mine). What they are at the end of
    /// the set goes to the owner.
    Input,
    /// [`PostUpdate`]: reads what has changed on the entities that are [`Owned`](crate::Owned) here.
    Collect,
    /// [`PostUpdate`], after [`Self::Collect`]: sends it.
    Flush,
}

/// Gives the sets and [`Simulate`] their places.
pub(crate) fn configure(app: &mut App) {
    app.init_schedule(Simulate)
        .configure_sets(PreUpdate, (NetSystems::Poll, NetSystems::Apply).chain())
        .configure_sets(FixedPreUpdate, NetSystems::Input)
        .configure_sets(PostUpdate, (NetSystems::Collect, NetSystems::Flush).chain());
    app.world_mut().resource_mut::<FixedMainScheduleOrder>().insert_after(FixedUpdate, Simulate);
}

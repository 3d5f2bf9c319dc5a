//! What would the game be like over a worse network? The paths are made so, at start or while it runs.

use bevy_app::{App, PreUpdate};
use bevy_ecs::{change_detection::DetectChanges, resource::Resource, schedule::IntoScheduleConfigs, system::Res};
use coplay_proto::conditioner::Conditions;
use coplay_socket::{Conditioning, Socket};

use crate::schedule::NetSystems;

/// What this peer makes of the paths to all others, for trying a game: latency, jitter, loss and bandwidth of what it
/// sends. Set by [`CoplayPlugins::conditions`](crate::CoplayPlugins::conditions), or by whoever starts the game, and changed
/// at any time:
///
/// ```
/// # use bevy_ecs::prelude::*;
/// # use bevy_coplay::{Conditions, LinkConditions};
/// fn worse(mut paths: ResMut<LinkConditions>) {
///     paths.0 = Conditions { loss: 0.1, ..Conditions::CELLULAR };
/// }
/// ```
///
/// It is for one direction: for both, every peer does the same. [`TestNet`](crate::TestNet) has conditions of its own, and
/// these do not matter there.
#[derive(Resource, Clone, Copy, Debug, PartialEq)]
pub struct LinkConditions(pub Conditions);

/// What the sockets of all rooms go by.
#[derive(Resource)]
pub(crate) struct Applied(Conditioning);

impl Applied {
    /// The socket over paths like these.
    pub(crate) fn to(&self, socket: Box<dyn Socket>) -> Box<dyn Socket> {
        Box::new(self.0.over(socket))
    }
}

/// Begins with these conditions, unless whoever started the game wants others.
///
/// # Panics
/// What was said cannot be read: `N0013`.
pub(crate) fn start(app: &mut App, conditions: Conditions) {
    let said = coplay_socket::conditions().unwrap_or_else(|error| panic!("{error}"));
    let conditions = said.unwrap_or(conditions);
    if conditions != Conditions::PERFECT {
        tracing::warn!("paths are made worse: {conditions}");
    }
    app.insert_resource(LinkConditions(conditions))
        .insert_resource(Applied(Conditioning::new(conditions)))
        .add_systems(PreUpdate, apply.before(NetSystems::Poll));
}

fn apply(wanted: Res<LinkConditions>, applied: Res<Applied>) {
    if wanted.is_changed() && wanted.0 != applied.0.conditions() {
        tracing::info!("paths are made to be like this: {}", wanted.0);
        applied.0.set(wanted.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_resource_says_is_what_sockets_go_by() {
        let mut app = App::new();
        start(&mut app, Conditions::WIFI);
        assert_eq!(app.world().resource::<LinkConditions>().0, Conditions::WIFI);
        assert_eq!(app.world().resource::<Applied>().0.conditions(), Conditions::WIFI);
        app.insert_resource(LinkConditions(Conditions::TERRIBLE));
        app.update();
        assert_eq!(app.world().resource::<Applied>().0.conditions(), Conditions::TERRIBLE);
    }
}

//! How a peer goes through the stages of a match, in step with all the others.

use std::collections::BTreeMap;

use bevy_app::{App, AppExit, Update};
use bevy_coplay::prelude::*;
use bevy_ecs::prelude::*;
use bevy_state::state::State;
use coplay_tests::crossplay::{Order, Reached, Sent};

use crate::{
    desk::{Mailbox, Parameters, monotonic_millis},
    game::Playing,
    measure::{Outbox, Seen},
    world,
};

/// Silence of so many ms is quiet: longer than a lost frame takes to be noticed and sent again.
const QUIET: f64 = 1500.0;
/// After so many ms a peer says what it has, quiet or not.
const PATIENCE: f64 = 30_000.0;

/// Where this peer is. Times are those of the clock that never jumps.
#[derive(Resource, Debug, Default)]
enum Stage {
    /// On its way into the room.
    #[default]
    Joining,
    /// Told what it has reached, and waits for its order.
    Waiting,
    /// Waits to see all the others.
    Meeting,
    Playing {
        until: f64,
    },
    Settling {
        since: f64,
        sent: BTreeMap<String, Sent>,
    },
}

/// How many others are in the room.
#[derive(Resource, Debug, Default)]
struct Others(usize);

pub(crate) fn plugin(app: &mut App) {
    app.init_resource::<Stage>()
        .init_resource::<Others>()
        .init_resource::<Mailbox>()
        .add_observer(|_: On<PeerJoined>, mut others: ResMut<Others>| others.0 += 1)
        .add_observer(left)
        .add_observer(failed)
        .add_systems(Update, (obey, go_on).chain());
}

fn left(peer: On<PeerLeft>, mut others: ResMut<Others>, mailbox: Res<Mailbox>, parameters: Res<Parameters>) {
    others.0 = others.0.saturating_sub(1);
    mailbox.post(&parameters, &Reached::Failed(format!("{} left: {}", peer.id, peer.reason)));
}

fn failed(room: On<RoomFailed>, mailbox: Res<Mailbox>, parameters: Res<Parameters>) {
    mailbox.post(&parameters, &Reached::Failed(room.error.to_string()));
}

/// Does what the desk ordered.
fn obey(
    mailbox: Res<Mailbox>,
    mut stage: ResMut<Stage>,
    mut playing: ResMut<Playing>,
    mut seen: ResMut<Seen>,
    mut exit: MessageWriter<AppExit>,
) {
    let now = monotonic_millis();
    match mailbox.take() {
        None => {}
        Some(Ok(Order::Join)) => {}
        Some(Ok(Order::Meet)) => *stage = Stage::Meeting,
        Some(Ok(Order::Play { seconds })) => {
            playing.0 = true;
            *stage = Stage::Playing { until: now + f64::from(seconds) * 1000.0 };
        }
        Some(Ok(Order::Settle { sent })) => {
            seen.last = now;
            *stage = Stage::Settling { since: now, sent };
        }
        Some(Ok(Order::Leave)) => {
            exit.write(AppExit::Success);
        }
        Some(Err(error)) => {
            bevy_log::error!("{error}");
            exit.write(AppExit::error());
        }
    }
}

/// Tells the desk when the stage is over.
fn go_on(world: &mut World) {
    let now = monotonic_millis();
    let parameters = world.resource::<Parameters>();
    let all_there = world.resource::<Others>().0 + 1 >= parameters.peers;
    let seen = world.resource::<Seen>();
    let outbox = world.resource::<Outbox>().sent;
    let me = world.resource::<Room>().me().to_string();
    let reached = match world.resource::<Stage>() {
        Stage::Joining if *world.resource::<State<RoomState>>().get() == RoomState::Joined => Reached::Joined,
        Stage::Meeting if all_there => Reached::Connected { me },
        Stage::Playing { until } if now >= *until => {
            world.resource_mut::<Playing>().0 = false;
            Reached::Stopped { sent: outbox }
        }
        Stage::Settling { since, sent } => {
            let quiet = now - seen.last > QUIET && seen.has_all(&me, outbox.asked, sent);
            if !quiet && now - since < PATIENCE {
                return;
            }
            let mut findings = seen.findings.clone();
            findings.quiet = quiet;
            findings.world = world::encoded(world);
            Reached::Quiet(Box::new(findings))
        }
        _ => return,
    };
    *world.resource_mut::<Stage>() = Stage::Waiting;
    world.resource::<Mailbox>().post(world.resource::<Parameters>(), &reached);
}

//! One peer of `cargo xtask crossplay`, native or in a browser: the same game, told what to do by the desk.
#![forbid(unsafe_code)]

use core::time::Duration;

use bevy_app::{App, PanicHandlerPlugin, ScheduleRunnerPlugin, TaskPoolPlugin};
use bevy_coplay::{Conditions, prelude::*};
use bevy_log::LogPlugin;
use bevy_state::app::StatesPlugin;
use bevy_time::TimePlugin;
use coplay_socket::{Conditioned, SocketConfig};

use crate::desk::Parameters;

mod desk;
mod game;
mod measure;
mod stages;
mod world;

/// Of what is lost, where something is to be.
const SEED: u64 = 7;
/// As a game on a 60 Hz screen.
const FRAME: Duration = Duration::from_micros(16_667);

fn main() {
    desk::when_told_to_join(|parameters| {
        play(parameters);
    });
}

/// Enters the room and plays until the desk has seen enough.
fn play(parameters: Parameters) {
    let room = CoplayPlugins::room(&parameters.room).signaling(&parameters.signaling);
    let room = match parameters.loss {
        _ if parameters.matchbox => room.matchbox(),
        0.0 => room,
        loss => room.socket(move |url| {
            let conditions = Conditions { loss, ..Conditions::PERFECT };
            Box::new(Conditioned::new(coplay_socket::connect(SocketConfig::new(url)), conditions, SEED))
        }),
    };
    App::new()
        .add_plugins((
            PanicHandlerPlugin,
            LogPlugin::default(),
            TaskPoolPlugin::default(),
            TimePlugin,
            ScheduleRunnerPlugin::run_loop(FRAME),
            StatesPlugin,
            if parameters.host { room.host() } else { room.mesh() },
        ))
        .insert_resource(parameters)
        .add_plugins((game::plugin, measure::plugin, stages::plugin))
        .run();
}

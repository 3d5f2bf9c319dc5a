//! One peer of `cargo xtask crossplay`, native or in a browser: the same game, told what to do by the desk.
#![forbid(unsafe_code)]

use core::time::Duration;

use bevy_app::{App, PanicHandlerPlugin, ScheduleRunnerPlugin, TaskPoolPlugin};
use bevy_coplay::prelude::*;
use bevy_log::LogPlugin;
use bevy_state::app::StatesPlugin;
use bevy_time::TimePlugin;

use crate::desk::Parameters;

mod desk;
mod game;
mod measure;
mod stages;
mod world;

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
    let room = if parameters.matchbox { room.matchbox() } else { room };
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

//! A top-down shoot-out for a minute or for an evening: native, in the browser, or headless with bots.
//!
//! What you should see: ships in the colours of their players, the room's name or join code at the top, the score with each player's
//! ping and path at the right, and a chat line at the bottom. Without a room in the options, a menu comes first.

#![allow(unreachable_pub, reason = "in a game of one program, `pub` is shorter and says the same")]

mod bots;
mod chat;
mod controls;
mod game;
mod hud;
mod look;
mod menu;
mod options;
mod orbs;
mod sparks;

use bevy::{app::ScheduleRunnerPlugin, log::LogPlugin, prelude::*, state::app::StatesPlugin};
use bevy_coplay::prelude::*;
use options::Options;

/// How long to wait, in seconds, before a room is asked for once more.
const AGAIN: f32 = 3.0;

fn main() -> AppExit {
    let options = Options::from_environment();
    let mut app = App::new();
    if options.headless {
        let frame = core::time::Duration::from_secs_f64(1.0 / 60.0);
        let frames = ScheduleRunnerPlugin::run_loop(frame);
        app.add_plugins((MinimalPlugins.set(frames), StatesPlugin, LogPlugin::default())).add_observer(failed);
    } else {
        let window = WindowPlugin { primary_window: Some(options.window()), ..default() };
        app.add_plugins(DefaultPlugins.set(window));
        app.add_plugins((controls::plugin, look::plugin, sparks::plugin, hud::plugin, chat::plugin, menu::plugin));
    }
    app.add_plugins((options.net(), game::plugin, orbs::plugin, bots::plugin)).insert_resource(options);
    app.run()
}

/// Why it failed is in the log. Without a window there is no menu to ask for another room.
fn failed(failed: On<RoomFailed>, options: Res<Options>, mut commands: Commands, mut exits: MessageWriter<AppExit>) {
    match options.join() {
        Some(join) if failed.error.is_temporary() => {
            info!("trying again in {AGAIN} s ...");
            commands.delayed().secs(AGAIN).trigger(join);
        }
        _ => _ = exits.write(AppExit::error()),
    }
}

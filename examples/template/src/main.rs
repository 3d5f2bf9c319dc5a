//! Hot potato on ice, for up to 16: bump into somebody to be rid of it.

mod game;
mod look;

use bevy::{app::ScheduleRunnerPlugin, log::LogPlugin, prelude::*, state::app::StatesPlugin};
use bevy_coplay::prelude::*;

const HELP: &str = "hot-potato [ROOM] [--headless]

  ROOM         meet in the room of this name (default: hot-potato); on the page it is ?room=ROOM
  --headless   one more player, without a window: it keeps the room, or tries the game with you

Players meet by a signaling server: COPLAY_SIGNALING=ws://HOST:3536 in the environment says where it is.";

/// Where players meet: what was in the environment when this was compiled, such as `SIGNALING=wss://play.example.org`.
/// Without it: where the page is from, what its URL says (`?signaling=`), `COPLAY_SIGNALING`, or this machine.
const SIGNALING: Option<&str> = option_env!("SIGNALING");

/// How long to wait, in seconds, before a room is asked for once more.
const AGAIN: f32 = 3.0;

fn main() -> AppExit {
    let asked = |flag: &str| std::env::args().any(|word| word == flag);
    if asked("--help") || asked("-h") {
        println!("{HELP}");
        return AppExit::Success;
    }
    let join = JoinRoom::room(room().unwrap_or_else(|| "hot-potato".into())).mesh(); // or .host()
    let join = match SIGNALING {
        Some(url) => join.signaling(url),
        None => join,
    };
    let headless = asked("--headless");
    let mut app = App::new();
    if headless {
        let frames = ScheduleRunnerPlugin::run_loop(core::time::Duration::from_secs_f64(1.0 / 60.0));
        app.add_plugins((MinimalPlugins.set(frames), StatesPlugin, LogPlugin::default()));
    } else {
        // The page's canvas is named here; on native these two say nothing.
        let window = Window { canvas: Some("#game".into()), fit_canvas_to_parent: true, ..default() };
        app.add_plugins(DefaultPlugins.set(WindowPlugin { primary_window: Some(window), ..default() }));
        app.add_plugins(look::plugin);
    }
    app.add_plugins((CoplayPlugins::joining(join.clone()), game::plugin))
        .insert_resource(Wanted { join, headless })
        .add_observer(failed)
        .run()
}

/// The room that was asked for, to ask for it again.
#[derive(Resource)]
struct Wanted {
    join: JoinRoom,
    headless: bool,
}

/// Why it failed is in the log, and in the window. Without a window nobody would see that it stays that way.
fn failed(failed: On<RoomFailed>, wanted: Res<Wanted>, mut commands: Commands, mut exits: MessageWriter<AppExit>) {
    if failed.error.is_temporary() {
        info!("trying again in {AGAIN} s ...");
        commands.delayed().secs(AGAIN).trigger(wanted.join.clone());
    } else if wanted.headless {
        exits.write(AppExit::error());
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn room() -> Option<String> {
    std::env::args().skip(1).find(|word| !word.starts_with('-'))
}

#[cfg(target_arch = "wasm32")]
fn room() -> Option<String> {
    let search = web_sys::window()?.location().search().ok()?;
    web_sys::UrlSearchParams::new_with_str(&search).ok()?.get("room")
}

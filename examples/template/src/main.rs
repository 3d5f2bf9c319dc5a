//! Hot potato on ice, for up to 16: bump into somebody to be rid of it.
//!
//! `hot-potato [ROOM] [--headless]`; on the page `?room=ROOM`. Players of one room meet.

mod game;
mod look;

use bevy::{app::ScheduleRunnerPlugin, log::LogPlugin, prelude::*, state::app::StatesPlugin};
use bevy_coplay::prelude::*;

/// Where players meet: what was in the environment when this was compiled, such as `SIGNALING=wss://play.example.org`.
/// Without it: where the page is from, what its URL says (`?signaling=`), or this machine.
const SIGNALING: Option<&str> = option_env!("SIGNALING");

fn main() -> AppExit {
    let net = CoplayPlugins::room(room().unwrap_or_else(|| "hot-potato".into())).mesh(); // or .host()
    let net = match SIGNALING {
        Some(url) => net.signaling(url),
        None => net,
    };
    let log = LogPlugin { filter: bevy_coplay::LOG_FILTER.into(), ..default() };
    let mut app = App::new();
    if std::env::args().any(|word| word == "--headless") {
        // One more player, without a window: it keeps the room, or tries the game with you.
        let frames = ScheduleRunnerPlugin::run_loop(core::time::Duration::from_secs_f64(1.0 / 60.0));
        app.add_plugins((MinimalPlugins.set(frames), StatesPlugin, log));
    } else {
        // The page's canvas is named here; on native these two say nothing.
        let window = Window { canvas: Some("#game".into()), fit_canvas_to_parent: true, ..default() };
        app.add_plugins(DefaultPlugins.set(log).set(WindowPlugin { primary_window: Some(window), ..default() }));
        app.add_plugins(look::plugin);
    }
    app.add_plugins((net, game::plugin)).run()
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

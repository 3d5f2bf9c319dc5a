//! The peer as a process: what it is told stands on its command line, what it says goes to its standard output.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::{
    env,
    sync::Arc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Peer, Settings, say};

/// How long nothing is looked after at the longest.
const NAP: Duration = Duration::from_millis(2);

pub(super) fn run() {
    let arguments: Vec<_> = env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument.strip_prefix("--") == Some(name))?;
        arguments.get(at + 1).cloned()
    };
    let settings = match Settings::read(value) {
        Ok(settings) => settings,
        Err(reason) => return say("failed", serde_json::json!({ "reason": reason })),
    };
    let mut socket = coplay_socket::connect(settings.config());
    let me = thread::current();
    socket.set_waker(Arc::new(move || me.unpark()));
    let mut peer = Peer::new(socket, settings);
    loop {
        peer.turn();
        thread::park_timeout(NAP);
    }
}

/// In ms since 1970.
pub(super) fn time_of_day() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}

pub(super) fn print(line: &str) {
    println!("{line}");
}

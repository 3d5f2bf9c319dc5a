//! The peer as a page: what it is stands in its URL, what it says goes to the console. Its frames are the browser's.

use coplay_bench_stacks::program::{each_frame, time_of_day};
use serde_json::json;

use crate::{
    Settings,
    coplay::Coplay,
    game::{Connection, Game},
    say,
    tally::Tally,
};

mod webrtc;
mod websocket;

pub(super) fn run() {
    if let Err(reason) = play() {
        say(&json!({ "event": "failed", "reason": reason }));
    }
}

fn play() -> Result<(), String> {
    let settings = Settings::read()?;
    if settings.leads {
        return Err("a page is side B".to_owned());
    }
    let connections = connect(&settings)?;
    let mut games: Vec<_> = connections
        .into_iter()
        .enumerate()
        .map(|(number, connection)| Game::new(connection, settings.state, number as u64))
        .collect();
    let mut tally = Tally::new(settings.ages);
    let (mut told, mut open) = (time_of_day(), 0);
    each_frame(move || {
        games.iter_mut().for_each(|game| game.frame(&mut tally));
        if time_of_day() - told > 1e3 {
            told = time_of_day();
            tally.tell();
            tally.tell_ages();
            let now_open = games.iter().filter(|game| game.is_open()).count();
            if now_open != open {
                open = now_open;
                say(&json!({ "event": "open", "count": open }));
            }
        }
    });
    Ok(())
}

fn connect(settings: &Settings) -> Result<Vec<Box<dyn Connection>>, String> {
    let numbers = 0..settings.count;
    let url = format!("ws://{}/", settings.address);
    match settings.stack.as_str() {
        "coplay_event" => {
            let meet = |number| -> Box<dyn Connection> { Box::new(Coplay::meet(&format!("{url}loss-{number}"))) };
            Ok(numbers.map(meet).collect())
        }
        "websocket" => numbers.map(|_| websocket::connect(&url)).collect(),
        "webrtc" => numbers.map(|_| webrtc::connect(&url, settings.bulk)).collect(),
        other => Err(format!("no browser has the stack {other:?}")),
    }
}

//! The peer as a process: what it is stands on its command line, what side A is told comes by its standard input, what it
//! says goes to its standard output.

use std::{
    sync::mpsc::Receiver,
    thread,
    time::{Duration, Instant},
};

use coplay_bench_stacks::{process, program::orders};
use serde_json::json;

use crate::{
    PROGRAM, Settings,
    coplay::Coplay,
    game::{Connection, Game, Told},
    say,
    tally::Tally,
};

mod conditioned;
mod matchbox;
mod piped;
mod renet;
mod webrtc;
mod websocket;

/// Frames a second.
const FRAMES: u32 = 60;
/// Into so many parts is a frame divided, for games whose frames do not begin together.
const PARTS: usize = 4;

pub(super) fn run() {
    if let Err(reason) = play() {
        say(&json!({ "event": "failed", "reason": reason }));
    }
}

fn play() -> Result<(), String> {
    let settings = Settings::read()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    let _entered = runtime.enter();
    let mut games = games(&settings)?;
    say(&json!({ "event": "ready" }));
    let told = settings.leads.then(|| orders::<Told>(PROGRAM));
    let mut tally = Tally::new(settings.ages);
    let (start, part) = (Instant::now(), Duration::from_secs(1) / FRAMES / PARTS as u32);
    let (mut due, mut second, mut open) = (start, 0, 0);
    for at in (0..PARTS).cycle() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        games.iter_mut().filter(|seat| seat.part == at).for_each(|seat| seat.game.frame(&mut tally));
        while let Some(Ok(told)) = told.as_ref().map(Receiver::try_recv) {
            games.iter_mut().filter(|seat| seat.leads).for_each(|seat| seat.game.obey(told));
        }
        if start.elapsed().as_secs() > second {
            second = start.elapsed().as_secs();
            tally.tell();
            tally.tell_ages();
            if let Some(kb) = settings.bulk.then(process::peak_kb).flatten() {
                say(&json!({ "event": "memory", "peak_kb": kb }));
            }
            let now_open = games.iter().filter(|seat| seat.game.is_open()).count();
            if now_open != open {
                open = now_open;
                say(&json!({ "event": "open", "count": open }));
            }
        }
        // What the machine had no time for is not made up for, as in a game.
        due = (due + part).max(Instant::now().checked_sub(part * PARTS as u32).unwrap_or(start));
    }
    Ok(())
}

/// A game that runs here.
struct Seat {
    game: Game,
    /// In which part of 1/60 s its frames begin.
    part: usize,
    /// Whether it is told what to do.
    leads: bool,
}

fn games(settings: &Settings) -> Result<Vec<Seat>, String> {
    let seat = |(number, connection): (usize, Box<dyn Connection>), leads: bool| Seat {
        game: Game::new(connection, settings.state, (2 * number + usize::from(leads)) as u64),
        part: part_of(number, leads, settings.count),
        leads,
    };
    if settings.stack == "conditioned" {
        let (ones, others) = conditioned::pairs(settings.count)?;
        let ones = ones.into_iter().enumerate().map(|connection| seat(connection, true));
        let others = others.into_iter().enumerate().map(|connection| seat(connection, false));
        return Ok(ones.chain(others).collect());
    }
    Ok(connect(settings)?.into_iter().enumerate().map(|connection| seat(connection, settings.leads)).collect())
}

/// Side B's frames are later than side A's by another part in each connection.
const fn part_of(number: usize, leads: bool, count: usize) -> usize {
    let later = if leads || count == 0 { 0 } else { number * PARTS / count };
    (number + later) % PARTS
}

fn connect(settings: &Settings) -> Result<Vec<Box<dyn Connection>>, String> {
    let numbers = 0..settings.count;
    let rooms = numbers.clone().map(|number| format!("ws://{}/loss-{number}", settings.address));
    let boxed = |connection| -> Box<dyn Connection> { connection };
    match settings.stack.as_str() {
        "coplay_event" => Ok(rooms.map(|room| boxed(Box::new(Coplay::meet(&room)))).collect()),
        "matchbox" => Ok(rooms.map(|room| boxed(Box::new(matchbox::Matchbox::meet(&room)))).collect()),
        "webrtc" => webrtc::connect(settings),
        "websocket" => websocket::connect(settings),
        "renet" => renet::connect(settings),
        other => Err(format!("there is no stack {other:?}")),
    }
}

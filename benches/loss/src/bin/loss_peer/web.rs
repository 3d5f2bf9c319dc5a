//! The peer as a page: what it is stands in its URL, what it says goes to the console. Its frames are the browser's.

use std::{cell::RefCell, rc::Rc};

use serde_json::json;
use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::UrlSearchParams;

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
    let window = web_sys::window().ok_or("it does not run in a page")?;
    let query = window.location().search().and_then(|query| UrlSearchParams::new_with_str(&query));
    let query = query.map_err(|error| format!("{error:?}"))?;
    let settings = Settings::read(|name| query.get(name))?;
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
        "webrtc" => numbers.map(|_| webrtc::connect(&url)).collect(),
        other => Err(format!("no browser has the stack {other:?}")),
    }
}

/// A closure that asks for the next frame each time.
type Frame = Rc<RefCell<Option<Closure<dyn FnMut()>>>>;

/// Does something each frame, for as long as the page is there.
fn each_frame(mut what: impl FnMut() + 'static) {
    fn ask(frame: &Frame) {
        if let (Some(window), Some(frame)) = (web_sys::window(), &*frame.borrow()) {
            let _ = window.request_animation_frame(frame.as_ref().unchecked_ref());
        }
    }
    let frame = Frame::default();
    let again = frame.clone();
    *frame.borrow_mut() = Some(Closure::new(move || {
        what();
        ask(&again);
    }));
    ask(&frame);
}

/// In ms since 1970.
pub(super) fn time_of_day() -> f64 {
    let performance = web_sys::window().and_then(|window| window.performance());
    performance.map_or(f64::NAN, |performance| performance.time_origin() + performance.now())
}

pub(super) fn print(line: &str) {
    web_sys::console::log_1(&line.into());
}

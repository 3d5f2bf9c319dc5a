//! The peer as a page: what it is told stands in its URL, what it says goes to the console.

use std::{cell::RefCell, rc::Rc};

use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::UrlSearchParams;

use super::{Peer, Settings, say};

/// How long nothing is looked after at the longest, in ms. Browsers take no less.
const NAP: i32 = 4;

pub(super) fn run() {
    let window = web_sys::window().expect("it runs in a page");
    let query = window.location().search().and_then(|query| UrlSearchParams::new_with_str(&query));
    let query = query.expect("a page has a URL");
    let settings = match Settings::read(|name| query.get(name)) {
        Ok(settings) => settings,
        Err(reason) => return say("failed", serde_json::json!({ "reason": reason })),
    };
    let peer = Rc::new(RefCell::new(Peer::new(coplay_socket::connect(settings.config()), settings)));
    let turn = {
        let peer = peer.clone();
        move || {
            // Not while it takes its turn anyway.
            if let Ok(mut peer) = peer.try_borrow_mut() {
                peer.turn();
            }
        }
    };
    peer.borrow_mut().socket.set_waker(Rc::new(turn.clone()));
    // For as long as the page is there.
    let turn = Closure::<dyn Fn()>::new(turn).into_js_value();
    let set = window.set_interval_with_callback_and_timeout_and_arguments_0(turn.unchecked_ref(), NAP);
    set.expect("a page has a clock");
}

/// In ms since 1970.
pub(super) fn time_of_day() -> f64 {
    js_sys::Date::now()
}

pub(super) fn print(line: &str) {
    web_sys::console::log_1(&line.into());
}

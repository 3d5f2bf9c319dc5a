//! A page.

use std::{cell::RefCell, rc::Rc};

use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::UrlSearchParams;

pub(super) fn value(name: &str) -> Result<Option<String>, String> {
    let window = web_sys::window().ok_or("it does not run in a page")?;
    let query = window.location().search().and_then(|query| UrlSearchParams::new_with_str(&query));
    Ok(query.map_err(|error| format!("{error:?}"))?.get(name))
}

/// In ms since 1970.
pub fn time_of_day() -> f64 {
    let performance = web_sys::window().and_then(|window| window.performance());
    performance.map_or(f64::NAN, |performance| performance.time_origin() + performance.now())
}

/// A line to the console.
pub fn print(line: &str) {
    web_sys::console::log_1(&line.into());
}

/// A closure that asks for the next frame each time.
type Frame = Rc<RefCell<Option<Closure<dyn FnMut()>>>>;

/// Does something each frame, for as long as the page is there.
pub fn each_frame(mut what: impl FnMut() + 'static) {
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

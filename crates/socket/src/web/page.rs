//! What does the page offer besides connections: timers, microtasks, and word of its end?
//!
//! In a hidden page browsers run timers no more than once a second. What comes over a data channel is not held back, so
//! links still answer at once; what waits for a timer is late by up to a second, which is less than the silence after
//! which a peer counts as unresponsive. Chromium's stricter limit, once a minute after five minutes, does not hold for
//! pages with an open data channel.

use std::{cell::Cell, rc::Rc, time::Duration};

use js_sys::{Function, Promise};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};

/// Calls something by a given time.
///
/// Browsers keep such calls 4 ms apart at the least.
pub(crate) struct Alarm {
    ring: Closure<dyn Fn()>,
    set: Rc<Cell<Option<Set>>>,
}

#[derive(Clone, Copy)]
struct Set {
    id: i32,
    at: Duration,
}

impl Alarm {
    /// Not set yet.
    pub(crate) fn new(ring: impl Fn() + 'static) -> Self {
        let set = Rc::new(Cell::new(None));
        let rung = set.clone();
        let ring = Closure::<dyn Fn()>::new(move || {
            rung.set(None);
            ring();
        });
        Self { ring, set }
    }

    /// Rings once, at this time at the latest. If it was set for an earlier time, it stays so: that is cheaper than to
    /// move it with each datagram, and whoever it rings for sets it again.
    pub(crate) fn set(&self, now: Duration, at: Option<Duration>) {
        let (Some(at), Some(window)) = (at, web_sys::window()) else { return };
        if let Some(set) = self.set.get() {
            if set.at <= at {
                return;
            }
            window.clear_timeout_with_handle(set.id);
        }
        let wait = milliseconds(at.saturating_sub(now));
        let id = window.set_timeout_with_callback_and_timeout_and_arguments_0(function(&self.ring), wait);
        self.set.set(id.ok().map(|id| Set { id, at }));
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let (Some(window), Some(set)) = (web_sys::window(), self.set.take()) {
            window.clear_timeout_with_handle(set.id);
        }
    }
}

/// Calls something when the page goes: closed, reloaded, or left for another. What is sent to the peers now still goes
/// out; nothing can be waited for any more.
#[derive(Debug)]
pub(crate) struct OnPageHide(Closure<dyn Fn()>);

/// The event that also comes where `beforeunload` and `unload` do not: on phones.
const PAGE_HIDE: &str = "pagehide";

impl OnPageHide {
    /// Calls `hidden` each time, until this is dropped.
    pub(crate) fn new(hidden: impl Fn() + 'static) -> Self {
        let hidden = Closure::<dyn Fn()>::new(hidden);
        if let Some(window) = web_sys::window() {
            // It only fails for arguments of other types.
            let _ = window.add_event_listener_with_callback(PAGE_HIDE, function(&hidden));
        }
        Self(hidden)
    }
}

impl Drop for OnPageHide {
    fn drop(&mut self) {
        if let Some(window) = web_sys::window() {
            let _ = window.remove_event_listener_with_callback(PAGE_HIDE, function(&self.0));
        }
    }
}

/// Calls `work` as a microtask: when whatever runs now has returned to the browser.
pub(crate) fn soon(work: impl FnOnce() + 'static) {
    settled(&Promise::resolve(&JsValue::UNDEFINED), move |_| work(), |_| {});
}

/// Calls `work` later, once.
pub(super) fn later(wait: Duration, work: impl FnOnce() + 'static) {
    let work = Closure::once(work).into_js_value();
    if let Some(window) = web_sys::window() {
        let work = work.unchecked_ref();
        let _ = window.set_timeout_with_callback_and_timeout_and_arguments_0(work, milliseconds(wait));
    }
}

/// Calls one of the two with what becomes of the promise.
///
/// A promise of a connection that is closed meanwhile may never be settled. So both functions belong to the
/// browser's garbage collection, which frees them together with the promise; a future would be kept for ever.
pub(super) fn settled(
    promise: &Promise,
    fulfilled: impl FnOnce(JsValue) + 'static,
    rejected: impl FnOnce(JsValue) + 'static,
) {
    let fulfilled: Closure<dyn FnMut(JsValue)> = Closure::once(fulfilled);
    let rejected: Closure<dyn FnMut(JsValue)> = Closure::once(rejected);
    let _ = promise.then2(&fulfilled, &rejected);
    drop(fulfilled.into_js_value());
    drop(rejected.into_js_value());
}

/// What the browser threw, for a person to read.
pub(super) fn why(thrown: &JsValue) -> String {
    /// Browsers quote what they were given, which may be long, and another's.
    const MOST: usize = 200;
    let message: String = match thrown.dyn_ref::<js_sys::Error>() {
        Some(error) => error.message().into(),
        None => format!("{thrown:?}"),
    };
    message.chars().take(MOST).collect()
}

/// The closure as the browser wants it.
pub(super) fn function<T: ?Sized>(closure: &Closure<T>) -> &Function {
    closure.as_ref().unchecked_ref()
}

/// Rounded up, so that nothing rings before its time.
fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
}

//! What have the browser's callbacks said, and who is told that they did?
//!
//! A callback never touches the socket: it pushes here, and then calls the waker while nothing is borrowed. So however
//! the browser nests its calls, nobody finds something borrowed that it needs.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use bytes::Bytes;
use coplay_proto::Lane;
use wasm_bindgen::JsValue;

use super::{page, path::Pair};
use crate::{
    Waker,
    switchboard::{Attempt, Input},
};

/// What a callback says.
pub(super) enum Happening {
    /// For the switchboard.
    Switchboard(Input),
    /// The browser made the description that it was asked for; it is an `RTCSessionDescriptionInit`.
    Made(Attempt, JsValue),
    /// The peer's offer is applied.
    OfferApplied(Attempt),
    /// One of the two channels is open.
    LaneOpen(Attempt),
    /// A datagram came.
    Received(Attempt, Lane, Bytes),
    /// By which pair of candidates the peer is reached.
    Pair(Attempt, Pair),
}

/// One per socket, shared with its callbacks.
#[derive(Default)]
pub(super) struct Inbox {
    /// Bounded where others can make it grow: by `lanes::MAX_WAITING` for each peer.
    queue: RefCell<VecDeque<Happening>>,
    waker: RefCell<Option<Waker>>,
    /// Within a call of the socket: its caller may hold what the waker needs.
    busy: Cell<bool>,
    /// A microtask will call the waker.
    soon: Cell<bool>,
}

impl Inbox {
    pub(super) fn push(self: &Rc<Self>, happening: Happening) {
        self.queue.borrow_mut().push_back(happening);
        self.wake();
    }

    pub(super) fn pop(&self) -> Option<Happening> {
        self.queue.borrow_mut().pop_front()
    }

    pub(super) fn set_waker(self: &Rc<Self>, waker: Waker) {
        drop(self.waker.replace(Some(waker)));
        self.wake_soon();
    }

    pub(super) fn forget_waker(&self) {
        drop(self.waker.take());
    }

    /// Calls the waker now, or as a microtask if that would be within a call of the socket.
    pub(super) fn wake(self: &Rc<Self>) {
        if self.busy.get() {
            return self.wake_soon();
        }
        let waker = self.waker.borrow().clone();
        if let Some(waker) = waker {
            waker();
        }
    }

    /// Calls the waker as soon as whatever runs now has returned to the browser.
    pub(super) fn wake_soon(self: &Rc<Self>) {
        if self.soon.replace(true) {
            return;
        }
        let inbox = Rc::downgrade(self);
        page::soon(move || {
            if let Some(inbox) = inbox.upgrade() {
                inbox.soon.set(false);
                inbox.wake();
            }
        });
    }

    /// Does `work` of the socket, during which the waker is not called.
    pub(super) fn quietly<T>(&self, work: impl FnOnce() -> T) -> T {
        let outer = self.busy.replace(true);
        let result = work();
        self.busy.set(outer);
        result
    }
}

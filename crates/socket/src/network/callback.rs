//! How do links run by themselves in the browser? Within the socket's events, once a frame, and by a timer.
//!
//! Everything runs on the page's one thread, so whoever turns the links is never interrupted; but a socket in memory
//! may wake the links while they turn, and then they turn once more.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    time::Duration,
};

use super::links::{Command, Links, Outward};
use crate::{
    clock,
    web::page::{Alarm, OnPageHide},
};

/// The game's end. The links say goodbye when this is dropped, or the page goes.
pub(super) struct Running {
    turning: Rc<Turning>,
    _page_hide: OnPageHide,
}

struct Turning {
    links: RefCell<Links>,
    /// Rings when a link is due. What the socket has to do by the time alone, it does by an alarm of its own.
    alarm: Alarm,
    /// The links were woken while they turned.
    again: Cell<bool>,
}

impl Running {
    pub(super) fn start(links: Links) -> Self {
        let turning = Rc::new_cyclic(|weak: &Weak<Turning>| {
            let weak = weak.clone();
            Turning { links: RefCell::new(links), alarm: Alarm::new(move || turn(&weak)), again: Cell::new(false) }
        });
        let woken = Rc::downgrade(&turning);
        turning.links.borrow_mut().set_waker(Rc::new(move || turn(&woken)));
        let left = Rc::downgrade(&turning);
        let page_hide = OnPageHide::new(move || {
            if let Some(turning) = left.upgrade() {
                turning.close();
            }
        });
        turning.turn();
        Self { turning, _page_hide: page_hide }
    }

    pub(super) fn turn(&mut self) {
        self.turning.turn();
    }

    pub(super) fn poll(&mut self) -> Option<Outward> {
        self.turning.links.try_borrow_mut().ok()?.poll()
    }

    pub(super) fn command(&mut self, command: Command) -> Result<(), Command> {
        let Ok(mut links) = self.turning.links.try_borrow_mut() else { return Err(command) };
        links.command(clock::now(), command);
        Ok(())
    }

    /// A page cannot wait: the goodbyes are handed to the browser, and that is it.
    pub(super) fn close(&self, _within: Duration) {
        self.turning.close();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.turning.close();
    }
}

impl Turning {
    fn turn(&self) {
        let Ok(mut links) = self.links.try_borrow_mut() else { return self.again.set(true) };
        loop {
            self.again.set(false);
            let now = clock::now();
            let more = links.turn(now);
            if !more && !self.again.get() {
                return self.alarm.set(now, links.deadline());
            }
        }
    }

    fn close(&self) {
        if let Ok(mut links) = self.links.try_borrow_mut() {
            links.close(clock::now());
        }
    }
}

fn turn(turning: &Weak<Turning>) {
    if let Some(turning) = turning.upgrade() {
        turning.turn();
    }
}

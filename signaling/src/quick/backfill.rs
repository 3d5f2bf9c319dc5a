//! Which seats of a match that lost somebody before it began may be given away, and who is on the way to one?
//!
//! The room knows what is free, and tells the queue. The queue hands out what it was told last, which may be old: a room
//! that has no seat (any more) gives the newcomer back.

use std::sync::Arc;

use coplay_proto::signal::lobby::QuickMatch;
use tokio::{
    sync::mpsc::{Sender, WeakUnboundedSender},
    time::Instant,
};

use super::Command;
use crate::{
    room::{self, Join, door::RoomDoor},
    secrets::Secrets,
};

/// The way from the room of a match to the queue. It takes all of its seats back by dropping this.
#[derive(Debug)]
pub(crate) struct Backfill {
    room: u64,
    wanted: Arc<QuickMatch>,
    queue: WeakUnboundedSender<Command>,
    /// How many seats the queue counts; `None` if that is not known.
    told: Option<u32>,
}

impl Backfill {
    pub(super) fn new(room: u64, wanted: Arc<QuickMatch>, queue: WeakUnboundedSender<Command>) -> Self {
        Self { room, wanted, queue, told: Some(0) }
    }

    /// So many seats may be given away. The queue is told if that is news.
    pub(crate) fn tell(&mut self, free: u32, door: &Sender<room::Command>) {
        if self.told != Some(free) {
            self.told = Some(free);
            self.send(free, (free > 0).then(|| door.clone()));
        }
    }

    /// Somebody came for a seat, which the queue counts no more: it is to be told anew.
    pub(crate) fn called(&mut self) {
        self.told = None;
    }

    fn send(&self, free: u32, door: Option<Sender<room::Command>>) {
        if let Some(queue) = self.queue.upgrade() {
            let _ = queue.send(Command::Vacant { room: self.room, wanted: self.wanted.clone(), free, door });
        }
    }
}

impl Drop for Backfill {
    fn drop(&mut self) {
        if self.told != Some(0) {
            self.send(0, None);
        }
    }
}

/// Somebody from the queue on the way to a seat. By dropping this they are the first in the queue again.
#[derive(Debug)]
pub(crate) struct Fill {
    ticket: u64,
    join: Option<Box<Join>>,
    unwelcome: bool,
    queue: WeakUnboundedSender<Command>,
}

impl Fill {
    pub(super) fn new(ticket: u64, join: Box<Join>, queue: WeakUnboundedSender<Command>) -> Self {
        Self { ticket, join: Some(join), unwelcome: false, queue }
    }

    /// Has them let in at a door. If they are not, they are to go back, and to be sent to no room again.
    pub(crate) fn knock(mut self, door: &mut RoomDoor, secrets: &Secrets, now: Instant) -> Result<Box<Join>, Self> {
        let Some(join) = self.join.take() else { return Err(self) };
        // The room of a match has no password.
        if door.admit(join.newcomer.from, None, secrets, now).is_ok() {
            return Ok(join);
        }
        (self.join, self.unwelcome) = (Some(join), true);
        Err(self)
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        if let Some(join) = self.join.take()
            && let Some(queue) = self.queue.upgrade()
        {
            let _ = queue.send(Command::Back { ticket: self.ticket, join, unwelcome: self.unwelcome });
        }
    }
}

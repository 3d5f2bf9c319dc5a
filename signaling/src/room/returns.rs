//! Which members may come back to their seats, which are away now, and until when?

use std::{collections::HashMap, sync::Arc};

use axum::extract::ws::Utf8Bytes;
use coplay_proto::{
    PeerId,
    signal::{IceServer, SignalError},
};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use super::Seat;
use crate::{peer::outbox::Inbox, registry::Place};

/// What a member leaves behind when its WebSocket breaks: what waits for it, and its place on the server.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) inbox: Inbox,
    pub(crate) place: Place,
}

/// A peer with a token of its seat.
#[derive(Debug)]
pub(crate) struct Resume {
    pub(crate) group: u64,
    pub(crate) peer: PeerId,
    /// What it is told about ICE servers; its credentials may have run out meanwhile.
    pub(crate) ice_servers: Vec<IceServer>,
    pub(crate) reply: oneshot::Sender<Result<Entry, SignalError>>,
}

/// A seat with what belongs to it. If its WebSocket never comes to be, a newcomer leaves by dropping this, and one that
/// came back is away as before.
#[derive(Debug)]
pub(crate) struct Entry(Option<Parts>);

#[derive(Debug)]
struct Parts {
    seat: Seat,
    kept: Kept,
    back: bool,
    greeting: Option<Utf8Bytes>,
}

impl Entry {
    /// Of a newcomer, whose greeting is the first in its inbox.
    pub(crate) fn new(seat: Seat, kept: Kept) -> Self {
        Self(Some(Parts { seat, kept, back: false, greeting: None }))
    }

    /// Of a peer that came back. The greeting is said before what waits in the inbox.
    pub(crate) fn again(seat: Seat, kept: Kept, greeting: Utf8Bytes) -> Self {
        Self(Some(Parts { seat, kept, back: true, greeting: Some(greeting) }))
    }

    /// What is needed to serve it; `None` once it was left or lost.
    pub(crate) fn parts(&mut self) -> Option<(&Seat, &mut Inbox, Option<Utf8Bytes>)> {
        let Parts { seat, kept, greeting, .. } = self.0.as_mut()?;
        Some((seat, &mut kept.inbox, greeting.take()))
    }

    /// The peer leaves the room; its place on the server is to be given up when its WebSocket is closed.
    pub(crate) fn leave(mut self) -> Option<Place> {
        self.0.take().map(|parts| parts.kept.place)
    }

    /// The connection is lost. A peer that cannot come back leaves the room.
    pub(crate) fn lost(mut self) -> Option<Place> {
        let Parts { seat, kept, .. } = self.0.take()?;
        seat.lost(kept)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(Parts { seat, kept, back: true, .. }) = self.0.take() {
            seat.lost(kept);
        }
    }
}

/// The members that may come back, by group and id. There are as many as members.
#[derive(Debug, Default)]
pub(crate) struct Returns(HashMap<(u64, PeerId), State>);

#[derive(Debug)]
enum State {
    /// There. Told by the bell to give its seat up, to whoever waits for it.
    Present {
        bell: Arc<Notify>,
        taker: Option<Resume>,
    },
    Away {
        kept: Kept,
        until: Instant,
    },
}

impl Returns {
    /// A member that may come back takes its seat, or comes back to it.
    pub(crate) fn present(&mut self, group: u64, peer: PeerId, bell: Arc<Notify>) {
        self.0.insert((group, peer), State::Present { bell, taker: None });
    }

    /// A member's connection is lost. If somebody waits for its seat, it is to be given to that one; if not, it is kept.
    pub(crate) fn away(&mut self, group: u64, peer: PeerId, kept: Kept, until: Instant) -> Option<(Resume, Kept)> {
        let state = self.0.get_mut(&(group, peer))?;
        match std::mem::replace(state, State::Away { kept, until }) {
            State::Present { taker: Some(taker), .. } => match self.0.remove(&(group, peer))? {
                State::Away { kept, .. } => Some((taker, kept)),
                State::Present { .. } => None,
            },
            _ => None,
        }
    }

    /// Somebody has the token of a seat. Comes to nothing if the seat is not free yet, or is no more.
    pub(crate) fn claim(&mut self, resume: Resume) -> Option<(Resume, Kept)> {
        let key = (resume.group, resume.peer);
        match self.0.remove(&key) {
            None => {
                let _ = resume.reply.send(Err(SignalError::SeatGone));
                None
            }
            Some(State::Away { kept, .. }) => Some((resume, kept)),
            Some(State::Present { bell, .. }) => {
                // One that waited before is told by the end of its reply.
                bell.notify_one();
                self.0.insert(key, State::Present { bell, taker: Some(resume) });
                None
            }
        }
    }

    /// Those that did not come back in time.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<(u64, PeerId)> {
        let overdue = |state: &State| matches!(state, State::Away { until, .. } if *until <= now);
        self.0.iter().filter(|(_, state)| overdue(state)).map(|(key, _)| *key).collect()
    }

    /// When the next one is overdue.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let until = |state: &State| match state {
            State::Away { until, .. } => Some(*until),
            State::Present { .. } => None,
        };
        self.0.values().filter_map(until).min()
    }

    /// Forgets those who are members no more.
    pub(crate) fn retain(&mut self, mut is_member: impl FnMut(u64, PeerId) -> bool) {
        self.0.retain(|(group, peer), _| is_member(*group, *peer));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

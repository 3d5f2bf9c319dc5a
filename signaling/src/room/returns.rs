//! Which members may come back to their seats, which are away now, and until when?

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

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

/// The members that may come back, by group and id. There are as many as members, of all groups of a room: what is done
/// for one of them must not go through the others.
#[derive(Debug, Default)]
pub(crate) struct Returns {
    seats: BTreeMap<(u64, PeerId), State>,
    /// Those that are away, by when they are to be back.
    due: BTreeSet<(Instant, u64, PeerId)>,
}

#[derive(Debug)]
enum State {
    /// There. Told by the bell to give its seat up, to whoever waits for it.
    Present {
        bell: Arc<Notify>,
        taker: Option<Box<Resume>>,
    },
    Away {
        kept: Box<Kept>,
        until: Instant,
    },
}

impl Returns {
    /// A member that may come back takes its seat, or comes back to it.
    pub(crate) fn present(&mut self, group: u64, peer: PeerId, bell: Arc<Notify>) {
        self.put(group, peer, State::Present { bell, taker: None });
    }

    /// Whether this is a member that may come back.
    pub(crate) fn has(&self, group: u64, peer: PeerId) -> bool {
        self.seats.contains_key(&(group, peer))
    }

    /// A member's connection is lost. If somebody waits for its seat, it is to be given to that one; if not, it is kept.
    pub(crate) fn away(
        &mut self,
        group: u64,
        peer: PeerId,
        kept: Box<Kept>,
        until: Instant,
    ) -> Option<(Box<Resume>, Box<Kept>)> {
        match self.take(group, peer)? {
            State::Present { taker: Some(taker), .. } => Some((taker, kept)),
            State::Present { taker: None, .. } | State::Away { .. } => {
                self.put(group, peer, State::Away { kept, until });
                None
            }
        }
    }

    /// Somebody has the token of a seat. Comes to nothing if the seat is not free yet, or is no more.
    pub(crate) fn claim(&mut self, resume: Box<Resume>) -> Option<(Box<Resume>, Box<Kept>)> {
        let (group, peer) = (resume.group, resume.peer);
        match self.take(group, peer) {
            None => {
                let _ = resume.reply.send(Err(SignalError::SeatGone));
                None
            }
            Some(State::Away { kept, .. }) => Some((resume, kept)),
            Some(State::Present { bell, .. }) => {
                // One that waited before is told by the end of its reply.
                bell.notify_one();
                self.put(group, peer, State::Present { bell, taker: Some(resume) });
                None
            }
        }
    }

    /// Those that did not come back in time.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<(u64, PeerId)> {
        let overdue = self.due.iter().take_while(|(until, ..)| *until <= now);
        overdue.map(|(_, group, peer)| (*group, *peer)).collect()
    }

    /// When the next one is overdue.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(until, ..)| *until)
    }

    /// Forgets those of a group who are members no more. The other groups are not looked at.
    pub(crate) fn retain(&mut self, group: u64, mut is_member: impl FnMut(PeerId) -> bool) {
        let ids = (group, PeerId::from_u128(0))..=(group, PeerId::from_u128(u128::MAX));
        let gone: Vec<_> = self.seats.range(ids).map(|((_, peer), _)| *peer).filter(|peer| !is_member(*peer)).collect();
        for peer in gone {
            self.take(group, peer);
        }
    }

    fn put(&mut self, group: u64, peer: PeerId, state: State) {
        self.take(group, peer);
        if let State::Away { until, .. } = &state {
            self.due.insert((*until, group, peer));
        }
        self.seats.insert((group, peer), state);
    }

    fn take(&mut self, group: u64, peer: PeerId) -> Option<State> {
        let state = self.seats.remove(&(group, peer))?;
        if let State::Away { until, .. } = &state {
            self.due.remove(&(*until, group, peer));
        }
        Some(state)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn peer(n: u64) -> PeerId {
        PeerId::from_u128(n.into())
    }

    #[test]
    fn a_group_is_tidied_without_a_look_at_the_others() {
        let mut returns = Returns::default();
        for n in 0..10_000 {
            returns.present(n / 2, peer(n), Arc::default());
        }
        let mut looked_at = Vec::new();
        returns.retain(77, |peer| {
            looked_at.push(peer);
            peer != self::peer(154)
        });
        assert_eq!(looked_at, [peer(154), peer(155)], "the two of the group");
        assert!(!returns.seats.contains_key(&(77, peer(154))) && returns.seats.len() == 9_999);
    }

    #[tokio::test]
    async fn only_those_who_are_away_are_waited_for() {
        let kept = crate::registry::tests::kept;
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut returns = Returns::default();
        for n in 0..100 {
            returns.present(n / 2, peer(n), Arc::default());
        }
        assert_eq!((returns.deadline(), returns.due.len()), (None, 0), "nobody");
        for n in [5, 3, 4] {
            assert!(returns.away(n / 2, peer(n), Box::new(kept()), at(n)).is_none());
        }
        assert_eq!((returns.deadline(), returns.due.len()), (Some(at(3)), 3));
        assert_eq!(returns.overdue(at(4)), [(1, peer(3)), (2, peer(4))]);
        let (reply, _answer) = oneshot::channel();
        let resume = Resume { group: 1, peer: peer(3), ice_servers: Vec::new(), reply };
        assert!(returns.claim(Box::new(resume)).is_some(), "it is back");
        returns.present(1, peer(3), Arc::default());
        returns.retain(2, |_| false);
        assert_eq!((returns.deadline(), returns.due.len()), (None, 0), "and the others are gone");
        assert_eq!(returns.seats.len(), 98);
    }
}

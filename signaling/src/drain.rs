//! When does each peer leave a server that stops? The rooms spread over the time there is, so that not all peers come to
//! the next server at once, and the peers of a room together, so that it does not look as if one of them left the game;
//! those in the middle of a handshake when it is through.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use tokio::time::Instant;

use crate::wire::close;

/// A handshake is through when neither side said anything for so long: candidates come within a second or two.
const SETTLED: Duration = Duration::from_secs(2);

/// A server is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drain {
    since: Instant,
    window: Duration,
}

impl Drain {
    /// All are gone `window` after `since`.
    pub(crate) fn new(since: Instant, window: Duration) -> Self {
        Self { since, window }
    }

    /// When a peer is closed whose room has this [`turn()`], and who was sent or sent a signal at `active` the last time,
    /// or came then.
    pub(crate) fn leaves(&self, turn: u16, active: Instant) -> Instant {
        let turn = self.since + self.window * turn.into() / 0x1_0000;
        turn.max(active + SETTLED).min(self.since + self.window)
    }

    /// The close code, and the reason.
    pub(crate) fn farewell(&self) -> (u16, &'static str) {
        if self.window.is_zero() {
            (close::GOING_AWAY, "the signaling server stops")
        } else {
            (close::RESTART, "the signaling server is restarted: connect again")
        }
    }
}

/// When it is the turn of the peers of a group of a room, in 65,536ths of the time there is.
pub(crate) fn turn(room: &str, group: u64) -> u16 {
    let mut hasher = DefaultHasher::new();
    (room, group).hash(&mut hasher);
    (hasher.finish() & 0xffff) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_have_their_turn_all_over_the_window() {
        let mut turns: Vec<u16> = (0..1000).map(|number| turn(&format!("room-{number}"), 0)).collect();
        turns.sort_unstable();
        let gaps = turns.windows(2).map(|two| two[1] - two[0]);
        assert!(gaps.max().is_some_and(|gap| gap < u16::MAX / 50), "{turns:?}");
    }

    #[test]
    fn idle_peers_leave_spread_over_the_window_and_busy_ones_when_they_are_through() {
        let start = Instant::now() + Duration::from_secs(1000);
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let drain = Drain::new(start, Duration::from_secs(10));
        let long_ago = start - Duration::from_secs(100);
        assert_eq!(drain.leaves(0, long_ago), at(0.0));
        assert_eq!(drain.leaves(0x8000, long_ago), at(5.0));
        assert!(drain.leaves(0xffff, long_ago) < at(10.0));
        assert_eq!(drain.leaves(0, start - Duration::from_secs(1)), at(1.0), "its handshake is settled then");
        assert_eq!(drain.leaves(0, at(3.0)), at(5.0), "it goes on while the server drains");
        assert_eq!(drain.leaves(0, at(9.0)), at(10.0), "but not for ever");
        assert_eq!(drain.farewell().0, 1012);
        let now = Drain::new(start, Duration::ZERO);
        assert_eq!((now.leaves(0xffff, at(0.0)), now.farewell().0), (start, 1001));
    }
}

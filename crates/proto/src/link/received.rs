//! Which datagrams came, and what is acked when? The receiving end of the acks.

use core::time::Duration;

use super::wire::{self, Ack};

/// How many accepted datagrams an ack covers at the most, so that each is covered by three acks.
const ACK_EVERY: u32 = 10;
const _: () = assert!(ACK_EVERY * 3 <= u32::BITS);

/// A datagram that is so many numbers behind the newest is not late but lost.
const LATE: u32 = 8;

/// What came from the peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Received {
    newest: Option<u64>,
    newest_at: Duration,
    /// Bit n: whether the datagram n before the newest was seen.
    seen: u128,
    /// How many of these bits are of datagrams after the first that came, the first included.
    span: u32,
    /// Bit n: whether the datagram n before the newest was accepted.
    accepted: u32,
    /// How many datagrams that want an ack were accepted since one was sent.
    owed: u32,
    due: Option<Duration>,
}

/// How a datagram stands to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The next one.
    Next,
    /// Not the next one, but not seen before either.
    OutOfOrder,
    /// Seen before, or too old to know.
    Old,
}

impl Received {
    pub(super) fn expand(&self, sequence: u16) -> u64 {
        // Starts a round above zero, so that older ones than the first have a number too.
        wire::expand(sequence, self.newest.unwrap_or_else(|| 1 << 16 | u64::from(sequence)))
    }

    /// Notes that a datagram came.
    pub(super) fn arrive(&mut self, now: Duration, sequence: u64) -> Arrival {
        let newest = self.newest.unwrap_or_else(|| sequence.wrapping_sub(1));
        if let Some(ahead) = sequence.checked_sub(newest).filter(|ahead| *ahead > 0) {
            let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.span = self.span.saturating_add(ahead).min(u128::BITS);
            self.accepted = self.accepted.checked_shl(ahead).unwrap_or(0);
            self.newest = Some(sequence);
            self.newest_at = now;
            return if ahead == 1 { Arrival::Next } else { Arrival::OutOfOrder };
        }
        let bit = u32::try_from(newest - sequence).ok().and_then(|behind| 1_u128.checked_shl(behind)).unwrap_or(0);
        if bit == 0 || self.seen & bit != 0 {
            return Arrival::Old;
        }
        self.seen |= bit;
        Arrival::OutOfOrder
    }

    /// Share of the last datagrams that did not come, 0 to 1.
    pub(super) fn lost(&self) -> f32 {
        let Some(settled) = self.span.checked_sub(LATE).filter(|settled| *settled > 0) else { return 0.0 };
        let of_these = u128::MAX >> (u128::BITS - settled);
        let came = (self.seen >> LATE & of_these).count_ones();
        1.0 - came as f32 / settled as f32
    }

    /// Notes that a datagram that came can be acked.
    pub(super) fn accept(&mut self, sequence: u64) {
        let behind = self.newest.and_then(|newest| newest.checked_sub(sequence));
        let bit = behind.and_then(|behind| u32::try_from(behind).ok()).and_then(|behind| 1_u32.checked_shl(behind));
        self.accepted |= bit.unwrap_or(0);
    }

    /// An ack is to be sent at this time at the latest.
    pub(super) fn owe(&mut self, now: Duration, at: Duration) {
        self.owed += 1;
        let at = if self.owed >= ACK_EVERY { now } else { at };
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    pub(super) const fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Whether so much is owed that it cannot wait for the end of a turn.
    pub(super) const fn is_urgent(&self) -> bool {
        self.owed >= ACK_EVERY
    }

    /// The ack to send now; nothing is owed any more.
    pub(super) fn ack(&mut self, now: Duration, full: bool) -> Option<Ack> {
        let newest = self.newest?;
        self.owed = 0;
        self.due = None;
        let hold = Some(now.saturating_sub(self.newest_at));
        Some(Ack { newest: newest as u16, accepted: self.accepted, hold, full })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u64 = 1 << 16;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn duplicates_and_what_is_too_old_are_told_from_what_is_new() {
        let mut received = Received::default();
        let mut arrive = |sequence: u64| {
            assert_eq!(received.expand(sequence as u16), sequence);
            received.arrive(ms(1), sequence)
        };
        assert_eq!(arrive(FIRST + 500), Arrival::Next);
        assert_eq!(arrive(FIRST + 500), Arrival::Old);
        assert_eq!(arrive(FIRST + 501), Arrival::Next);
        assert_eq!(arrive(FIRST + 504), Arrival::OutOfOrder);
        assert_eq!(arrive(FIRST + 502), Arrival::OutOfOrder);
        assert_eq!(arrive(FIRST + 502), Arrival::Old);
        assert_eq!(arrive(FIRST + 499), Arrival::OutOfOrder);
        assert_eq!(arrive(FIRST + 377), Arrival::OutOfOrder);
        assert_eq!(arrive(FIRST + 376), Arrival::Old, "128 are told apart");
        assert_eq!(arrive(FIRST + 30_000), Arrival::OutOfOrder);
        assert_eq!(arrive(FIRST + 504), Arrival::Old);
    }

    #[test]
    fn an_ack_says_what_was_accepted_and_how_long_ago_the_newest_came() {
        let mut received = Received::default();
        assert_eq!(received.ack(ms(5), false), None);
        for sequence in [10, 11, 13] {
            received.arrive(ms(5), FIRST + sequence);
            received.accept(FIRST + sequence);
        }
        received.arrive(ms(7), FIRST + 14);
        received.owe(ms(7), ms(15));
        received.owe(ms(8), ms(30));
        assert_eq!(received.due(), Some(ms(15)));
        let ack = Ack { newest: 14, accepted: 0b11010, hold: Some(ms(3)), full: true };
        assert_eq!(received.ack(ms(10), true), Some(ack));
        assert_eq!(received.due(), None);
        received.arrive(ms(20), FIRST + 14 + 31);
        assert_eq!(received.ack(ms(20), false).map(|ack| ack.accepted), Some(0));
    }

    #[test]
    fn many_datagrams_are_acked_before_the_first_of_them_falls_out_of_the_ack() {
        let mut received = Received::default();
        for sequence in 0..ACK_EVERY {
            assert!(!received.is_urgent());
            received.owe(ms(1), ms(1) + ms(u64::from(sequence)));
        }
        assert!(received.is_urgent());
    }

    #[test]
    fn gaps_in_the_numbers_are_the_share_that_was_lost() {
        let mut received = Received::default();
        for sequence in 0..8 {
            received.arrive(ms(1), FIRST + sequence * 2);
        }
        assert!((received.lost() - 3.0 / 7.0).abs() < 1e-6, "{}", received.lost());
        for sequence in 16..1_000 {
            if sequence % 4 != 0 {
                received.arrive(ms(1), FIRST + sequence);
            }
        }
        assert!((received.lost() - 0.25).abs() < 1e-6, "{}", received.lost());
        (1_000..1_200).for_each(|sequence| _ = received.arrive(ms(1), FIRST + sequence));
        assert!(received.lost() < f32::EPSILON);
        received.arrive(ms(1), FIRST + 60_000);
        assert!(received.lost() > 0.99);
    }
}

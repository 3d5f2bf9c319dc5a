//! How does what is to arrive arrive through the relay, once each and in order? Numbered, kept until it is acked, and
//! said again from the first that is missing.
//!
//! The WebSocket loses nothing, but frames are lost with it when it breaks, and the server drops what is too much. So both
//! are the same here: late.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

/// The most bytes that wait for acks; more are refused, one datagram always fits.
const WINDOW: usize = 64 * 1024;
/// The most datagrams that do.
const MOST: usize = 256;
/// How many are on their way at once at least, whatever is lost.
const LEAST: usize = 4;
/// How long an ack is waited for before everything is said again, at first, at least and at most.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LEAST_WAIT: Duration = Duration::from_millis(300);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How soon what came is acked at the latest: not with each, for frames are counted.
const ACK_DELAY: Duration = Duration::from_millis(20);
/// How many bytes came unacked before they are acked at once, so that the other's window does not close.
const ACK_BYTES: usize = WINDOW / 4;
/// How long nothing may be acked before the other is given up. Longer than a seat is kept for who lost signaling.
const SILENCE: Duration = Duration::from_secs(20);

/// What goes out.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// The number of the first that is not acked.
    first: u32,
    unacked: VecDeque<Item>,
    bytes: usize,
    /// How many of them were sent, this time.
    sent: usize,
    again: Option<Duration>,
    wait: Option<Duration>,
    /// Since when nothing was acked.
    since: Option<Duration>,
    rewound: Option<Duration>,
    /// How many fewer than [`MOST`] are on their way at once, because some were lost: half as many each time, and one
    /// more for each that is acked.
    fewer: usize,
    /// The last round trip, ack delay included.
    pub(crate) rtt: Option<Duration>,
}

#[derive(Debug)]
struct Item {
    what: u8,
    bytes: Bytes,
    /// When it was sent.
    sent: Option<Duration>,
    /// Whether it is to be sent again: then an ack says nothing about the round trip.
    repeated: bool,
}

impl Outgoing {
    pub(crate) fn has_room(&self) -> bool {
        self.unacked.len() < MOST && (self.bytes == 0 || self.bytes < WINDOW)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.unacked.is_empty()
    }

    pub(crate) fn push(&mut self, now: Duration, what: u8, bytes: Bytes) {
        if self.unacked.is_empty() {
            self.since = Some(now);
        }
        self.bytes += bytes.len();
        self.unacked.push_back(Item { what, bytes, sent: None, repeated: false });
    }

    /// The length of the next to be sent.
    pub(crate) fn next_length(&self) -> Option<usize> {
        self.unacked.get(self.sent).filter(|_| self.sent < MOST - self.fewer).map(|item| item.bytes.len())
    }

    /// The next to be sent: its number, what it is, and its bytes.
    pub(crate) fn next(&mut self, now: Duration) -> Option<(u32, u8, Bytes)> {
        self.next_length()?;
        let wait = self.wait();
        let item = self.unacked.get_mut(self.sent)?;
        item.sent = Some(now);
        let number = self.first.wrapping_add(u32::try_from(self.sent).unwrap_or(u32::MAX));
        self.sent += 1;
        self.again.get_or_insert(now + wait);
        Some((number, item.what, item.bytes.clone()))
    }

    /// The other has everything before `next`; `gap` if it has something behind it, too. False if that makes no sense.
    pub(crate) fn acked(&mut self, now: Duration, next: u32, gap: bool) -> bool {
        let count = next.wrapping_sub(self.first) as usize;
        if count > self.unacked.len() {
            // An old one, that is behind, or one for what was never sent.
            return next.wrapping_sub(self.first) > u32::MAX / 2;
        }
        if count > 0 {
            for item in self.unacked.drain(..count) {
                self.bytes -= item.bytes.len();
                if let (false, Some(sent)) = (item.repeated, item.sent) {
                    self.rtt = Some(now.saturating_sub(sent));
                }
            }
            self.first = next;
            self.fewer = self.fewer.saturating_sub(count);
            self.sent = self.sent.saturating_sub(count);
            self.wait = None;
            self.since = (!self.unacked.is_empty()).then_some(now);
            self.again = (self.sent > 0).then(|| now + self.wait());
        }
        // Everything on its way is void. Said once a round trip.
        if gap && self.sent > 0 && self.rewound.is_none_or(|at| now >= at + self.rtt.unwrap_or(FIRST_WAIT)) {
            self.rewind(now);
        }
        true
    }

    /// Everything is to be said again.
    pub(crate) fn rewind(&mut self, now: Duration) {
        let there = self.sent.min(MOST - self.fewer);
        self.fewer = MOST - (there / 2).max(LEAST);
        self.unacked.iter_mut().take(self.sent).for_each(|item| item.repeated = true);
        (self.sent, self.again, self.rewound) = (0, None, Some(now));
    }

    /// Time has passed. False if the other is given up.
    pub(crate) fn elapsed(&mut self, now: Duration) -> bool {
        if self.since.is_some_and(|since| since + SILENCE <= now) {
            return false;
        }
        if self.again.is_some_and(|again| again <= now) {
            let wait = self.wait();
            self.rewind(now);
            self.wait = Some((wait * 2).min(LONGEST_WAIT));
        }
        true
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.again.into_iter().chain(self.since.map(|since| since + SILENCE)).min()
    }

    fn wait(&self) -> Duration {
        let measured = self.rtt.map_or(FIRST_WAIT, |rtt| (rtt * 3).clamp(LEAST_WAIT, LONGEST_WAIT));
        self.wait.unwrap_or(measured)
    }
}

/// What comes in.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// The number of the next.
    pub(super) next: u32,
    unacked_bytes: usize,
    /// When the other is to be told at the latest.
    ack_at: Option<Duration>,
    /// Whether something came that something before it is missing of.
    gap: bool,
}

impl Incoming {
    /// Whether this is the next one.
    pub(super) fn take(&mut self, now: Duration, number: u32, bytes: usize) -> bool {
        let next = number == self.next;
        if next {
            self.next = self.next.wrapping_add(1);
            self.unacked_bytes += bytes;
            self.gap = false;
            let due = if self.unacked_bytes >= ACK_BYTES { now } else { now + ACK_DELAY };
            self.ack_at = Some(self.ack_at.map_or(due, |at| at.min(due)));
        } else {
            // One that is known was sent for want of an ack; one that is ahead, where another was lost.
            self.gap = number.wrapping_sub(self.next) < u32::MAX / 2;
            self.ack_at = Some(now);
        }
        next
    }

    /// When an ack is due, if it is.
    pub(super) fn ack_at(&self) -> Option<Duration> {
        self.ack_at
    }

    /// The ack goes out with what is being sent; whether something is missing.
    pub(super) fn ack(&mut self) -> bool {
        (self.ack_at, self.unacked_bytes) = (None, 0);
        self.gap
    }
}

#[cfg(test)]
mod tests {
    use coplay_proto::rng::Rng;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn whatever_is_lost_everything_arrives_once_and_in_order() {
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let (mut out, mut incoming) = (Outgoing::default(), Incoming::default());
            let (mut next, mut came, mut now) = (0_u32, Vec::new(), ms(0));
            // Frames and acks on their way, in order.
            let (mut there, mut back) = (VecDeque::new(), VecDeque::new());
            while came.len() < 300 {
                now += ms(5);
                assert!(now < Duration::from_secs(600), "seed {seed}: {}", came.len());
                while next < 300 && out.has_room() {
                    out.push(now, 0, next.to_le_bytes().to_vec().into());
                    next += 1;
                }
                assert!(out.elapsed(now), "progress is made");
                for _ in 0..4 {
                    if let Some((number, _, bytes)) = out.next(now)
                        && rng.chance(0.8)
                    {
                        there.push_back((now + ms(40), number, bytes));
                    }
                }
                while there.front().is_some_and(|(at, ..)| *at <= now) {
                    let Some((_, number, bytes)) = there.pop_front() else { break };
                    if incoming.take(now, number, bytes.len()) {
                        came.push(u32::from_le_bytes(bytes[..].try_into().expect("four")));
                    }
                }
                if incoming.ack_at().is_some_and(|at| at <= now) {
                    let (next, gap) = (incoming.next, incoming.ack());
                    if rng.chance(0.8) {
                        back.push_back((now + ms(40), next, gap));
                    }
                }
                while back.front().is_some_and(|(at, ..)| *at <= now) {
                    let Some((_, next, gap)) = back.pop_front() else { break };
                    assert!(out.acked(now, next, gap));
                }
            }
            assert_eq!(came, (0..300).collect::<Vec<_>>(), "seed {seed}");
        }
    }

    #[test]
    fn what_waits_is_bounded_and_who_acks_nothing_is_given_up() {
        let mut out = Outgoing::default();
        while out.has_room() {
            out.push(ms(0), 0, vec![0; 1000].into());
        }
        assert!(out.bytes <= WINDOW + 1000);
        let mut sent = 0;
        let mut now = ms(0);
        while out.elapsed(now) {
            sent += std::iter::from_fn(|| out.next(now)).count();
            now = out.deadline().expect("something is due");
        }
        assert_eq!(now, SILENCE);
        assert!((100..200).contains(&sent), "fewer and fewer, less and less often: {sent}");
        let mut small = Outgoing::default();
        while small.has_room() {
            small.push(ms(0), 0, Bytes::new());
        }
        assert_eq!(small.unacked.len(), MOST);
    }

    #[test]
    fn acks_that_make_no_sense_are_noticed() {
        let mut out = Outgoing::default();
        out.push(ms(0), 0, Bytes::from_static(b"x"));
        out.push(ms(0), 0, Bytes::from_static(b"y"));
        assert!(out.next(ms(0)).is_some());
        assert!(!out.acked(ms(1), 3, false), "more than there are");
        assert!(out.acked(ms(1), 1, false) && out.acked(ms(1), 0, false), "an old one is nothing");
        assert_eq!(out.next(ms(1)).map(|(number, ..)| number), Some(1));
    }
}

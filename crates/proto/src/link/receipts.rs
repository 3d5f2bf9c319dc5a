//! What became of the datagrams that we sent? The sending end of the acks.

use core::time::Duration;
use std::collections::VecDeque;

use crate::Channel;

use super::{
    MESSAGE_ACK_DELAY, STATE_ACK_DELAY,
    copies::{Losses, Redundancy},
    path::{Outcomes, RoundTrip, Window},
    rate::Rate,
    wire::{self, Ack},
};

/// A datagram is lost when one that was sent so many later has arrived.
const REORDERING: u64 = 3;
/// The longest wait before something is repeated, however often it was repeated before.
const MOST_PATIENCE: Duration = Duration::from_secs(1);
/// The longest time that a peer takes to send an ack because its timers are slow, as are those of a browser. What took
/// longer was said again, because the first ack was lost.
const MOST_HOLD: Duration = Duration::from_millis(60);
/// How long a message is under way without a queue, besides the round trip and the peer's hold; and all of it before a
/// round trip was measured.
const SLACK: Duration = Duration::from_millis(50);
const FIRST_TIME: Duration = Duration::from_millis(200);
/// The most datagrams whose fate is kept in mind.
const MAX_SENT: usize = 4096;
/// Nothing but keep-alives is sent once so many datagrams in a row are unheard of, or 16 bits could not tell them apart.
const MAX_UNHEARD: u64 = 1 << 14;

/// Which fragment of which message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FragmentId {
    pub(super) channel: Channel,
    pub(super) number: u64,
    pub(super) index: u8,
}

/// What was sent to the peer.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// The oldest first, without gaps in their numbers.
    datagrams: VecDeque<Datagram>,
    /// The sequence number of the next one.
    next: u64,
    /// At first the one before the first.
    newest_acked: u64,
    /// How long the peer takes to ack a message.
    hold: Duration,
    /// How often in a row nothing was heard in time.
    patience: u32,
    /// What was sent before this has no bearing on `patience` any more.
    patient_since: Duration,
    /// Since when an ack of something that was sent is wanted, and none has come.
    unheard: Option<Duration>,
    /// The peer refuses messages, so that what it does not ack says nothing of the path.
    pub(super) held: bool,
    losses: Losses,
    /// How many datagrams the losses are of, in all.
    known: u64,
    pub(super) round_trip: RoundTrip,
    pub(super) outcomes: Outcomes,
    pub(super) window: Window,
    pub(super) rate: Rate,
}

/// A datagram that is sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Sending {
    pub(super) eliciting: bool,
    pub(super) goodbye: bool,
    /// All of its bytes.
    pub(super) size: usize,
    /// Bytes of its messages.
    pub(super) bytes: usize,
    pub(super) fragments: Vec<FragmentId>,
    /// What need not be repeated if this is lost: it is under way already.
    pub(super) copies: Vec<FragmentId>,
}

#[derive(Clone, Debug)]
struct Datagram {
    at: Duration,
    sending: Sending,
    /// [`Sent::patience`] when it was sent.
    patience: u32,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Acked,
    /// Known or likely; an ack may still prove otherwise.
    Lost,
}

/// What became of fragments.
#[derive(Clone, Debug, Default)]
pub(super) struct News {
    pub(super) arrived: Vec<FragmentId>,
    pub(super) lost: Vec<FragmentId>,
    /// A goodbye arrived.
    pub(super) goodbye: bool,
}

impl Datagram {
    /// Whether something is repeated if it is not acked in time.
    const fn is_awaited(&self) -> bool {
        matches!(self.fate, Fate::Open) && !self.sending.fragments.is_empty()
    }

    /// How long its ack is waited for: twice as long each time, from the second on, that nothing at all was heard in time.
    fn limit(&self, usual: Duration, patience: u32) -> Duration {
        let patience = patience.min(self.patience).saturating_sub(1).min(16);
        usual.saturating_mul(1 << patience).min(MOST_PATIENCE.max(usual))
    }
}

impl Sent {
    /// `first` is the sequence number of the first datagram, at least 2^16, so that all that are near it have one too.
    pub(super) fn new(first: u64) -> Self {
        Self {
            datagrams: VecDeque::new(),
            next: first,
            newest_acked: first - 1,
            hold: MESSAGE_ACK_DELAY,
            patience: 0,
            patient_since: Duration::ZERO,
            unheard: None,
            held: false,
            losses: Losses::default(),
            known: 0,
            round_trip: RoundTrip::default(),
            outcomes: Outcomes::default(),
            window: Window::new(),
            rate: Rate::new(),
        }
    }

    /// The sequence number of the next datagram.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Whether the peer has been silent for so many datagrams that only keep-alives may be sent.
    pub(super) const fn is_unheard(&self) -> bool {
        self.next - self.newest_acked > MAX_UNHEARD
    }

    /// How many copies there are to be of a message that is sent now: none if nothing was heard for long, or the path
    /// is full.
    pub(super) fn redundancy(&self) -> Option<Redundancy> {
        let round_trip = self.round_trip.smoothed();
        self.losses
            .redundancy(self.outcomes.share(), round_trip)
            .filter(|_| self.patience <= 2 && !self.rate.is_queued())
    }

    /// Bytes of state a second that may be sent.
    pub(super) fn budget(&self, now: Duration) -> u32 {
        // What goes to a path that has ended would wait there, or be lost.
        (if self.is_stalled(now) { Rate::LEAST } else { self.rate.state() }) as u32
    }

    /// Whether acks are so late that what is sent may well go nowhere.
    fn is_stalled(&self, now: Duration) -> bool {
        let late = self.round_trip.limit() + STATE_ACK_DELAY + MOST_HOLD;
        self.unheard.is_some_and(|since| since + late <= now)
    }

    /// Notes that the next datagram is sent.
    pub(super) fn push(&mut self, now: Duration, sending: Sending) {
        self.window.sent(sending.bytes);
        self.rate.sent(sending.size, sending.bytes);
        if sending.size > wire::MAX_HEADER {
            // The ack of a keep-alive may well take longer.
            self.unheard.get_or_insert(now);
        }
        self.datagrams.push_back(Datagram { at: now, sending, patience: self.patience, fate: Fate::Open });
        self.next += 1;
    }

    /// Takes in what the peer says it received.
    pub(super) fn acknowledge(&mut self, now: Duration, ack: &Ack, news: &mut News) -> Result<(), &'static str> {
        let newest = wire::expand(ack.newest, self.next - 1);
        if newest >= self.next {
            return Err("an ack is for what was not sent");
        }
        let oldest = self.oldest();
        let mut progress = false;
        let (mut acked, mut round_trip) = (0, None);
        for behind in (0..u64::from(u32::BITS)).rev().filter(|behind| ack.accepted >> behind & 1 == 1) {
            let Some(index) = newest.checked_sub(behind + oldest).and_then(|index| usize::try_from(index).ok()) else {
                continue;
            };
            let Some(datagram) = self.datagrams.get_mut(index).filter(|datagram| datagram.fate != Fate::Acked) else {
                continue;
            };
            let Sending { size, bytes, goodbye, ref mut fragments, ref mut copies, .. } = datagram.sending;
            if datagram.fate == Fate::Open {
                self.window.arrived(bytes);
            }
            datagram.fate = Fate::Acked;
            progress = true;
            acked += size;
            news.goodbye |= goodbye;
            if behind == 0
                && let Some(hold) = ack.hold
            {
                let sample = now.saturating_sub(datagram.at).saturating_sub(hold);
                self.round_trip.measure(sample);
                round_trip = Some(sample);
                if !fragments.is_empty() && hold <= MOST_HOLD {
                    // Up soon and down slowly: this is about the longest and not the usual time.
                    let (share, of) = if hold > self.hold { (1, 2) } else { (1, 16) };
                    self.hold = ((self.hold * (of - share) + hold * share) / of).max(MESSAGE_ACK_DELAY);
                }
            }
            news.arrived.append(fragments);
            news.arrived.append(copies);
        }
        if progress {
            if self.is_stalled(now) {
                self.rate.stalled(self.known);
            }
            let arrived = now.saturating_sub(ack.hold.unwrap_or_default());
            self.rate.acked(now, arrived, acked, round_trip, (self.outcomes.share(), self.known));
            let time = self.rate.least().unwrap_or(FIRST_TIME) + self.hold + SLACK;
            self.window.resize(self.rate.bytes(), time);
            self.unheard = None;
            self.patience = 0;
            self.patient_since = now;
            self.newest_acked = self.newest_acked.max(newest);
            self.give_up_overtaken(news);
        }
        Ok(())
    }

    /// Takes back the fragments of datagrams that are likely lost, and forgets what is too old to matter.
    pub(super) fn elapse(&mut self, now: Duration, news: &mut News) {
        let (usual, patience) = (self.usual(), self.patience);
        let mut impatient = false;
        for datagram in &mut self.datagrams {
            if datagram.at + usual > now {
                break;
            }
            if datagram.is_awaited() && datagram.at + datagram.limit(usual, patience) <= now {
                // Of all that is overdue at once, only what was sent since the last time counts as another time.
                impatient |= datagram.at >= self.patient_since;
                self.window.arrived(datagram.sending.bytes);
                datagram.fate = Fate::Lost;
                news.lost.extend(&datagram.sending.fragments);
            }
        }
        if impatient {
            self.patience += 1;
            self.patient_since = now;
        }
        self.forget(now, news);
    }

    /// When [`Self::elapse`] has something to do.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let usual = self.usual();
        let mut first: Option<Duration> = None;
        for datagram in self.datagrams.iter().filter(|datagram| datagram.is_awaited()) {
            if first.is_some_and(|first| first <= datagram.at + usual) {
                break;
            }
            let at = datagram.at + datagram.limit(usual, self.patience);
            first = Some(first.map_or(at, |first| first.min(at)));
        }
        first
    }

    /// How long an ack of a message takes at the most, if nothing is lost.
    fn usual(&self) -> Duration {
        self.round_trip.limit() + self.hold
    }

    /// Takes back the fragments of datagrams that later ones have overtaken.
    fn give_up_overtaken(&mut self, news: &mut News) {
        let oldest = self.oldest();
        for (datagram, sequence) in self.datagrams.iter_mut().zip(oldest..) {
            if sequence + REORDERING > self.newest_acked {
                break;
            }
            if datagram.fate == Fate::Open {
                self.window.arrived(datagram.sending.bytes);
                datagram.fate = Fate::Lost;
                news.lost.extend(&datagram.sending.fragments);
            }
        }
    }

    /// Forgets what no ack can change any more, and counts what became of it.
    fn forget(&mut self, now: Duration, news: &mut News) {
        let age = MOST_PATIENCE + self.round_trip.limit() * 2;
        let heard = self.newest_acked - u64::from(u32::BITS);
        while let Some(datagram) = self.datagrams.front() {
            let old = datagram.at + age <= now || self.datagrams.len() > MAX_SENT;
            let lost = match datagram.fate {
                Fate::Acked => Some(false),
                Fate::Lost if old || self.oldest() < heard => Some(true),
                Fate::Open if old => datagram.sending.eliciting.then_some(true),
                Fate::Open | Fate::Lost => break,
            };
            let refused = self.held && datagram.sending.bytes > 0;
            if let Some(lost) = lost.filter(|lost| !(*lost && refused)) {
                self.outcomes.push(lost);
                self.losses.push(lost);
                self.known += 1;
            }
            if let Some(mut datagram) = self.datagrams.pop_front()
                && datagram.fate == Fate::Open
            {
                self.window.arrived(datagram.sending.bytes);
                news.lost.append(&mut datagram.sending.fragments);
            }
        }
    }

    fn oldest(&self) -> u64 {
        self.next - self.datagrams.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u64 = 1 << 16;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const fn fragment(number: u64) -> FragmentId {
        FragmentId { channel: Channel::Events, number, index: 0 }
    }

    /// A datagram with a message of 100 bytes.
    fn message(number: u64) -> Sending {
        let fragments = vec![fragment(number)];
        Sending { eliciting: true, size: 120, bytes: 100, fragments, ..Sending::default() }
    }

    /// One datagram each ms, from 1 on, with one fragment of 100 bytes each.
    fn sent(count: u64) -> Sent {
        let mut sent = Sent::new(FIRST);
        (0..count).for_each(|index| sent.push(ms(1 + index), message(index)));
        sent
    }

    /// What comes of an ack at this time for these datagrams: which arrived, and which are lost.
    fn acked(sent: &mut Sent, now: u64, numbers: &[u64]) -> (Vec<u64>, Vec<u64>) {
        let newest = numbers.iter().max().copied().unwrap();
        let accepted = numbers.iter().fold(0, |bits, number| bits | 1 << (newest - number));
        let ack = Ack { newest: (FIRST + newest) as u16, accepted, hold: Some(Duration::ZERO), full: false };
        let mut news = News::default();
        sent.acknowledge(ms(now), &ack, &mut news).unwrap();
        sent.elapse(ms(now), &mut news);
        numbers_of(&news)
    }

    fn numbers_of(news: &News) -> (Vec<u64>, Vec<u64>) {
        let numbers = |fragments: &[FragmentId]| fragments.iter().map(|fragment| fragment.number).collect();
        (numbers(&news.arrived), numbers(&news.lost))
    }

    #[test]
    fn what_three_later_ones_overtook_is_lost() {
        let mut sent = sent(6);
        assert_eq!(acked(&mut sent, 50, &[1, 2]), (vec![1, 2], vec![]));
        assert_eq!(acked(&mut sent, 51, &[1, 2, 3]), (vec![3], vec![0]));
        assert_eq!(sent.window.under_way(), 200);
    }

    #[test]
    fn what_is_lost_may_still_have_arrived() {
        let mut sent = sent(6);
        assert_eq!(acked(&mut sent, 50, &[3]).1, [0]);
        assert_eq!(acked(&mut sent, 51, &[0, 3]).0, [0]);
        acked(&mut sent, 52, &[1, 2, 3, 4, 5]);
        assert!(sent.outcomes.share() < f32::EPSILON, "and is no loss then");
        assert_eq!(sent.window.under_way(), 0);
    }

    #[test]
    fn what_is_not_acked_in_time_is_repeated_ever_less_often() {
        let mut sent = sent(1);
        let mut news = News::default();
        assert_eq!(sent.deadline(), Some(ms(1 + 210 + 8)));
        sent.elapse(ms(218), &mut news);
        assert_eq!(numbers_of(&news).1, [] as [u64; 0]);
        let mut waits = Vec::new();
        for _ in 0..5 {
            let now = sent.deadline().unwrap();
            sent.elapse(now, &mut news);
            sent.push(now, message(0));
            waits.push((sent.deadline().unwrap() - now).as_millis());
        }
        assert_eq!(news.lost.len(), 5);
        assert_eq!(waits, [218, 436, 872, 1_000, 1_000]);
        let now = sent.deadline().unwrap();
        let ack = Ack { newest: (FIRST + 5) as u16, accepted: 1, hold: Some(now), full: false };
        sent.acknowledge(now, &ack, &mut news).unwrap();
        sent.push(now, message(1));
        assert!(sent.deadline().unwrap() - now < ms(100), "an ack starts it over");
    }

    #[test]
    fn a_burst_that_is_overdue_counts_once() {
        let mut sent = sent(16);
        let mut news = News::default();
        for now in 219..240 {
            sent.elapse(ms(now), &mut news);
        }
        assert_eq!(news.lost.len(), 16);
        assert_eq!(sent.patience, 1);
    }

    #[test]
    fn the_peers_slow_timers_are_learned_and_its_lost_acks_are_not() {
        let mut sent = Sent::new(FIRST);
        let mut limits = Vec::new();
        for (index, hold) in [30, 30, 30, 30, 30, 200, 30].into_iter().enumerate() {
            let at = ms(1_000 * index as u64);
            sent.push(at, message(index as u64));
            let ack = Ack { newest: (FIRST + index as u64) as u16, accepted: 1, hold: Some(ms(hold)), full: false };
            sent.acknowledge(at + ms(60 + hold), &ack, &mut News::default()).unwrap();
            limits.push(sent.hold.as_millis());
        }
        assert_eq!(limits, [19, 24, 27, 28, 29, 29, 29]);
        assert_eq!(sent.round_trip.smoothed(), Some(ms(60)));
    }

    #[test]
    fn an_ack_for_what_was_not_sent_is_refused() {
        let mut sent = sent(3);
        let ack = Ack { newest: (FIRST + 3) as u16, accepted: 1, hold: None, full: false };
        let refused = sent.acknowledge(ms(9), &ack, &mut News::default());
        assert_eq!(refused, Err("an ack is for what was not sent"));
    }

    #[test]
    fn an_ack_of_long_ago_is_passed_over() {
        let mut sent = Sent::new(FIRST + 100);
        let ack = Ack { newest: (FIRST + 99) as u16, accepted: u32::MAX, hold: None, full: false };
        let mut news = News::default();
        assert_eq!(sent.acknowledge(ms(9), &ack, &mut news), Ok(()));
        assert_eq!(numbers_of(&news), (vec![], vec![]));
    }

    #[test]
    fn what_is_kept_in_mind_is_bounded_and_nothing_is_forgotten_with_it() {
        let mut sent = Sent::new(FIRST);
        let mut news = News::default();
        for index in 0..MAX_SENT as u64 + 100 {
            sent.push(ms(1), message(index));
            sent.elapse(ms(1), &mut news);
        }
        assert_eq!(sent.datagrams.len(), MAX_SENT);
        assert_eq!(numbers_of(&news).1, (0..100).collect::<Vec<_>>());
        assert!(!sent.is_unheard());
        (0..MAX_UNHEARD).for_each(|_| sent.push(ms(2), Sending { eliciting: true, ..Sending::default() }));
        assert!(sent.is_unheard());
    }
}

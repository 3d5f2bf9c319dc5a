//! How messages that come in pieces and out of order are put together: exactly once, and in order where there is one.

use core::ops::Bound;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::Channel;

use super::{
    outgoing::{FIRST_NUMBER, MESSAGE_WINDOW},
    wire::{self, Ends},
};

/// The most messages that wait to be taken by the session.
const MAX_DELIVERED: usize = 1 << 13;

/// Messages on their way from the peer.
///
/// What the session has not taken, and what waits for older messages or its other fragments, is bounded: at the most
/// the limit, and one message more for each channel, since the next one in order must always find room.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    /// Of those that something came in.
    channels: BTreeMap<Channel, Assembly>,
    /// The channel of events that something was delivered of last: next come those after it.
    turn: Channel,
    /// Sizes of the messages that the session has not taken yet.
    delivered: VecDeque<usize>,
    /// Their sum.
    untaken: usize,
    /// How much was taken of the first of them.
    taken: usize,
    /// Bytes of fragments that wait for others.
    buffered: usize,
    limit: usize,
}

#[derive(Clone, Debug)]
struct Assembly {
    /// The number of the first message that was not delivered.
    next: u64,
    messages: BTreeMap<u64, Partial>,
    /// Those of `messages` that are whole.
    whole: BTreeSet<u64>,
    /// Where order does not matter: those after `next` that were delivered. Fewer than [`MESSAGE_WINDOW`].
    done: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
struct Partial {
    count: u8,
    /// Bit n: whether fragment n is here.
    here: u64,
    fragments: Vec<(u8, Bytes)>,
}

/// What becomes of a fragment that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is kept. `in_order`: nothing that it has to wait for is missing.
    Taken { in_order: bool },
    /// It was there before.
    Known,
    /// There is no room for it: it is to come again.
    Refused,
}

impl Incoming {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            channels: BTreeMap::new(),
            turn: Channel::Control,
            delivered: VecDeque::new(),
            untaken: 0,
            taken: 0,
            buffered: 0,
            limit,
        }
    }

    pub(super) fn admit(
        &mut self,
        channel: Channel,
        number: u16,
        index: u8,
        count: u8,
        bytes: Bytes,
    ) -> Result<Admission, &'static str> {
        let (untaken, buffered, limit, is_full) = (self.untaken, self.buffered, self.limit, self.is_full());
        let assembly = self.channels.entry(channel).or_insert_with(Assembly::new);
        let number = wire::expand(number, assembly.next);
        if number < assembly.next || assembly.done.contains(&number) {
            return Ok(Admission::Known);
        }
        // While the session is behind, some may be here and acked from `next` on, and the peer goes on from behind them.
        if !is_full && number >= assembly.next + MESSAGE_WINDOW {
            return Err("a message is too far ahead of those before it");
        }
        let known = assembly.messages.get(&number);
        if known.is_some_and(|known| known.count != count) {
            return Err("a message has now so many fragments and now so many");
        }
        if known.is_some_and(|known| known.here >> index & 1 == 1) {
            return Ok(Admission::Known);
        }
        let next = number == assembly.next;
        // What is delivered as it comes waits for nothing, so that it takes no room here.
        let at_once = next || (!channel.is_ordered() && count == 1);
        if is_full || !(at_once || untaken + buffered + bytes.len() <= limit) {
            return Ok(Admission::Refused);
        }
        let new = || Partial { count, here: 0, fragments: Vec::new() };
        let partial = assembly.messages.entry(number).or_insert_with(new);
        partial.here |= 1 << index;
        let size = bytes.len();
        partial.fragments.push((index, bytes));
        if partial.fragments.len() == usize::from(count) {
            assembly.whole.insert(number);
        }
        self.buffered += size;
        Ok(Admission::Taken { in_order: next || !channel.is_ordered() })
    }

    /// An event came that is not numbered. False if there is no room for it: it is lost.
    pub(super) fn admit_unreliable(&mut self, size: usize) -> bool {
        let fits = !self.is_full() && self.untaken + self.buffered + size <= self.limit;
        if fits {
            self.untaken += size;
            self.delivered.push_back(size);
        }
        fits
    }

    /// The next message that is whole and waits for none before it, as long as the session takes what it gets. Channels
    /// of events take turns.
    pub(super) fn deliver(&mut self) -> Option<(Channel, Bytes)> {
        if self.is_full() {
            return None;
        }
        let later = (Bound::Excluded(self.turn), Bound::Unbounded);
        let found = self.channels.range_mut(..=Channel::Control).find_map(Assembly::take_of);
        let found = found.or_else(|| self.channels.range_mut(later).find_map(Assembly::take_of));
        let found = found.or_else(|| self.channels.range_mut(..=self.turn).find_map(Assembly::take_of));
        let (channel, fragments) = found?;
        if channel != Channel::Control {
            self.turn = channel;
        }
        let bytes = join(fragments);
        self.buffered -= bytes.len();
        self.untaken += bytes.len();
        self.delivered.push_back(bytes.len());
        Some((channel, bytes))
    }

    /// The session took messages with so many bytes.
    pub(super) fn take(&mut self, bytes: usize) {
        self.taken += bytes;
        while let Some(size) = self.delivered.front().copied().filter(|size| *size <= self.taken) {
            self.delivered.pop_front();
            self.taken -= size;
            self.untaken -= size;
        }
        if self.delivered.is_empty() {
            self.taken = 0;
        }
    }

    /// Whether nothing more is delivered until the session takes something.
    pub(super) fn is_full(&self) -> bool {
        self.untaken >= self.limit || self.delivered.len() >= MAX_DELIVERED
    }

    /// Whether the session has taken enough for the peer to go on.
    pub(super) fn has_room_again(&self) -> bool {
        self.untaken <= self.limit / 2 && self.delivered.len() <= MAX_DELIVERED / 2
    }

    /// Whether all messages before these were delivered.
    pub(super) fn has_reached(&self, ends: &Ends) -> bool {
        ends.iter().all(|(channel, end)| {
            let next = self.channels.get(&channel).map_or(FIRST_NUMBER, |assembly| assembly.next);
            wire::expand(end, next) <= next
        })
    }
}

impl Assembly {
    const fn new() -> Self {
        Self { next: FIRST_NUMBER, messages: BTreeMap::new(), whole: BTreeSet::new(), done: BTreeSet::new() }
    }

    /// Takes the fragments of what can be delivered, if there is something.
    fn take_of((channel, assembly): (&Channel, &mut Self)) -> Option<(Channel, Vec<(u8, Bytes)>)> {
        let number = assembly.whole.first().copied();
        let number = number.filter(|number| !channel.is_ordered() || *number == assembly.next)?;
        assembly.whole.remove(&number);
        let partial = assembly.messages.remove(&number)?;
        assembly.done.insert(number);
        while assembly.done.remove(&assembly.next) {
            assembly.next += 1;
        }
        Some((*channel, partial.fragments))
    }
}

/// One fragment is passed on as it is, several are copied together.
fn join(mut fragments: Vec<(u8, Bytes)>) -> Bytes {
    if fragments.len() == 1 {
        return fragments.pop().map(|(_, bytes)| bytes).unwrap_or_default();
    }
    fragments.sort_unstable_by_key(|(index, _)| *index);
    let mut whole = Vec::with_capacity(fragments.iter().map(|(_, bytes)| bytes.len()).sum());
    fragments.iter().for_each(|(_, bytes)| whole.extend_from_slice(bytes));
    whole.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(
        incoming: &mut Incoming,
        number: u16,
        index: u8,
        count: u8,
        size: usize,
    ) -> Result<Admission, &'static str> {
        incoming.admit(Channel::Events, number, index, count, vec![index; size].into())
    }

    const IN_ORDER: Result<Admission, &str> = Ok(Admission::Taken { in_order: true });
    const AHEAD: Result<Admission, &str> = Ok(Admission::Taken { in_order: false });

    #[test]
    fn messages_are_delivered_whole_and_in_order() {
        let mut incoming = Incoming::new(100_000);
        assert_eq!(admit(&mut incoming, 1, 0, 1, 3), AHEAD);
        assert_eq!(admit(&mut incoming, 0, 1, 2, 3), IN_ORDER);
        assert_eq!(incoming.deliver(), None);
        assert_eq!(admit(&mut incoming, 0, 1, 2, 3), Ok(Admission::Known));
        assert_eq!(admit(&mut incoming, 0, 0, 2, 3), IN_ORDER);
        assert_eq!(incoming.deliver(), Some((Channel::Events, vec![0, 0, 0, 1, 1, 1].into())));
        assert_eq!(incoming.deliver(), Some((Channel::Events, vec![0, 0, 0].into())));
        assert_eq!(admit(&mut incoming, 1, 0, 1, 3), Ok(Admission::Known), "what was delivered is only acked");
        assert_eq!(incoming.deliver(), None);
        assert_eq!(incoming.buffered, 0);
    }

    #[test]
    fn what_waits_is_bounded_and_the_next_in_order_always_has_room() {
        let mut incoming = Incoming::new(1_000);
        assert_eq!(admit(&mut incoming, 1, 0, 1, 600), AHEAD);
        assert_eq!(admit(&mut incoming, 2, 0, 1, 500), Ok(Admission::Refused));
        assert_eq!(admit(&mut incoming, 2, 0, 1, 400), AHEAD);
        assert_eq!(admit(&mut incoming, 0, 0, 1, 900), IN_ORDER);
        let delivered = core::iter::from_fn(|| incoming.deliver()).count();
        assert_eq!(delivered, 2, "until the session has as much as it may");
        assert_eq!(admit(&mut incoming, 3, 0, 1, 1), Ok(Admission::Refused));
        assert!(incoming.is_full() && !incoming.has_room_again());
        incoming.take(900);
        assert!(!incoming.is_full() && !incoming.has_room_again());
        assert_eq!(core::iter::from_fn(|| incoming.deliver()).count(), 1);
        incoming.take(300);
        incoming.take(300);
        assert!(incoming.has_room_again());
        assert_eq!(incoming.untaken, 400);
    }

    #[test]
    fn messages_without_bytes_are_counted_too() {
        let mut incoming = Incoming::new(1_000);
        for number in 0..MAX_DELIVERED {
            assert_eq!(admit(&mut incoming, number as u16, 0, 1, 0), IN_ORDER);
            assert!(incoming.deliver().is_some());
        }
        assert_eq!(admit(&mut incoming, MAX_DELIVERED as u16, 0, 1, 0), Ok(Admission::Refused));
        incoming.take(0);
        assert!(incoming.has_room_again());
    }

    #[test]
    fn how_far_ahead_a_peer_may_be_does_not_count_what_waits_for_the_session_alone() {
        let mut incoming = Incoming::new(1_000_000);
        let last = MAX_DELIVERED as u16 - 1;
        for number in 0..last {
            assert_eq!(admit(&mut incoming, number, 0, 1, 1), IN_ORDER);
            assert!(incoming.deliver().is_some());
        }
        for number in 1..=500 {
            assert_eq!(admit(&mut incoming, last + number, 0, 1, 1), AHEAD);
        }
        assert_eq!(admit(&mut incoming, last, 0, 1, 1), IN_ORDER);
        assert_eq!(core::iter::from_fn(|| incoming.deliver()).count(), 1, "the session has as many as it may");
        // All are acked, so that the peer goes on behind them.
        let most = last + 500 + MESSAGE_WINDOW as u16;
        assert_eq!(admit(&mut incoming, most, 0, 1, 1), Ok(Admission::Refused));
        incoming.take(MAX_DELIVERED);
        assert_eq!(core::iter::from_fn(|| incoming.deliver()).count(), 500);
        assert_eq!(admit(&mut incoming, most, 0, 1, 1), AHEAD);
        assert!(admit(&mut incoming, most + 1, 0, 1, 1).is_err());
    }

    #[test]
    fn what_no_peer_sends_is_an_error() {
        let mut incoming = Incoming::new(1_000);
        assert_eq!(admit(&mut incoming, 1_023, 0, 1, 1), AHEAD);
        assert!(admit(&mut incoming, 1_024, 0, 1, 1).is_err());
        assert_eq!(admit(&mut incoming, 5, 0, 2, 1), AHEAD);
        assert!(admit(&mut incoming, 5, 1, 3, 1).is_err());
        assert_eq!(admit(&mut incoming, 65_535, 0, 1, 1), Ok(Admission::Known), "one that was delivered long ago");
    }

    #[test]
    fn an_end_is_reached_when_all_before_it_is_delivered() {
        let mut incoming = Incoming::new(1_000);
        let ends = |of: &[(Channel, u16)]| {
            let mut ends = Ends::default();
            assert!(of.iter().all(|(channel, end)| ends.set(*channel, *end)));
            ends
        };
        let (none, one) = (ends(&[(Channel::Events, 0)]), ends(&[(Channel::Events, 1)]));
        assert!(incoming.has_reached(&Ends::default()) && incoming.has_reached(&none));
        assert!(!incoming.has_reached(&one));
        admit(&mut incoming, 0, 0, 1, 5).unwrap();
        assert!(!incoming.has_reached(&one));
        incoming.deliver();
        assert!(incoming.has_reached(&one));
        assert!(!incoming.has_reached(&ends(&[(Channel::Control, 1), (Channel::Events, 1)])));
    }

    const fn named(number: u8) -> Channel {
        Channel::Named(crate::EventChannel::new(number).unwrap())
    }

    #[test]
    fn a_channel_does_not_wait_for_another() {
        let mut incoming = Incoming::new(1_000);
        let mut admit = |channel, number| incoming.admit(channel, number, 0, 1, vec![number as u8].into());
        assert_eq!(admit(Channel::Events, 1), AHEAD);
        assert_eq!(admit(named(0), 0), IN_ORDER);
        assert_eq!(admit(named(3), 1), AHEAD);
        assert_eq!(admit(Channel::Unordered, 7), IN_ORDER);
        assert_eq!(incoming.deliver(), Some((named(0), vec![0].into())));
        assert_eq!(incoming.deliver(), Some((Channel::Unordered, vec![7].into())));
        assert_eq!(incoming.deliver(), None);
    }

    #[test]
    fn where_order_does_not_matter_each_is_delivered_as_it_comes_and_once() {
        let mut incoming = Incoming::new(1_000);
        for (number, again) in [(3, false), (0, false), (3, true), (1, false), (0, true), (2, false), (1, true)] {
            let admitted = incoming.admit(Channel::Unordered, number, 0, 1, vec![number as u8].into());
            assert_eq!(admitted, if again { Ok(Admission::Known) } else { IN_ORDER });
            let delivered = incoming.deliver().map(|(_, bytes)| bytes);
            assert_eq!(delivered, (!again).then(|| vec![number as u8].into()));
        }
        let assembly = incoming.channels.get(&Channel::Unordered).expect("it has come");
        assert_eq!(
            (assembly.next, assembly.done.len()),
            (FIRST_NUMBER + 4, 0),
            "nothing is remembered of what is done"
        );
        assert_eq!(incoming.admit(Channel::Unordered, 1_027, 0, 1, "".into()), IN_ORDER);
        assert!(incoming.admit(Channel::Unordered, 1_028, 0, 1, "".into()).is_err(), "what is remembered is bounded");
    }

    #[test]
    fn channels_take_turns_when_there_is_room_for_one_at_a_time() {
        let mut incoming = Incoming::new(100);
        assert_eq!(incoming.admit(Channel::Events, 0, 0, 1, vec![0; 100].into()), IN_ORDER);
        incoming.deliver().unwrap();
        incoming.take(40);
        incoming.take(60);
        // Both have the next ones here, while nothing is taken.
        for number in 1..3 {
            incoming.admit(Channel::Events, number, 0, 1, vec![0; 30].into()).unwrap();
        }
        incoming.admit(named(5), 0, 0, 1, vec![5; 100].into()).unwrap();
        assert_eq!(incoming.deliver().map(|(channel, _)| channel), Some(named(5)));
        assert_eq!(incoming.deliver(), None, "the session has as much as it may");
        incoming.take(100);
        assert_eq!(incoming.deliver().map(|(channel, _)| channel), Some(Channel::Events));
    }

    #[test]
    fn what_is_not_numbered_finds_room_or_is_lost() {
        let mut incoming = Incoming::new(100);
        assert!(incoming.admit_unreliable(60));
        assert!(!incoming.admit_unreliable(60));
        incoming.take(60);
        assert!(incoming.admit_unreliable(60));
    }

    #[test]
    fn each_channel_has_room_for_its_next_message_and_all_of_them_are_bounded() {
        let mut incoming = Incoming::new(1_000);
        let mut taken = 0;
        for channel in Channel::reliable() {
            for number in 0..10 {
                // Without its first message nothing is delivered.
                let admitted = incoming.admit(channel, number, 1, 2, vec![0; 200].into()).unwrap();
                taken += usize::from(matches!(admitted, Admission::Taken { .. }));
            }
        }
        assert!(taken >= Channel::reliable().count(), "{taken}");
        let most = 1_000 + 200 * Channel::reliable().count();
        assert!(incoming.buffered <= most, "{} bytes wait", incoming.buffered);
    }
}

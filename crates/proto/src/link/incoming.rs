//! How messages that come in pieces and out of order are put together: exactly once, and in order.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::Channel;

use super::{
    outgoing::{CHANNELS, FIRST_NUMBER, MESSAGE_WINDOW},
    wire,
};

/// The most messages that wait to be taken by the session.
const MAX_DELIVERED: usize = 1 << 13;

/// Messages on their way from the peer.
///
/// What the session has not taken, and what waits for older messages or its other fragments, is bounded: at the most
/// the limit, and one message more for each channel, since the next one in order must always find room.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    control: Assembly,
    events: Assembly,
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
    /// The number of the next message in order.
    next: u64,
    messages: BTreeMap<u64, Partial>,
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
    /// It is kept. `in_order`: nothing that comes before it is missing.
    Taken { in_order: bool },
    /// It was there before.
    Known,
    /// There is no room for it: it is to come again.
    Refused,
}

impl Incoming {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            control: Assembly::new(),
            events: Assembly::new(),
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
        let assembly = self.assembly(channel);
        let number = wire::expand(number, assembly.next);
        if number < assembly.next {
            return Ok(Admission::Known);
        }
        if number >= assembly.next + MESSAGE_WINDOW {
            return Err("a message is too far ahead of those before it");
        }
        let known = assembly.messages.get(&number);
        if known.is_some_and(|known| known.count != count) {
            return Err("a message has now so many fragments and now so many");
        }
        let in_order = number == assembly.next;
        if known.is_some_and(|known| known.here >> index & 1 == 1) {
            return Ok(Admission::Known);
        }
        let fits = if in_order { !is_full } else { untaken + buffered + bytes.len() <= limit };
        if !fits {
            return Ok(Admission::Refused);
        }
        let new = || Partial { count, here: 0, fragments: Vec::new() };
        let partial = assembly.messages.entry(number).or_insert_with(new);
        partial.here |= 1 << index;
        let size = bytes.len();
        partial.fragments.push((index, bytes));
        self.buffered += size;
        Ok(Admission::Taken { in_order })
    }

    /// The next message that is whole and in order, as long as the session takes what it gets.
    pub(super) fn deliver(&mut self) -> Option<(Channel, Bytes)> {
        if self.is_full() {
            return None;
        }
        for channel in CHANNELS {
            let assembly = self.assembly(channel);
            if let Some(first) = assembly.messages.first_entry()
                && *first.key() == assembly.next
                && first.get().fragments.len() == usize::from(first.get().count)
            {
                let bytes = join(first.remove().fragments);
                assembly.next += 1;
                self.buffered -= bytes.len();
                self.untaken += bytes.len();
                self.delivered.push_back(bytes.len());
                return Some((channel, bytes));
            }
        }
        None
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
    pub(super) fn has_reached(&self, ends: [u16; 2]) -> bool {
        let [control, events] = ends;
        let reached = |assembly: &Assembly, end| wire::expand(end, assembly.next) <= assembly.next;
        reached(&self.control, control) && reached(&self.events, events)
    }

    const fn assembly(&mut self, channel: Channel) -> &mut Assembly {
        match channel {
            Channel::Control => &mut self.control,
            Channel::Events => &mut self.events,
        }
    }
}

impl Assembly {
    const fn new() -> Self {
        Self { next: FIRST_NUMBER, messages: BTreeMap::new() }
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
        assert!(incoming.has_reached([0, 0]));
        assert!(!incoming.has_reached([0, 1]));
        admit(&mut incoming, 0, 0, 1, 5).unwrap();
        assert!(!incoming.has_reached([0, 1]));
        incoming.deliver();
        assert!(incoming.has_reached([0, 1]));
        assert!(!incoming.has_reached([1, 1]));
    }
}

//! One peer of the simulation: its session, its links, and what goes to and fro between them.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::{
    Channel, Lane, PeerId,
    link::{self, CloseReason, Link, LinkConfig, LinkEvent},
    session::{Fact, Input, Output, Session, SessionConfig},
};

/// What a peer wants done by the net.
#[derive(Debug)]
pub(super) enum Work {
    Transmit(PeerId, Lane, Bytes),
    Fact(Fact),
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) session: Session,
    pub(super) links: BTreeMap<PeerId, Link>,
    pub(super) facts: Vec<Fact>,
    pub(super) bytes_sent: u64,
    /// The game stands still: its links go on.
    pub(super) stands_still: bool,
    flush: Duration,
    /// What waits until its link has room for it, as in a network between session and links.
    backlogs: BTreeMap<(PeerId, Channel), VecDeque<Bytes>>,
    send_queue: usize,
    /// What links told the session, and it has not heard yet.
    events: VecDeque<(PeerId, LinkEvent)>,
}

impl Node {
    pub(super) fn new(now: Duration, flush: Duration, config: SessionConfig) -> Self {
        Self {
            session: Session::new(now, config),
            links: BTreeMap::new(),
            facts: Vec::new(),
            bytes_sent: 0,
            stands_still: false,
            flush,
            backlogs: BTreeMap::new(),
            send_queue: LinkConfig::default().send_queue,
            events: VecDeque::new(),
        }
    }

    /// When the next thing is due here.
    pub(super) fn deadline(&self) -> Duration {
        self.links.values().filter_map(Link::deadline).fold(self.flush, Duration::min)
    }

    pub(super) fn has_link(&self, with: PeerId) -> bool {
        self.links.get(&with).is_some_and(|link| !link.is_closed())
    }

    /// This end of a link opens.
    pub(super) fn open(&mut self, now: Duration, with: PeerId, config: LinkConfig, seed: u64) {
        self.send_queue = config.send_queue;
        self.backlogs.retain(|(peer, _), _| *peer != with);
        self.links.insert(with, Link::new(now, config, seed));
        self.events.push_back((with, LinkEvent::Opened));
    }

    pub(super) fn receive(&mut self, now: Duration, from: PeerId, lane: Lane, bytes: Bytes) {
        self.hand(now, from, link::Input::Received(lane, bytes));
    }

    /// What is due by time: of the links, and the flush.
    pub(super) fn elapse(&mut self, now: Duration, interval: Duration) {
        for link in self.links.values_mut() {
            if link.deadline().is_some_and(|deadline| deadline <= now) {
                // Only what is to be sent can be refused.
                let _ = link.handle(now, link::Input::Elapsed);
            }
        }
        if self.flush <= now {
            self.flush = now + interval;
            if !self.stands_still {
                self.report(now);
                self.session.handle(now, Input::Flush);
            }
        }
    }

    /// The next thing for the net to do; what concerns only session and links is done here.
    pub(super) fn work(&mut self, now: Duration) -> Option<Work> {
        loop {
            while !self.stands_still
                && let Some((peer, event)) = self.events.pop_front()
            {
                let taken = match &event {
                    LinkEvent::Message(_, message) => Some(message.len()),
                    _ => None,
                };
                self.session.handle(now, Input::Link(peer, event));
                if let Some(bytes) = taken {
                    self.hand(now, peer, link::Input::Consumed(bytes));
                }
            }
            if let Some(output) = self.session.poll() {
                match output {
                    Output::State(peer, frame) => _ = self.hand(now, peer, link::Input::State(frame)),
                    Output::Message(peer, channel, message) => self.message(now, peer, channel, message),
                    Output::Disconnect(peer, _) => _ = self.hand(now, peer, link::Input::Close),
                    Output::Fact(fact) => return Some(Work::Fact(fact)),
                }
                continue;
            }
            self.refill(now);
            let (peer, output) = self.links.iter_mut().find_map(|(peer, link)| Some((*peer, link.poll()?)))?;
            match output {
                link::Output::Transmit(lane, bytes) => return Some(Work::Transmit(peer, lane, bytes)),
                link::Output::Event(event) => self.events.push_back((peer, event)),
            }
        }
    }

    /// Tells the session how much waits.
    pub(super) fn report(&mut self, now: Duration) {
        for peer in self.links.keys().copied().collect::<Vec<_>>() {
            self.session.handle(now, Input::Waiting(peer, self.waiting(peer)));
        }
    }

    /// Bytes of messages that wait for a peer.
    fn waiting(&self, peer: PeerId) -> usize {
        let backlogs = self.backlogs.iter().filter(|((to, _), _)| *to == peer).flat_map(|(_, backlog)| backlog);
        self.links.get(&peer).map_or(0, Link::queued) + backlogs.map(Bytes::len).sum::<usize>()
    }

    fn message(&mut self, now: Duration, peer: PeerId, channel: Channel, message: Bytes) {
        if !self.links.contains_key(&peer) {
            return;
        }
        if channel == Channel::Unreliable {
            // What there is no room for is lost.
            self.hand(now, peer, link::Input::Message(channel, message));
            return;
        }
        let reserve = if channel == Channel::Control { link::CONTROL_RESERVE } else { 0 };
        let waiting = self.waiting(peer);
        if waiting > 0 && waiting + message.len() > self.send_queue + reserve {
            self.session.handle(now, Input::Overflow(peer));
        } else {
            self.backlogs.entry((peer, channel)).or_default().push_back(message);
            self.refill(now);
        }
    }

    /// Hands over what the links have room for.
    fn refill(&mut self, now: Duration) {
        let mut backlogs = core::mem::take(&mut self.backlogs);
        for ((peer, channel), backlog) in &mut backlogs {
            while let Some(message) = backlog.front().cloned() {
                if self.hand(now, *peer, link::Input::Message(*channel, message)) {
                    break;
                }
                backlog.pop_front();
            }
        }
        backlogs.retain(|_, backlog| !backlog.is_empty());
        self.backlogs = backlogs;
    }

    /// Whether there was no room for it.
    fn hand(&mut self, now: Duration, peer: PeerId, input: link::Input) -> bool {
        let Some(link) = self.links.get_mut(&peer) else { return false };
        match link.handle(now, input) {
            Ok(()) | Err(link::Refused::Closed) => false,
            Err(link::Refused::QueueFull { .. }) => true,
            Err(refused) => {
                // Exactly once cannot be kept any more.
                self.links.remove(&peer);
                self.events.push_back((peer, LinkEvent::Closed(CloseReason::Failed(refused.to_string()))));
                false
            }
        }
    }
}

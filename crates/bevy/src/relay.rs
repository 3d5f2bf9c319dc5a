//! When does the host pass on what a guest sends to others? Once there is room for it with all of them.
//!
//! Until then it waits here, and the guest's link is not told that it was taken: so the guest's own queue fills up, and
//! nobody else's. What waits is bounded by that link's receive window.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use coplay_proto::{
    Channel, PeerId,
    link::LinkEvent,
    session::{Fact, Input, Session},
};
use coplay_socket::Network;

use crate::net::send;

/// Events that wait to be passed on, by the guest that they are from and their channel, in their order.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    waiting: BTreeMap<(PeerId, Channel), VecDeque<Bytes>>,
}

impl Relay {
    /// A message of a channel of events has come.
    pub(crate) fn event(
        &mut self,
        now: Duration,
        peer: PeerId,
        channel: Channel,
        message: Bytes,
        session: &mut Session,
        network: &mut Network,
        facts: &mut VecDeque<Fact>,
    ) {
        if let Some(before) = self.waiting.get_mut(&(peer, channel)) {
            before.push_back(message);
        } else if channel == Channel::Unreliable || has_room(peer, &message, session, network) {
            // What may be lost does not wait: the session leaves it out where there is no room.
            take(now, (peer, channel), message, session, network, facts);
        } else {
            tracing::debug!("events of {peer} wait: others have not taken those before them");
            self.waiting.insert((peer, channel), VecDeque::from([message]));
        }
    }

    /// Takes what there is room for now: one of each guest and channel in turn, so that nobody is left out.
    pub(crate) fn release(
        &mut self,
        now: Duration,
        session: &mut Session,
        network: &mut Network,
        facts: &mut VecDeque<Fact>,
    ) {
        let mut more = true;
        while core::mem::take(&mut more) {
            self.waiting.retain(|&(peer, channel), waiting| {
                if let Some(message) = waiting.pop_front_if(|next| has_room(peer, next, session, network)) {
                    take(now, (peer, channel), message, session, network, facts);
                    more = true;
                }
                !waiting.is_empty()
            });
        }
    }

    /// The peer is gone: what it sent and nobody has heard yet goes with it.
    pub(crate) fn forget(&mut self, peer: PeerId) {
        self.waiting.retain(|(from, _), _| *from != peer);
    }
}

/// Whether all to whom it is to be passed on have taken most of what they were sent.
fn has_room(peer: PeerId, message: &[u8], session: &Session, network: &Network) -> bool {
    session.relays(peer, message).into_iter().all(|to| !network.is_pressed(to))
}

fn take(
    now: Duration,
    (peer, channel): (PeerId, Channel),
    message: Bytes,
    session: &mut Session,
    network: &mut Network,
    facts: &mut VecDeque<Fact>,
) {
    let size = message.len();
    session.handle(now, Input::Link(peer, LinkEvent::Message(channel, message)));
    // At once, so that the next one finds these in the queues.
    send(now, session, network, facts);
    network.consumed(peer, size);
}

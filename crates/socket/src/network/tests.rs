//! Do two games hear of each other, and does a flood stay within bounds?

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use coplay_proto::{
    Channel, Lane, PeerId,
    conditioner::Conditions,
    link::{CloseReason, LinkConfig, LinkEvent, MAX_MESSAGE, MAX_UNRELIABLE, Refused},
};

use super::{Network, NetworkEvent};
use crate::{MemoryHub, Path, SendError, Socket, SocketEvent, Waker};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Inline networks over one hub, and what came out of each.
struct Room {
    hub: MemoryHub,
    now: Duration,
    games: Vec<(Network, Vec<NetworkEvent>)>,
}

impl Room {
    fn new(games: usize, conditions: Conditions) -> Self {
        let hub = MemoryHub::with(conditions, 7);
        let network = || Network::inline(hub.socket(), LinkConfig::default());
        let games = (0..games).map(|_| (network(), Vec::new())).collect();
        let mut room = Self { hub, now: ms(0), games };
        room.run(ms(500));
        room
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += ms(1);
            for (network, events) in &mut self.games {
                network.turn(self.now);
                while let Some(event) = network.poll() {
                    if let NetworkEvent::Link(peer, LinkEvent::Message(_, bytes)) = &event {
                        network.consumed(*peer, bytes.len());
                    }
                    events.push(event);
                }
            }
        }
    }

    fn of(&self, game: usize, peer: PeerId) -> Vec<LinkEvent> {
        let of = |event: &NetworkEvent| match event {
            NetworkEvent::Link(from, event) if *from == peer && !matches!(event, LinkEvent::Figures(_)) => {
                Some(event.clone())
            }
            _ => None,
        };
        self.games[game].1.iter().filter_map(of).collect()
    }
}

#[test]
fn frames_and_messages_cross_and_a_goodbye_ends_it() {
    let mut room = Room::new(2, Conditions { latency: ms(20), ..Conditions::PERFECT });
    let [one, two] = room.hub.members()[..] else { panic!("two members") };
    let network = &mut room.games[0].0;
    network.state(two, Bytes::from_static(b"frame"));
    network.message(two, Channel::Control, Bytes::from_static(b"control")).unwrap();
    network.message(two, Channel::Events, Bytes::from_static(b"event")).unwrap();
    room.run(ms(100));
    let heard = room.of(1, one);
    assert_eq!(heard[0], LinkEvent::Opened);
    assert!(heard.contains(&LinkEvent::State(Bytes::from_static(b"frame"))), "{heard:?}");
    assert!(heard.contains(&LinkEvent::Message(Channel::Control, Bytes::from_static(b"control"))), "{heard:?}");
    assert!(heard.contains(&LinkEvent::Message(Channel::Events, Bytes::from_static(b"event"))), "{heard:?}");
    room.games[0].0.disconnect(two);
    room.run(ms(1_000));
    assert_eq!(room.of(0, two).last(), Some(&LinkEvent::Closed(CloseReason::Local)));
    assert_eq!(room.of(1, one).last(), Some(&LinkEvent::Closed(CloseReason::Goodbye)));
    let closed = |event: &LinkEvent| matches!(event, LinkEvent::Closed(_));
    assert_eq!(room.of(0, two).into_iter().filter(closed).count(), 1, "it closes once");
    assert_eq!(room.of(1, one).into_iter().filter(closed).count(), 1, "it closes once");
}

#[test]
fn a_dropped_network_says_goodbye_to_all() {
    let mut room = Room::new(3, Conditions { latency: ms(20), ..Conditions::PERFECT });
    let one = room.hub.members()[0];
    room.games.remove(0);
    room.run(ms(100));
    for game in 0..2 {
        assert_eq!(room.of(game, one).last(), Some(&LinkEvent::Closed(CloseReason::Goodbye)));
    }
}

#[test]
fn who_vanishes_is_unresponsive_and_then_gone() {
    let mut room = Room::new(2, Conditions::PERFECT);
    let one = room.hub.members()[0];
    room.hub.vanish(one);
    room.run(ms(3_000));
    assert_eq!(room.of(1, one).last(), Some(&LinkEvent::Unresponsive));
    room.run(ms(8_000));
    assert_eq!(room.of(1, one).last(), Some(&LinkEvent::Closed(CloseReason::Silent(ms(10_000)))));
}

#[test]
fn messages_arrive_once_and_in_order_over_a_terrible_path() {
    let mut room = Room::new(2, Conditions::TERRIBLE);
    let [one, two] = room.hub.members()[..] else { panic!("two members") };
    for n in 0..200_u32 {
        room.games[0].0.message(two, Channel::Events, Bytes::from(n.to_le_bytes().to_vec())).unwrap();
    }
    room.run(ms(20_000));
    let numbers: Vec<u32> = room
        .of(1, one)
        .into_iter()
        .filter_map(|event| match event {
            LinkEvent::Message(Channel::Events, bytes) => bytes[..].try_into().ok().map(u32::from_le_bytes),
            _ => None,
        })
        .collect();
    assert_eq!(numbers, (0..200).collect::<Vec<u32>>());
}

#[test]
fn what_waits_is_bounded_and_none_of_it_is_lost() {
    let mut room = Room::new(2, Conditions { latency: ms(20), ..Conditions::PERFECT });
    let [one, two] = room.hub.members()[..] else { panic!("two members") };
    let limit = LinkConfig::default().send_queue;
    let network = &mut room.games[0].0;
    let message = Bytes::from(vec![7; MAX_MESSAGE]);
    let mut sent = 0;
    let refused = loop {
        match network.message(two, Channel::Events, message.clone()) {
            Ok(()) => sent += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, Refused::QueueFull { limit });
    assert!(sent * MAX_MESSAGE <= limit && (sent + 1) * MAX_MESSAGE > limit, "{sent}");
    let too_large = Bytes::from(vec![0; MAX_MESSAGE + 1]);
    let refused = network.message(two, Channel::Events, too_large);
    assert_eq!(refused, Err(Refused::TooLarge { size: MAX_MESSAGE + 1, limit: MAX_MESSAGE }));
    room.run(ms(20_000));
    let arrived = room.of(1, one).into_iter().filter(|event| matches!(event, LinkEvent::Message(..))).count();
    assert_eq!(arrived, sent);
    room.games[0].0.message(two, Channel::Events, message).expect("there is room again");
}

#[test]
fn what_may_be_lost_and_what_may_not_are_not_in_the_way_of_each_other() {
    let mut room = Room::new(2, Conditions { latency: ms(20), ..Conditions::PERFECT });
    let [one, two] = room.hub.members()[..] else { panic!("two members") };
    let waiting = |network: &Network| network.waiting().map(|(_, bytes)| bytes).sum::<usize>();
    let network = &mut room.games[0].0;
    let before = waiting(network);
    let effect = Bytes::from(vec![1; 1_000]);
    for _ in 0..40 {
        let _ = network.message(two, Channel::Unreliable, effect.clone());
    }
    assert_eq!(waiting(network), before, "nobody waits for what may be lost");
    let message = Bytes::from(vec![7; 10_000]);
    let sent = (0..).take_while(|_| network.message(two, Channel::Events, message.clone()).is_ok()).count();
    assert_eq!(sent, LinkConfig::default().send_queue / 10_000);
    assert_eq!(waiting(network), before + sent * 10_000);
    assert_eq!(network.message(two, Channel::Unreliable, effect), Ok(()), "there is room for it all the same");
    let too_large = network.message(two, Channel::Unreliable, Bytes::from(vec![0; MAX_UNRELIABLE + 1]));
    assert_eq!(too_large, Err(Refused::TooLarge { size: MAX_UNRELIABLE + 1, limit: MAX_UNRELIABLE }));
    room.run(ms(20_000));
    let came = |of| {
        let came = |event: &LinkEvent| matches!(event, LinkEvent::Message(channel, _) if *channel == of);
        room.of(1, one).into_iter().filter(came).count()
    };
    assert_eq!(came(Channel::Events), sent);
    // As many as may wait: the rest was lost here.
    assert!((10..=17).contains(&came(Channel::Unreliable)), "{}", came(Channel::Unreliable));
    assert_eq!(waiting(&room.games[0].0), 0);
}

/// A peer whose link ends and begins again at once.
struct Again(VecDeque<SocketEvent>);

impl Socket for Again {
    fn poll(&mut self, _: Duration) -> Option<SocketEvent> {
        self.0.pop_front()
    }

    fn send(&mut self, _: PeerId, _: Lane, _: Bytes) -> Result<(), SendError> {
        Ok(())
    }

    fn disconnect(&mut self, _: PeerId) {}

    fn path(&self, _: PeerId) -> Option<Path> {
        None
    }

    fn set_waker(&mut self, _: Waker) {}
}

#[test]
fn what_was_said_to_a_link_that_is_over_is_not_for_the_next_one() {
    let peer = PeerId::from_u128(7);
    let opened = || SocketEvent::Opened(peer);
    let socket = Again([opened(), SocketEvent::Closed(peer, CloseReason::Goodbye), opened()].into());
    let mut network = Network::inline(Box::new(socket), LinkConfig::default());
    network.turn(ms(1));
    // The game has heard of the first link alone.
    assert_eq!(network.poll(), Some(NetworkEvent::Link(peer, LinkEvent::Opened)));
    network.message(peer, Channel::Events, Bytes::from_static(b"late")).unwrap();
    while network.poll().is_some() {}
    assert_eq!(network.waiting().collect::<Vec<_>>(), [(peer, 0)]);
    network.message(peer, Channel::Events, Bytes::from_static(b"new")).unwrap();
    network.turn(ms(2));
    assert_eq!(network.waiting().collect::<Vec<_>>(), [(peer, 3)]);
}

#[test]
fn same_seed_same_events() {
    let trace = || {
        let mut room = Room::new(3, Conditions::CELLULAR);
        let two = room.hub.members()[1];
        for n in 0..50_u8 {
            room.games[0].0.state(two, vec![n].into());
            room.games[0].0.message(two, Channel::Events, vec![n].into()).unwrap();
            room.run(ms(16));
        }
        room.run(ms(2_000));
        room.games.into_iter().map(|(_, events)| events).collect::<Vec<_>>()
    };
    assert_eq!(trace(), trace());
}

/// On threads, by the real clock: without anybody turning, what is sent arrives.
#[cfg(not(target_arch = "wasm32"))]
mod threads {
    use std::time::Instant;

    use super::*;

    fn until(what: &str, mut done: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !done() {
            assert!(Instant::now() < end, "waited in vain: {what}");
            std::thread::yield_now();
        }
    }

    fn opened(network: &mut Network) -> bool {
        std::iter::from_fn(|| network.poll()).any(|event| matches!(event, NetworkEvent::Link(_, LinkEvent::Opened)))
    }

    fn start(hub: &MemoryHub) -> Network {
        Network::start(hub.socket(), LinkConfig::default())
    }

    #[test]
    fn links_run_by_themselves() {
        let hub = MemoryHub::with(Conditions { latency: ms(5), ..Conditions::PERFECT }, 1);
        let (mut a, mut b) = (start(&hub), start(&hub));
        let [one, two] = hub.members()[..] else { panic!("two members") };
        until("both open", || opened(&mut a));
        until("both open", || opened(&mut b));
        a.message(two, Channel::Events, Bytes::from_static(b"hello")).unwrap();
        a.turn(ms(0));
        let hello = NetworkEvent::Link(one, LinkEvent::Message(Channel::Events, Bytes::from_static(b"hello")));
        until("the message", || b.poll() == Some(hello.clone()));
        a.close(Duration::from_secs(5));
        let closed = NetworkEvent::Link(one, LinkEvent::Closed(CloseReason::Goodbye));
        until("the goodbye", || b.poll() == Some(closed.clone()));
    }

    /// One side sends without a pause, and the other does not poll: nothing grows without a bound, no message is lost, and
    /// it goes on once the other polls.
    #[test]
    fn a_game_that_does_not_poll_loses_no_message() {
        let hub = MemoryHub::new();
        let (mut a, mut b) = (start(&hub), start(&hub));
        let [one, two] = hub.members()[..] else { panic!("two members") };
        until("both open", || opened(&mut a));
        until("both open", || opened(&mut b));
        let mut sent = 0_u32;
        let mut refused = 0;
        let message = |n: u32| Bytes::from([&n.to_le_bytes()[..], &[0; 996]].concat());
        until("the queues to be full", || {
            match a.message(two, Channel::Events, message(sent)) {
                Ok(()) => (sent, refused) = (sent + 1, 0),
                Err(_) => refused += 1,
            }
            a.state(two, Bytes::from_static(b"state"));
            a.turn(ms(0));
            // Full for good and not only for a moment: both windows are.
            refused > 20_000
        });
        assert!(sent as usize * 1_000 < 3 * LinkConfig::default().send_queue, "{sent} messages wait");
        let mut next = 0_u32;
        until("all messages", || {
            if let Some(NetworkEvent::Link(from, LinkEvent::Message(_, bytes))) = b.poll() {
                assert_eq!((from, &bytes[..4]), (one, &next.to_le_bytes()[..]));
                next += 1;
                b.consumed(from, bytes.len());
            }
            next == sent
        });
    }
}

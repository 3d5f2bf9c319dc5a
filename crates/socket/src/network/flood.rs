//! Does a peer that says more than anybody takes leave room for what the others say?

use std::time::Duration;

use bytes::Bytes;
use coplay_proto::{
    Channel, PeerId,
    link::{LinkConfig, LinkEvent, MAX_MESSAGE, Refused},
};

use super::{Network, NetworkEvent};
use crate::MemoryHub;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// So many games that have met, on the same clock.
fn room(games: usize) -> (Vec<Network>, Vec<PeerId>, Duration) {
    let hub = MemoryHub::new();
    let mut games: Vec<_> = (0..games).map(|_| Network::inline(hub.socket(), LinkConfig::default())).collect();
    for now in 1..100 {
        for game in &mut games {
            game.turn(ms(now));
            while game.poll().is_some() {}
        }
    }
    (games, hub.members(), ms(100))
}

#[test]
fn a_flood_of_frames_leaves_room_for_those_of_others() {
    let (mut games, peers, mut now) = room(3);
    let [game, flooding, quiet] = &mut games[..] else { panic!("three") };
    let frames = |game: &mut Network, from: PeerId| {
        let mut frames = 0;
        let mut all = 0;
        while let Some(event) = game.poll() {
            all += 1;
            frames += usize::from(matches!(event, NetworkEvent::Link(peer, LinkEvent::State(_)) if peer == from));
        }
        (frames, all)
    };
    for again in 0..2 {
        // The game stands still meanwhile: nothing is polled.
        for step in 0..1_000 {
            now += ms(1);
            for _ in 0..10 {
                flooding.state(peers[0], Bytes::from_static(b"flood"));
            }
            flooding.turn(now);
            if step % 16 == 0 {
                quiet.state(peers[0], Bytes::from_static(b"quiet"));
            }
            quiet.turn(now);
            game.turn(now);
        }
        let (quietly, all) = frames(game, peers[2]);
        assert_eq!(quietly, 63, "all that the quiet one said, the {again}. time");
        assert!(all < 1_000, "{all} events waited");
    }
}

#[test]
fn what_is_pressed_can_still_be_told_why_it_ends() {
    let (mut games, peers, mut now) = room(2);
    let (game, to) = (&mut games[0], peers[1]);
    let limit = LinkConfig::default().send_queue;
    let message = || Bytes::from(vec![7; MAX_MESSAGE]);
    let mut sent = 0;
    while game.message(to, Channel::Events, message()).is_ok() {
        sent += MAX_MESSAGE;
        assert_eq!(game.is_pressed(to), sent > limit / 2);
    }
    assert_eq!(game.message(to, Channel::Events, message()), Err(Refused::QueueFull { limit }));
    game.message(to, Channel::Control, Bytes::from_static(b"why")).expect("control has room of its own");
    game.disconnect(to);
    let mut heard = Vec::new();
    for _ in 0..2_000 {
        now += ms(1);
        for game in &mut games {
            game.turn(now);
        }
        heard.extend(std::iter::from_fn(|| games[1].poll()));
    }
    let why = LinkEvent::Message(Channel::Control, Bytes::from_static(b"why"));
    assert!(heard.contains(&NetworkEvent::Link(peers[0], why)));
}

/// Very many small messages in one frame are no reason to refuse any of them: what counts is how much waits for a peer.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn many_messages_at_once_are_not_refused_while_little_waits() {
    const MESSAGES: u32 = 20_000;
    let hub = MemoryHub::new();
    let mut games = [0, 1].map(|_| Network::start(hub.socket(), LinkConfig::default()));
    let end = std::time::Instant::now() + Duration::from_secs(20);
    let [_, to] = hub.members()[..] else { panic!("two members") };
    for game in &mut games {
        while !matches!(game.poll(), Some(NetworkEvent::Link(_, LinkEvent::Opened))) {
            assert!(std::time::Instant::now() < end, "they never met");
            std::thread::yield_now();
        }
    }
    for number in 0..MESSAGES {
        let message = Bytes::copy_from_slice(&number.to_le_bytes());
        games[0].message(to, Channel::Events, message).expect("80 kB are not much");
    }
    let mut next = 0;
    while next < MESSAGES {
        assert!(std::time::Instant::now() < end, "{next} came");
        games[0].turn(ms(0));
        if let Some(NetworkEvent::Link(from, LinkEvent::Message(_, bytes))) = games[1].poll() {
            assert_eq!(bytes[..], next.to_le_bytes());
            games[1].consumed(from, bytes.len());
            next += 1;
        }
    }
}

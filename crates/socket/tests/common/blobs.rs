//! Do blobs go over every socket, both ways at once, beside frames and messages?

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use coplay_proto::{
    Channel, PeerId,
    bulk::{Blob, BlobId, Digest, Fact, Failure},
    link::{LinkConfig, LinkEvent},
};
use coplay_socket::{BlobShelf, Network, NetworkConfig, NetworkEvent};

use super::{PATIENCE, Platform};

/// A network, and what came out of it.
struct Game {
    network: Network,
    peer: Option<PeerId>,
    closed: bool,
    messages: Vec<Bytes>,
    facts: Vec<Fact>,
    /// Whether it takes what it is offered.
    accepts: bool,
}

impl Game {
    fn enter(platform: &impl Platform, shelf: &BlobShelf) -> Self {
        let config = NetworkConfig { shelf: shelf.clone(), ..LinkConfig::default().into() };
        let network = Network::inline(platform.enter(), config);
        Self { network, peer: None, closed: false, messages: Vec::new(), facts: Vec::new(), accepts: true }
    }

    fn turn(&mut self, now: Duration) {
        self.network.turn(now);
        while let Some(event) = self.network.poll() {
            match event {
                NetworkEvent::Link(peer, LinkEvent::Opened) => self.peer = Some(peer),
                NetworkEvent::Link(_, LinkEvent::Closed(_)) => self.closed = true,
                NetworkEvent::Link(peer, LinkEvent::Message(_, bytes)) => {
                    self.network.consumed(peer, bytes.len());
                    self.messages.push(bytes);
                }
                NetworkEvent::Blob(peer, fact) => {
                    assert!(!self.closed, "each blob has its end before its link has");
                    if let (Fact::Offered(offer), true) = (&fact, self.accepts) {
                        self.network.accept_blob(peer, offer.number, false);
                    }
                    self.facts.push(fact);
                }
                _ => {}
            }
        }
    }

    fn has(&self, what: impl Fn(&Fact) -> bool) -> bool {
        self.facts.iter().any(what)
    }

    fn whole(&self) -> Vec<Bytes> {
        let whole = |fact: &'_ Fact| match fact {
            Fact::Received { bytes, .. } => bytes.clone(),
            _ => None,
        };
        self.facts.iter().filter_map(whole).collect()
    }
}

/// Turns both until `done`; panics, saying `what` was waited for, if that takes too long.
async fn until<P: Platform>(
    platform: &P,
    what: &str,
    games: &mut [Game; 2],
    mut done: impl FnMut(&mut [Game; 2], Duration) -> bool,
) {
    let end = platform.now() + PATIENCE;
    loop {
        let now = platform.now();
        games.iter_mut().for_each(|game| game.turn(now));
        if done(games, now) {
            return;
        }
        let waits = games.each_ref().map(|game| (game.messages.len(), game.facts.last()));
        assert!(now < end, "waited in vain: {what}: {waits:?}");
        platform.turn().await;
    }
}

async fn met<P: Platform>(platform: &P) -> [Game; 2] {
    let mut games = [(); 2].map(|()| Game::enter(platform, &BlobShelf::default()));
    until(platform, "both connected", &mut games, |games, _| games.iter().all(|game| game.peer.is_some())).await;
    games
}

/// Bytes that differ from place to place.
fn content(size: usize, salt: u32) -> Bytes {
    (0..size as u32).map(|at| (at.wrapping_mul(2_654_435_761).wrapping_add(salt) >> 13) as u8).collect()
}

pub(crate) async fn blobs_go_both_ways_beside_messages(platform: &impl Platform) {
    let mut games = met(platform).await;
    let contents = [1, 2].map(|salt| content(platform.blob(), salt));
    let mut numbers = [0; 2];
    for (side, game) in games.iter_mut().enumerate() {
        let peer = game.peer.expect("connected");
        let blob = Blob::new("level", contents[side].clone()).metadata("a hill");
        numbers[side] = game.network.send_blob(peer, blob).expect("there is a link");
    }
    // While they go, each tells the other something each 20 ms, and it is not held up.
    let (mut said, mut next) = (0_u32, Duration::ZERO);
    let mut longest = Duration::ZERO;
    let mut under_way = BTreeSet::new();
    until(platform, "both blobs, and all messages", &mut games, |games, now| {
        let arrived = games[1].messages.len() as u32;
        if let Some(&(at, _)) = under_way.iter().find(|&&(_, number)| number < arrived) {
            longest = longest.max(now - at);
            under_way.retain(|&(_, number)| number >= arrived);
        }
        let over = games.iter().enumerate().all(|(side, game)| {
            game.has(|fact| *fact == Fact::Sent { number: numbers[side] }) && !game.whole().is_empty()
        });
        if !over && next <= now {
            next = now + Duration::from_millis(20);
            let to = games[0].peer.expect("connected");
            let message = Bytes::copy_from_slice(&said.to_le_bytes());
            games[0].network.message(to, Channel::Events, message).expect("there is room for it");
            under_way.insert((now, said));
            said += 1;
        }
        over && arrived == said
    })
    .await;
    for (side, game) in games.iter().enumerate() {
        assert!(game.whole() == [contents[1 - side].clone()], "whole, equal, and once");
        let offers: Vec<_> = game.facts.iter().filter(|fact| matches!(fact, Fact::Offered(_))).collect();
        let [Fact::Offered(offer)] = offers[..] else { panic!("{offers:?}") };
        assert_eq!((&*offer.name, &offer.metadata[..]), ("level", &b"a hill"[..]));
        assert_eq!(offer.digest, Digest::of(&contents[1 - side]));
        assert!(game.has(|fact| matches!(fact, Fact::Progress { blob: BlobId::Out(_), .. })));
        assert!(game.has(|fact| matches!(fact, Fact::Progress { blob: BlobId::In(_), .. })));
    }
    let numbers: Vec<u32> =
        games[1].messages.iter().map(|bytes| u32::from_le_bytes(bytes[..].try_into().expect("four"))).collect();
    assert_eq!(numbers, (0..said).collect::<Vec<_>>());
    assert!(longest < Duration::from_secs(3), "a message took {longest:?}");
}

pub(crate) async fn a_blob_fails_on_both_sides_when_either_cancels_or_leaves(platform: &impl Platform) {
    let mut games = met(platform).await;
    let [Some(second), Some(first)] = games.each_ref().map(|game| game.peer) else { panic!("connected") };
    games[1].accepts = false;
    for _ in 0..3 {
        games[0].network.send_blob(second, Blob::new("film", content(100_000, 3))).expect("there is a link");
    }
    until(platform, "three offers", &mut games, |games, _| {
        games[1].facts.iter().filter(|fact| matches!(fact, Fact::Offered(_))).count() == 3
    })
    .await;
    games[0].network.cancel_blob(second, BlobId::Out(1));
    games[1].network.cancel_blob(first, BlobId::In(1));
    let failed = |game: &Game, blob, failure| game.facts.contains(&Fact::Failed { blob, failure });
    until(platform, "two have failed", &mut games, |[one, two], _| {
        failed(one, BlobId::Out(1), Failure::Cancelled)
            && failed(two, BlobId::In(0), Failure::CancelledByPeer)
            && failed(two, BlobId::In(1), Failure::Cancelled)
            && one.has(|fact| matches!(fact, Fact::Failed { blob: BlobId::Out(2), failure: Failure::Refused(_) }))
    })
    .await;
    games[1].network.disconnect(first);
    until(platform, "the third has failed", &mut games, |[one, two], _| {
        failed(one, BlobId::Out(3), Failure::Disconnected) && failed(two, BlobId::In(2), Failure::Disconnected)
    })
    .await;
}

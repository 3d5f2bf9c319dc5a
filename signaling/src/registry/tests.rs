//! Do rooms open and close in order, and does what happens in one group cost the same however many others there are?

use std::{collections::HashSet, time::Duration};

use coplay_proto::signal::lobby::{Credentials, Listing};

use super::*;
use crate::{AddressLimits, addresses::Addresses, firewall::Kind};

fn registry() -> Arc<Registry> {
    let ice = IceServers::new(None, Vec::new(), None).unwrap();
    Registry::new(Limits::default(), Timing::default(), ice, Arc::default())
}

/// Somebody whose address is not known.
fn visitor() -> Visitor {
    let now = Instant::now();
    Arc::new(Addresses::new(AddressLimits::default(), now)).visit(None, now).unwrap()
}

/// What somebody leaves behind who had nothing.
pub(crate) fn kept() -> Kept {
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    Kept { inbox: outbox(1, 1, 0).1, place: Place { _permit: permit, _open: visitor().stay().unwrap() } }
}

async fn enter(registry: &Arc<Registry>, ask: Ask) -> Entry {
    let ask = Ask { room: Some("r".into()), ..ask };
    registry.join(ask, Caller { coplay: true, host: None, visitor: &visitor() }).await.unwrap()
}

#[tokio::test]
async fn a_panic_under_the_lock_is_no_outage() {
    let registry = registry();
    let poisoner = registry.clone();
    let panicked = std::thread::spawn(move || {
        let _held = poisoner.lock();
        panic!("on purpose");
    });
    assert!(panicked.join().is_err() && registry.rooms.is_poisoned());
    assert_eq!(registry.occupancy(), Occupancy::default());
}

#[test]
fn codes_are_of_the_alphabet_and_differ() {
    let codes: HashSet<_> = (0..1000).map(|_| code(Uuid::new_v4())).collect();
    assert!(codes.len() > 990, "{} of 1000", codes.len());
    assert!(codes.iter().all(|code| code.len() == CODE_LENGTH && code.bytes().all(|c| CODE_ALPHABET.contains(&c))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_is_out_of_the_public_list_before_its_name_is_free() {
    let registry = registry();
    let listing = Listing { public: true, ..Listing::default() };
    let entry = enter(&registry, Ask { listing, ..Ask::default() }).await;
    assert!(!registry.lobbies().is_empty());
    // While this is held, the room cannot be forgotten, and nobody opens it anew.
    let rooms = registry.lock();
    entry.leave();
    let start = std::time::Instant::now();
    while !registry.lobbies().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(20), "it is listed as long as it is known");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(rooms.len(), 1);
}

fn in_pairs() -> Ask {
    let credentials = Credentials { resumable: true, ..Credentials::default() };
    Ask { next: Some(2), credentials, ..Ask::default() }
}

/// How long the quickest of many stays in a room takes: two come, one signals to the other, and both leave. That is what it
/// costs, whatever else the machine does.
async fn quickest(registry: &Arc<Registry>) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..100 {
        let start = std::time::Instant::now();
        let mut one = enter(registry, in_pairs()).await;
        let mut two = enter(registry, in_pairs()).await;
        let to = two.parts().unwrap().0.peer();
        one.parts().unwrap().0.signal(to, Kind::Opaque, "a signal".into()).await;
        let (_, inbox, _) = two.parts().unwrap();
        while inbox.queue.next().await.as_str() != "a signal" {}
        drop((one.leave(), two.leave()));
        best = best.min(start.elapsed());
    }
    best
}

/// Rows 12 and 13 of the audit in `tests/signaling/audit.rs`: there, a join copied all rooms, and a leave went through
/// them.
#[tokio::test]
async fn rows_12_and_13_to_come_signal_and_leave_costs_the_same_among_many() {
    let (quiet, busy) = (registry(), registry());
    // Who stays, so that the room does.
    let mut lodgers = Vec::new();
    for (registry, count) in [(&quiet, 2), (&busy, 10_000)] {
        for _ in 0..count {
            lodgers.push(enter(registry, in_pairs()).await);
        }
    }
    let (alone, among) = (quickest(&quiet).await, quickest(&busy).await);
    // To look at 10,000 seats at each step takes milliseconds.
    assert!(among < 3 * alone + Duration::from_micros(100), "{alone:?} alone, {among:?} among 10,000");
}

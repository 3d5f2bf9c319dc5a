//! Is every pair that is to be connected introduced once, with one of the two to make the offer?

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::peer::outbox::{Inbox, outbox};

const A: PeerId = PeerId::from_u128(0xa);
const B: PeerId = PeerId::from_u128(0xb);
const C: PeerId = PeerId::from_u128(0xc);

/// A group whose members write down what they hear.
struct Scene {
    group: Group,
    inboxes: BTreeMap<PeerId, Inbox>,
}

impl Scene {
    fn new(topology: Topology) -> Self {
        Self { group: Group::new(topology, None, 8), inboxes: BTreeMap::new() }
    }

    fn enter_with(&mut self, peer: PeerId, coplay: bool, frames: u32) -> Result<(), SignalError> {
        let (outbox, inbox) = outbox(frames, 64 * 1024, 0);
        self.inboxes.insert(peer, inbox);
        self.group.admit(newcomer(peer, coplay, None, outbox), 0, Greeting::default())
    }

    /// Somebody comes who led in this term, as it says.
    fn enter_led(&mut self, peer: PeerId, led: u32) {
        let (outbox, inbox) = outbox(64, 64 * 1024, 0);
        self.inboxes.insert(peer, inbox);
        let newcomer =
            Newcomer { identity: Identity::Proven { led: Some(Term(led)) }, ..newcomer(peer, true, None, outbox) };
        self.group.admit(newcomer, 0, Greeting::default()).unwrap();
    }

    fn enter(&mut self, peers: &[PeerId]) {
        for peer in peers {
            self.enter_with(*peer, true, 64).unwrap();
        }
    }

    /// Has everyone read what there is.
    fn forget(&mut self) {
        for peer in self.inboxes.keys().copied().collect::<Vec<_>>() {
            self.heard(peer);
        }
    }

    /// What a peer heard since it was asked last, `None` once it was cut off.
    fn heard(&mut self, peer: PeerId) -> Option<Vec<ServerMessage>> {
        let inbox = self.inboxes.get_mut(&peer)?;
        let mut heard = Vec::new();
        while let Some(frame) = poll(inbox.queue.next()) {
            inbox.queue.written(frame.len());
            heard.push(serde_json::from_str(&frame).unwrap());
        }
        if poll(inbox.cut.off()).is_some() {
            self.inboxes.remove(&peer);
            return None;
        }
        Some(heard)
    }
}

fn newcomer(peer: PeerId, coplay: bool, topology: Option<Topology>, outbox: Outbox) -> Newcomer {
    let identity = Identity::Drawn(IdSecret::new());
    Newcomer { peer, identity, coplay, relays: coplay, ice_servers: Vec::new(), topology, from: None, outbox }
}

/// What a future comes to without waiting.
fn poll<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut waker = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut waker) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

fn leader(peer: PeerId, term: u32) -> Leader {
    Leader { peer, term: Term(term) }
}

#[test]
fn in_a_mesh_everyone_is_told_of_a_newcomer_and_the_newcomer_of_nobody() {
    let mut scene = Scene::new(Topology::Mesh);
    scene.enter(&[A]);
    scene.enter(&[B]);
    let heard = scene.heard(A).unwrap();
    assert!(matches!(&heard[0], ServerMessage::Welcome(welcome) if welcome.me == A && welcome.leader == leader(A, 1)));
    assert_eq!(heard[1..], [ServerMessage::NewPeer(B)]);
    scene.enter_with(C, false, 64).unwrap();
    assert_eq!(scene.heard(A).unwrap(), [ServerMessage::NewPeer(C)]);
    let [ServerMessage::Welcome(welcome), ServerMessage::NewPeer(C)] = &scene.heard(B).unwrap()[..] else {
        panic!("b hears its welcome and of c");
    };
    assert_eq!((&welcome.members[..], welcome.leader), (&[A, B][..], leader(A, 1)));
    assert_eq!(scene.heard(C).unwrap(), [ServerMessage::IdAssigned(C)], "without the subprotocol");
}

#[test]
fn the_longest_member_succeeds_the_leader() {
    let mut scene = Scene::new(Topology::Mesh);
    scene.enter(&[A, B, C]);
    scene.forget();
    scene.group.leave(A);
    let both = [ServerMessage::PeerLeft(A), ServerMessage::Leader(leader(B, 2))];
    assert_eq!((scene.heard(B).unwrap(), scene.heard(C).unwrap()), (both.to_vec(), both.to_vec()));
    scene.group.leave(C);
    assert_eq!(scene.heard(B).unwrap(), [ServerMessage::PeerLeft(C)], "b still leads");
    scene.enter(&[C]);
    let welcome = scene.heard(C).unwrap();
    assert!(matches!(&welcome[0], ServerMessage::Welcome(welcome) if welcome.leader == leader(B, 2)));
}

#[test]
fn in_a_host_room_only_the_leader_meets_the_others() {
    let mut scene = Scene::new(Topology::Host);
    scene.enter(&[A, B, C]);
    assert_eq!(scene.heard(A).unwrap()[1..], [ServerMessage::NewPeer(B), ServerMessage::NewPeer(C)]);
    assert_eq!((scene.heard(B).unwrap().len(), scene.heard(C).unwrap().len()), (1, 1), "welcomes");
    assert_eq!(scene.group.forward(B, C, Kind::Offer, "x".into()), Err(Dropped::Stranger));
    assert_eq!(scene.heard(C).unwrap(), [], "b and c were not introduced");
    scene.group.leave(C);
    assert_eq!((scene.heard(A).unwrap(), scene.heard(B).unwrap()), (vec![ServerMessage::PeerLeft(C)], vec![]));
    scene.enter(&[C]);
    scene.forget();
    scene.group.leave(A);
    let told = [ServerMessage::PeerLeft(A), ServerMessage::Leader(leader(B, 2))];
    assert_eq!(scene.heard(C).unwrap(), told);
    assert_eq!(scene.heard(B).unwrap(), [&told[..], &[ServerMessage::NewPeer(C)]].concat(), "the new leader meets c");
}

#[test]
fn a_signal_goes_to_its_receiver_alone() {
    let mut scene = Scene::new(Topology::Mesh);
    scene.enter(&[A, B, C]);
    scene.forget();
    let stranger = PeerId::from_u128(9);
    assert_eq!(scene.group.forward(A, C, Kind::Offer, "\"x\"".into()), Ok(()));
    assert_eq!(scene.group.forward(A, stranger, Kind::Offer, "\"nobody\"".into()), Err(Dropped::Stranger));
    assert_eq!(scene.group.forward(stranger, C, Kind::Offer, "\"a stranger\"".into()), Err(Dropped::Stranger));
    assert_eq!(scene.group.forward(A, A, Kind::Offer, "\"myself\"".into()), Err(Dropped::Stranger));
    let frame = poll(scene.inboxes.get_mut(&C).unwrap().queue.next()).unwrap();
    assert_eq!(frame.as_str(), "\"x\"");
    assert_eq!((scene.heard(A), scene.heard(B), scene.heard(C)), (Some(vec![]), Some(vec![]), Some(vec![])));
}

#[test]
fn who_was_told_of_the_other_offers_also_after_the_leader_changed() {
    let mut scene = Scene::new(Topology::Host);
    scene.enter(&[A, B, C]);
    let mut say = |from, to, kind| scene.group.forward(from, to, kind, "x".into());
    assert_eq!(say(B, A, Kind::Offer), Err(Dropped::Role));
    assert_eq!(say(A, B, Kind::Offer), Ok(()));
    assert_eq!(say(B, A, Kind::Answer), Ok(()));
    scene.group.leave(A);
    let mut say = |from, to, kind| scene.group.forward(from, to, kind, "x".into());
    assert_eq!(say(C, B, Kind::Offer), Err(Dropped::Role), "b leads now, and was told of c");
    assert_eq!(say(B, C, Kind::Offer), Ok(()));
    assert_eq!(say(C, B, Kind::Answer), Ok(()));
}

#[test]
fn who_does_not_read_is_let_go_and_the_others_hear_of_it() {
    let mut scene = Scene::new(Topology::Mesh);
    scene.enter_with(A, true, 3).unwrap();
    scene.enter(&[B, C]);
    assert_eq!((scene.heard(B).unwrap().len(), scene.heard(C).unwrap().len()), (2, 1));
    // The welcome, b and c wait for a, which was all that may.
    assert_eq!(scene.group.forward(B, A, Kind::Candidate, "x".into()), Err(Dropped::Slow), "it can do without");
    assert_eq!(scene.group.forward(A, B, Kind::Offer, "x".into()), Ok(()));
    assert!(poll(scene.inboxes.get_mut(&B).unwrap().queue.next()).is_some());
    assert_eq!(scene.group.forward(B, A, Kind::Answer, "x".into()), Ok(()), "but not without this");
    let told = vec![ServerMessage::PeerLeft(A), ServerMessage::Leader(leader(B, 2))];
    assert_eq!((scene.heard(B), scene.heard(C)), (Some(told.clone()), Some(told)));
    assert!(poll(scene.inboxes.get_mut(&A).unwrap().cut.off()).is_some());
}

#[test]
fn a_full_room_and_another_topology_are_refused() {
    let mut scene = Scene::new(Topology::Mesh);
    scene.group.capacity = 1;
    scene.enter(&[A]);
    assert_eq!(scene.enter_with(B, true, 64), Err(SignalError::RoomFull { max: 1 }));
    let (outbox, _inbox) = outbox(64, 64, 0);
    let host = Some(Topology::Host);
    let newcomer = newcomer(B, true, host, outbox);
    let differs = SignalError::TopologyDiffers { room: Topology::Mesh, asked: Topology::Host };
    assert_eq!(scene.group.admit(newcomer, 0, Greeting::default()), Err(differs));
    assert_eq!(scene.heard(A).unwrap().len(), 1, "nobody was announced");
}

#[test]
fn the_seats_of_those_who_went_before_they_met_anybody_are_free_again() {
    let (start, kept) = (Instant::now(), Duration::from_secs(60));
    let mut scene = Scene::new(Topology::Mesh);
    scene.group.capacity = 3;
    scene.enter(&[A, B, C]);
    scene.group.forward(A, B, Kind::Candidate, "x".into()).unwrap();
    assert_eq!(scene.group.vacant(start, kept), 0);
    scene.group.leave(B);
    assert_eq!(scene.group.vacant(start, kept), 1, "a candidate is no offer");
    scene.enter(&[B]);
    assert_eq!(scene.group.vacant(start, kept), 0, "taken");
    scene.group.forward(A, B, Kind::Offer, "x".into()).unwrap();
    scene.group.begin(start);
    scene.group.leave(B);
    assert_eq!(scene.group.vacant(start, kept), 0, "it was made an offer");
    scene.group.leave(C);
    assert_eq!(scene.group.vacant(start, kept), 1, "c was not");
    assert_eq!((scene.group.vacant(start + kept / 2, kept), scene.group.vacant(start + kept, kept)), (1, 0), "in time");
    scene.group.came(start + kept);
    assert_eq!(scene.group.vacant(start + kept, kept), 1, "from when somebody came last");
    scene.group.set_max(1);
    assert_eq!(scene.group.vacant(start, kept), 0, "no more than are free");
    scene.group.set_max(3);
    scene.enter(&[B, C]);
    scene.group.relay(B, C, FrameKind::Reliable, Bytes::new()).unwrap();
    scene.group.leave(C);
    scene.group.kick(B, SignalError::TooMuch);
    assert_eq!(
        scene.group.vacant(start, kept),
        0,
        "who is relayed has met the other, and who is removed is not missed"
    );
}

#[test]
fn no_more_seats_are_given_to_others_than_there_were_at_first() {
    let (now, kept) = (Instant::now(), Duration::from_secs(60));
    let mut scene = Scene::new(Topology::Mesh);
    scene.group = Group::new(Topology::Mesh, Some(2), 2);
    scene.enter(&[A, B]);
    scene.group.set_max(4);
    scene.enter(&[C]);
    scene.group.leave(C);
    assert_eq!(scene.group.vacant(now, kept), 0, "the leader added it");
    scene.group.meet(0, 1);
    scene.group.leave(B);
    assert_eq!(scene.group.vacant(now, kept), 0, "it met the other");
    scene.enter(&[B, C]);
    scene.group.leave(B);
    assert_eq!(scene.group.vacant(now, kept), 0, "there are two, whoever they are");
    scene.group.leave(C);
    assert_eq!(scene.group.vacant(now, kept), 1);
    scene.enter(&[B]);
    assert_eq!(scene.group.vacant(now, kept), 0, "taken");
}

#[test]
fn who_led_before_leads_again_by_the_highest_term_and_offers_to_all() {
    let mut scene = Scene::new(Topology::Host);
    scene.enter(&[A, B]);
    scene.forget();
    scene.enter_led(C, 5);
    let heard = scene.heard(C).unwrap();
    let ServerMessage::Welcome(welcome) = &heard[0] else { panic!("{heard:?}") };
    assert_eq!((welcome.leader, &welcome.members[..], &welcome.secret), (leader(C, 6), &[C, A, B][..], &None));
    assert_eq!(heard[1..], [ServerMessage::NewPeer(A), ServerMessage::NewPeer(B)]);
    // The two are not to be connected any more.
    let told = |gone| vec![ServerMessage::PeerLeft(gone), ServerMessage::Leader(leader(C, 6))];
    assert_eq!((scene.heard(A), scene.heard(B)), (Some(told(B)), Some(told(A))));
    assert_eq!(scene.group.forward(A, B, Kind::Offer, "x".into()), Err(Dropped::Stranger));
    assert_eq!(scene.group.forward(A, C, Kind::Offer, "x".into()), Err(Dropped::Role));
    assert_eq!(scene.group.forward(C, A, Kind::Offer, "x".into()), Ok(()));
    // Of an earlier term, of the same, of none: these come as anybody.
    let others = [(3, 0), (4, 4), (5, 5)].map(|(n, led)| (PeerId::from_u128(n), led));
    for (peer, led) in others {
        scene.enter_led(peer, led);
        assert!(!scene.group.is_led_by(peer), "{led}");
    }
    // Of a later one, but never so late that none could follow.
    let last = PeerId::from_u128(9);
    scene.enter_led(last, u32::MAX);
    assert_eq!(scene.group.leader(), Some(leader(last, u32::MAX / 2 + 1)));
    scene.group.leave(last);
    assert_eq!(scene.group.leader(), Some(leader(C, u32::MAX / 2 + 2)));
}

#[derive(Clone, Debug)]
enum Step {
    Enter { coplay: bool, frames: u32 },
    Lead(u32),
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (any::<bool>(), prop_oneof![Just(64_u32), 1..6_u32]).prop_map(|(coplay, frames)| Step::Enter { coplay, frames }),
        1 => (0..9_u32).prop_map(Step::Lead),
        2 => (0..8_usize).prop_map(Step::Leave),
    ]
}

proptest! {
    /// Peers come, go and fall silent at random. What the others were told is always the truth: those pairs that are to
    /// be connected, each introduced to one of the two, and the leader.
    #[test]
    fn what_members_were_told_is_the_state_of_the_room(host in any::<bool>(), steps in prop::collection::vec(step(), 1..60)) {
        let topology = if host { Topology::Host } else { Topology::Mesh };
        let mut scene = Scene::new(topology);
        // Those that read each turn; the others read nothing, until they are cut off.
        let mut reading = BTreeSet::new();
        let mut introduced: BTreeSet<(PeerId, PeerId)> = BTreeSet::new();
        let mut leaders: BTreeMap<PeerId, Leader> = BTreeMap::new();
        let mut next = 1;
        for step in steps {
            match step {
                Step::Enter { coplay, frames } => {
                    let peer = PeerId::from_u128(next);
                    next += 1;
                    if scene.enter_with(peer, coplay, frames).is_err() {
                        scene.inboxes.remove(&peer);
                    } else if frames == 64 {
                        reading.insert(peer);
                    }
                }
                Step::Lead(led) => {
                    let peer = PeerId::from_u128(next);
                    if !scene.group.is_full() {
                        next += 1;
                        scene.enter_led(peer, led);
                        reading.insert(peer);
                    }
                }
                Step::Leave(at) => {
                    if let Some(peer) = scene.group.members.get(at).map(|member| member.peer) {
                        scene.group.leave(peer);
                    }
                }
            }
            for peer in reading.clone() {
                let Some(heard) = scene.heard(peer) else {
                    reading.remove(&peer);
                    introduced.retain(|(one, _)| *one != peer);
                    leaders.remove(&peer);
                    continue;
                };
                for message in heard {
                    match message {
                        ServerMessage::NewPeer(other) => {
                            prop_assert!(introduced.insert((peer, other)), "{peer:?} met {other:?} twice");
                            prop_assert!(!introduced.contains(&(other, peer)), "{peer:?} and {other:?} both offer");
                        }
                        ServerMessage::PeerLeft(other) => introduced.retain(|pair| *pair != (peer, other) && *pair != (other, peer)),
                        ServerMessage::Welcome(welcome) => {
                            leaders.insert(peer, welcome.leader);
                        }
                        ServerMessage::Leader(leader) => {
                            let before = leaders.insert(peer, leader);
                            prop_assert!(before.is_some_and(|before| before.term < leader.term));
                        }
                        ServerMessage::IdAssigned(_) => (),
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
            }
            let members: Vec<_> = scene.group.members.iter().map(|member| member.peer).collect();
            for (at, one) in members.iter().enumerate() {
                for other in &members[..at] {
                    if reading.contains(one) && reading.contains(other) {
                        let met = introduced.contains(&(*one, *other)) || introduced.contains(&(*other, *one));
                        prop_assert_eq!(met, !host || members[0] == *other, "{:?} and {:?}", one, other);
                    }
                }
            }
            introduced.retain(|(one, other)| members.contains(one) && members.contains(other));
            for (peer, leader) in &leaders {
                if members.contains(peer) {
                    prop_assert_eq!(leader.peer, members[0]);
                }
            }
        }
    }
}

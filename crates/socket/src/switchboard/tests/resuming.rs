//! Does a peer come back to its seat, and learn what it missed? And what of commands, kicks and quick matches?

use coplay_proto::signal::lobby::{MatchStatus, QuickMatch};

use super::*;

/// A desk that has entered as peer 2, after peer 1, and may come back.
fn resumable() -> Desk {
    Desk::entered(SocketConfig::new("ws://host:1/room"), 1, greeting(2, &[1, 2], Topology::Mesh, false))
}

fn greeting(me: u8, members: &[u8], topology: Topology, resumed: bool) -> ServerMessage {
    let ServerMessage::Welcome(welcome) = welcome(me) else { unreachable!() };
    let members: Vec<PeerId> = members.iter().map(|member| peer(*member)).collect();
    let leader = Leader { peer: members[0], term: Term(1) };
    let resume = Some("token".to_owned());
    ServerMessage::Welcome(Box::new(Welcome { members, leader, topology, resume, resumed, ..*welcome }))
}

fn lose(desk: &mut Desk) -> Vec<Output> {
    desk.tell(Input::Signaller(SignallerEvent::Down(Down::Lost("cut".into()))))
}

fn started(outputs: &[Output]) -> Vec<PeerId> {
    let started = |output: &Output| match output {
        Output::Start { attempt, offer: true, .. } => Some(attempt.peer),
        _ => None,
    };
    outputs.iter().filter_map(started).collect()
}

#[test]
fn a_lost_peer_dials_with_its_token_while_its_links_are_open() {
    let mut desk = resumable();
    let attempt = desk.open(3);
    lose(&mut desk);
    let outputs = desk.wait(Duration::from_secs(1));
    let dial = dialled(&outputs).expect("though a link is open");
    assert_eq!((dial.credentials.resume.as_deref(), dial.credentials.resumable), (Some("token"), true));
    desk.tell(Input::Signaller(SignallerEvent::Opened));
    let outputs = desk.say(greeting(2, &[1, 2, 3], Topology::Mesh, true));
    assert!(outputs.contains(&Output::Event(SocketEvent::Room(RoomEvent::Resumed))));
    assert!(!outputs.iter().any(|output| matches!(output, Output::Event(SocketEvent::Entered(_)))), "{outputs:?}");
    assert_eq!(started(&outputs), [], "everybody is known");
    assert!(desk.board.is_open(attempt));
}

#[test]
fn delays_before_dialling_differ_from_peer_to_peer_and_fit_into_the_grace_of_the_server() {
    let delays: BTreeSet<Duration> = (1..50_u64)
        .map(|seed| {
            let config = SocketConfig::new("ws://host:1/room");
            let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut desk = Desk::entered(config, seed, greeting(2, &[1, 2], Topology::Mesh, false));
            lose(&mut desk);
            desk.board.deadline().expect("it is tried again")
        })
        .collect();
    assert!(delays.len() > 20, "{delays:?}");
    assert!(delays.iter().all(|delay| *delay <= Duration::from_millis(500)), "{delays:?}");
}

#[test]
fn what_was_missed_is_made_up_for() {
    let mut desk = resumable();
    let (three, _) = Desk::started(&desk.say(ServerMessage::NewPeer(peer(3)))).expect("started");
    lose(&mut desk);
    desk.wait(Duration::from_secs(1));
    desk.tell(Input::Signaller(SignallerEvent::Opened));
    // Peer 3 is gone; 4 and 5 came.
    let outputs = desk.say(greeting(2, &[1, 2, 4, 5], Topology::Mesh, true));
    assert_eq!(started(&outputs), [peer(4), peer(5)], "to those who came later, we offer; peer 1 offers to us");
    assert!(outputs.contains(&Output::Stop(three)));
    // What was kept says the same again.
    assert_eq!(started(&desk.say(ServerMessage::NewPeer(peer(4)))), []);

    // In a host room only the leader meets the others.
    let mut desk = resumable();
    lose(&mut desk);
    desk.wait(Duration::from_secs(1));
    desk.tell(Input::Signaller(SignallerEvent::Opened));
    assert_eq!(started(&desk.say(greeting(2, &[1, 2, 3], Topology::Host, true))), []);
    lose(&mut desk);
    desk.wait(Duration::from_secs(1));
    desk.tell(Input::Signaller(SignallerEvent::Opened));
    let outputs = desk.say(greeting(2, &[2, 3], Topology::Host, true));
    assert_eq!(started(&outputs), [peer(3)], "the old leader went meanwhile, and we lead");
}

#[test]
fn a_seat_that_is_gone_leaves_open_links_alone_and_is_looked_for_anew_when_they_end() {
    let mut desk = resumable();
    let attempt = desk.open(3);
    lose(&mut desk);
    desk.wait(Duration::from_secs(1));
    desk.tell(Input::Signaller(SignallerEvent::Opened));
    let outputs = desk.say(ServerMessage::Error(SignalError::SeatGone));
    assert!(
        matches!(&outputs[..], [Output::Event(SocketEvent::Signaling(SignalingState::Lost { .. }))]),
        "{outputs:?}"
    );
    assert_eq!(dialled(&desk.wait(Duration::from_secs(60))), None, "a new id would be another peer's");
    assert!(desk.board.is_open(attempt));
    let outputs = desk.tell(Input::Closed(attempt));
    let dial = dialled(&outputs).expect("nobody knows us any more");
    assert_eq!(dial.credentials.resume, None);
    desk.tell(Input::Signaller(SignallerEvent::Opened));
    let outputs = desk.say(greeting(9, &[9], Topology::Mesh, false));
    assert!(outputs.iter().any(|output| matches!(output, Output::Event(SocketEvent::Entered(_)))));
}

#[test]
fn commands_are_said_or_given_back() {
    let mut desk = resumable();
    let lock = RoomCommand::Lock(true);
    assert_eq!(desk.tell(Input::Command(lock.clone())), [Output::Send(ClientMessage::Room(lock.clone()))]);
    let denied = desk.say(ServerMessage::Denied(SignalError::NotLeader));
    assert_eq!(denied, [Output::Event(SocketEvent::Room(RoomEvent::Denied(SignalError::NotLeader)))]);
    lose(&mut desk);
    let unsent = desk.tell(Input::Command(lock.clone()));
    assert_eq!(unsent, [Output::Event(SocketEvent::Room(RoomEvent::Unsent(lock)))]);
}

#[test]
fn a_peer_that_was_kicked_is_let_go_by_all_and_lets_go_of_all() {
    let mut desk = resumable();
    desk.open(3);
    let outputs = desk.say(ServerMessage::Kicked(peer(3)));
    assert!(matches!(closed(&outputs), Some((gone, CloseReason::Failed(_))) if gone == peer(3)), "{outputs:?}");
    desk.open(4);
    let kicked = SignalError::Kicked { seconds: 60 };
    let outputs = desk.say(ServerMessage::Error(kicked.clone()));
    assert!(matches!(closed(&outputs), Some((gone, CloseReason::Failed(_))) if gone == peer(4)), "{outputs:?}");
    assert_eq!(outputs.first(), Some(&Output::Event(SocketEvent::Failed(SocketError::Refused(kicked)))));
    assert_eq!(desk.wait(Duration::from_secs(600)), []);
}

#[test]
fn a_quick_match_is_waited_for_and_not_looked_for_twice() {
    let quick = QuickMatch { game: "duel".into(), version: "1".into(), size: 2, topology: Topology::Mesh };
    let config = SocketConfig::quick_match("ws://host:1", &quick);
    let mut desk = Desk { board: Switchboard::new(ms(0), config, 1), now: ms(0) };
    desk.tell(Input::Elapsed);
    desk.tell(Input::Signaller(SignallerEvent::Opened));
    let status = MatchStatus { waiting: 1, size: 2 };
    let outputs = desk.say(ServerMessage::Waiting(status));
    assert_eq!(outputs[1..], [Output::Event(SocketEvent::Room(RoomEvent::Waiting(status)))]);
    assert_eq!(
        desk.wait(Duration::from_secs(60)),
        vec![Output::Send(ClientMessage::KeepAlive); 6],
        "it may take a while"
    );
    // Lost while it waits, it waits again.
    lose(&mut desk);
    assert!(dialled(&desk.wait(Duration::from_secs(1))).is_some());
    desk.tell(Input::Signaller(SignallerEvent::Opened));
    desk.say(ServerMessage::Waiting(status));
    let outputs = desk.say(greeting(2, &[1, 2], Topology::Mesh, false));
    assert!(outputs.iter().any(|output| matches!(output, Output::Event(SocketEvent::Entered(_)))), "{outputs:?}");
    lose(&mut desk);
    desk.wait(Duration::from_secs(1));
    desk.tell(Input::Signaller(SignallerEvent::Opened));
    desk.say(ServerMessage::Error(SignalError::SeatGone));
    let outputs = desk.wait(Duration::from_secs(60));
    assert_eq!(outputs, [Output::Event(SocketEvent::Failed(SocketError::Refused(SignalError::SeatGone)))]);
}

//! Does a peer whose seat is gone come back to its room as who it was, and leave its links alone?

use coplay_proto::signal::lobby::{Lobby, Metadata, QuickMatch};

use super::*;

const ROOM: &str = "ws://host:1/room?existing=1&ticket=t%31";

fn lobby() -> Lobby {
    Lobby {
        code: "ROOM".into(),
        game: "arena".into(),
        version: String::new(),
        players: 2,
        max: 4,
        topology: Topology::Mesh,
        public: false,
        locked: false,
        has_password: false,
        metadata: Metadata::default(),
    }
}

/// How a room is entered, or entered anew: by `me`, after and before these, where `led` leads.
fn greeting(me: u8, members: &[u8], led: (u8, u32), lobby: Lobby) -> ServerMessage {
    let ServerMessage::Welcome(welcome) = welcome(me) else { unreachable!() };
    ServerMessage::Welcome(Box::new(Welcome {
        members: members.iter().map(|member| peer(*member)).collect(),
        leader: Leader { peer: peer(led.0), term: Term(led.1) },
        topology: lobby.topology,
        lobby: Some(Box::new(lobby)),
        resume: Some("token".into()),
        secret: Some("secret".into()),
        ..*welcome
    }))
}

/// A desk that has entered, after peer 1, as peer 2.
fn second(config: SocketConfig, led: (u8, u32), lobby: Lobby) -> Desk {
    Desk::entered(config, 1, greeting(2, &[1, 2], led, lobby))
}

/// Peer `n` offered, and is connected.
fn answer_to(desk: &mut Desk, n: u8) -> Attempt {
    let (attempt, _) = Desk::started(&desk.signal(n, offer())).expect("started");
    desk.tell(Input::LocalDescription(attempt, answer()));
    assert_eq!(desk.tell(Input::Open(attempt)), [Output::Event(SocketEvent::Opened(peer(n)))]);
    attempt
}

/// Signaling is gone, and there again.
fn dial_again(desk: &mut Desk) -> Dial {
    desk.tell(Input::Signaller(SignallerEvent::Down(Down::Lost("restarted".into()))));
    let outputs = desk.wait(Duration::from_secs(1));
    let dial = dialled(&outputs).expect("it is dialled again").clone();
    desk.tell(Input::Signaller(SignallerEvent::Opened));
    dial
}

fn events(outputs: &[Output]) -> Vec<&SocketEvent> {
    let mut events = Vec::new();
    for output in outputs {
        if let Output::Event(event) = output {
            events.push(event);
        }
    }
    events
}

fn commands(outputs: &[Output]) -> Vec<RoomCommand> {
    let command = |output: &Output| match output {
        Output::Send(ClientMessage::Room(command)) => Some(command.clone()),
        _ => None,
    };
    outputs.iter().filter_map(command).collect()
}

#[test]
fn the_room_is_entered_anew_with_the_secret_and_who_is_linked_is_not_dialled() {
    let mut desk = second(SocketConfig::new(ROOM), (1, 1), lobby());
    let (one, three) = (answer_to(&mut desk, 1), desk.open(3));
    let dial = dial_again(&mut desk);
    assert_eq!(dial.url.as_deref(), Some("ws://host:1/ROOM?topology=mesh&max=4&game=arena&ticket=t%31"));
    assert_eq!(
        (dial.credentials.secret.as_deref(), dial.credentials.resume.as_deref()),
        (Some("secret"), Some("token"))
    );
    assert_eq!(dial.credentials.led, None);
    // Peer 3 was quicker than peer 1.
    let outputs = desk.say(greeting(2, &[3, 2], (3, 1), lobby()));
    let told = events(&outputs);
    assert!(told.contains(&&SocketEvent::Room(RoomEvent::Resumed)), "{told:?}");
    let untrue = |event: &&&SocketEvent| {
        matches!(event, SocketEvent::Entered(_) | SocketEvent::Leader(_) | SocketEvent::Closed(..))
    };
    assert_eq!(told.iter().find(untrue), None, "nobody else leads those who play on");
    assert_eq!(desk.say(ServerMessage::NewPeer(peer(1))), [], "there is a link");
    assert!(Desk::started(&desk.say(ServerMessage::NewPeer(peer(4)))).is_some_and(|(_, offers)| offers));
    assert!(desk.board.is_open(one) && desk.board.is_open(three));
    // Of a pair that connects anew, who came to the new room first is to offer.
    let outputs = desk.signal(3, offer());
    assert!(
        closed(&outputs).is_some_and(|(gone, _)| gone == peer(3)) && Desk::started(&outputs).is_some(),
        "{outputs:?}"
    );
    assert_eq!(desk.signal(1, offer()), [], "that is ours to do");
    let outputs = desk.say(ServerMessage::Leader(Leader { peer: peer(1), term: Term(2) }));
    assert_eq!(events(&outputs).len(), 1, "{outputs:?}");
}

#[test]
fn an_older_welcome_makes_no_newer_secret_void() {
    let mut desk = second(SocketConfig::new(ROOM), (2, 3), lobby());
    answer_to(&mut desk, 1);
    for term in [3, 7] {
        let dial = dial_again(&mut desk);
        assert_eq!((dial.credentials.secret.as_deref(), dial.credentials.led), (Some("secret"), Some(Term(term))));
        let ServerMessage::Welcome(welcome) = greeting(2, &[2], (2, 7), lobby()) else { unreachable!() };
        // It came with it: it is not told again.
        desk.say(ServerMessage::Welcome(Box::new(Welcome { secret: None, ..*welcome })));
    }
}

#[test]
fn what_was_not_open_is_begun_anew_by_who_came_first() {
    let mut desk = second(SocketConfig::new(ROOM), (1, 1), lobby());
    let (ours, _) = Desk::started(&desk.say(ServerMessage::NewPeer(peer(3)))).expect("started");
    let (theirs, _) = Desk::started(&desk.signal(1, offer())).expect("started");
    dial_again(&mut desk);
    let outputs = desk.say(greeting(2, &[3, 2], (3, 1), lobby()));
    assert!(outputs.contains(&Output::Stop(ours)) && outputs.contains(&Output::Stop(theirs)), "{outputs:?}");
    assert_eq!(closed(&outputs), None, "nobody was told of them");
    assert!(Desk::started(&desk.signal(3, offer())).is_some_and(|(_, offers)| !offers));
    assert!(Desk::started(&desk.say(ServerMessage::NewPeer(peer(1)))).is_some_and(|(_, offers)| offers));
}

#[test]
fn who_gets_another_id_hangs_up_and_plays_on_as_who_it_is() {
    let others = [greeting(9, &[9], (9, 1), lobby()), ServerMessage::IdAssigned(peer(9))];
    for other in others {
        let mut desk = second(SocketConfig::new(ROOM), (1, 1), lobby());
        let open = answer_to(&mut desk, 1);
        dial_again(&mut desk);
        let outputs = desk.say(other);
        assert_eq!(outputs.first(), Some(&Output::HangUp));
        let lost = |event: &&SocketEvent| matches!(event, SocketEvent::Signaling(SignalingState::Lost { .. }));
        assert!(events(&outputs).iter().all(lost), "{outputs:?}");
        assert_eq!(dialled(&desk.wait(Duration::from_secs(60))), None);
        assert!(desk.board.is_open(open));
        let outputs = desk.tell(Input::Closed(open));
        let dial = dialled(&outputs).expect("nobody knows us any more");
        assert_eq!((&dial.url, &dial.credentials.secret), (&None, &None));
    }
}

#[test]
fn who_is_not_let_in_again_plays_on_and_waits_for_what_may_pass() {
    for (error, passes) in [
        (SignalError::RoomFull { max: 4 }, true),
        (SignalError::RoomLocked, true),
        (SignalError::Stopping, true),
        (SignalError::WrongPassword, false),
        (SignalError::TicketRefused { detail: String::new() }, false),
        (SignalError::Kicked { seconds: 60 }, false),
    ] {
        let mut desk = second(SocketConfig::new(ROOM), (1, 1), lobby());
        let open = answer_to(&mut desk, 1);
        dial_again(&mut desk);
        let outputs = desk.say(ServerMessage::Error(error.clone()));
        assert!(!events(&outputs).iter().any(|event| matches!(event, SocketEvent::Failed(_))), "{error}");
        let again = desk.wait(Duration::from_secs(20));
        assert_eq!(dialled(&again).is_some(), passes, "{error}");
        assert!(desk.board.is_open(open));
    }
    // Once it is there, a refusal is what it always was.
    let mut desk = second(SocketConfig::new(ROOM), (1, 1), lobby());
    answer_to(&mut desk, 1);
    dial_again(&mut desk);
    desk.say(greeting(2, &[2], (2, 1), lobby()));
    let outputs = desk.say(ServerMessage::Error(SignalError::Kicked { seconds: 60 }));
    assert!(matches!(events(&outputs)[..], [SocketEvent::Failed(_), SocketEvent::Closed(..)]), "{outputs:?}");
}

#[test]
fn a_guest_follows_its_host_until_that_leads_again_or_is_gone() {
    let host = || Lobby { topology: Topology::Host, ..lobby() };
    let guest = || {
        let mut desk = second(SocketConfig::new(ROOM), (1, 5), host());
        let link = answer_to(&mut desk, 1);
        dial_again(&mut desk);
        let outputs = desk.say(greeting(2, &[2], (2, 1), host()));
        assert!(!events(&outputs).iter().any(|event| matches!(event, SocketEvent::Leader(_))), "{outputs:?}");
        assert_eq!(desk.say(ServerMessage::NewPeer(peer(3))), [], "the host is to connect with it");
        assert_eq!(desk.signal(4, offer()), [], "nor is anybody else to connect with us");
        (desk, link)
    };
    let (mut desk, _) = guest();
    let again = Leader { peer: peer(1), term: Term(6) };
    assert_eq!(desk.say(ServerMessage::Leader(again)), [Output::Event(SocketEvent::Leader(again))]);

    let (mut desk, link) = guest();
    let outputs = desk.tell(Input::Closed(link));
    assert!(events(&outputs).contains(&&SocketEvent::Leader(Leader { peer: peer(2), term: Term(1) })), "{outputs:?}");
    let (attempt, true) = Desk::started(&outputs).expect("now it is ours") else { panic!("{outputs:?}") };
    assert_eq!(attempt.peer, peer(3));
}

#[test]
fn who_leads_the_room_made_anew_makes_it_what_it_was() {
    let metadata = Metadata::new([("map", "hill")]).expect("short");
    let mut desk = second(SocketConfig::new(ROOM), (2, 3), lobby());
    answer_to(&mut desk, 1);
    desk.open(3);
    // It was changed since it was made.
    let was = Lobby { max: 8, public: true, locked: true, metadata: metadata.clone(), ..lobby() };
    desk.say(ServerMessage::Room(Box::new(was.clone())));
    let dial = dial_again(&mut desk);
    assert!(dial.url.is_some_and(|url| url.contains("max=8&public=1") && url.contains("meta.map=hill")));
    // Somebody had made it before.
    let outputs = desk.say(greeting(2, &[2, 3], (2, 4), lobby()));
    assert_eq!(
        commands(&outputs),
        [
            RoomCommand::Returning(vec![peer(1)]),
            RoomCommand::Lock(true),
            RoomCommand::Max(8),
            RoomCommand::Public(true),
            RoomCommand::Metadata(metadata)
        ]
    );
    let is = Lobby { locked: true, ..was };
    dial_again(&mut desk);
    assert_eq!(commands(&desk.say(greeting(2, &[1, 3, 2], (1, 1), is.clone()))), [], "another leads");
    dial_again(&mut desk);
    assert_eq!(commands(&desk.say(greeting(2, &[2, 1, 3], (2, 5), is))), [], "it is as it was");
}

#[test]
fn the_room_of_a_quick_match_is_entered_by_its_code_and_groups_are_not_entered_anew() {
    let quick = QuickMatch { game: "duel".into(), version: "1".into(), size: 2, topology: Topology::Mesh };
    let lobby = Lobby { code: "CODE".into(), game: "duel".into(), max: 2, ..lobby() };
    let mut desk = second(SocketConfig::quick_match("wss://host", &quick), (1, 1), lobby);
    answer_to(&mut desk, 1);
    let dial = dial_again(&mut desk);
    assert_eq!(dial.url.as_deref(), Some("wss://host/CODE?topology=mesh&max=2&game=duel"));

    let mut desk = Desk::new();
    let ServerMessage::Welcome(welcome) = welcome(1) else { unreachable!() };
    desk.tell(Input::Signaller(SignallerEvent::Down(Down::Lost("restarted".into()))));
    desk.wait(Duration::from_secs(1));
    desk.tell(Input::Signaller(SignallerEvent::Opened));
    desk.say(ServerMessage::Welcome(Box::new(Welcome { secret: Some("secret".into()), ..*welcome })));
    desk.open(2);
    desk.tell(Input::Signaller(SignallerEvent::Down(Down::Lost("restarted".into()))));
    assert_eq!(dialled(&desk.wait(Duration::from_secs(60))), None);
}

#[test]
fn a_secret_that_cannot_be_offered_is_not_kept() {
    for bad in ["", "a b", "a,b", "ü", &"A".repeat(65)] {
        let ServerMessage::Welcome(welcome) = greeting(2, &[1, 2], (1, 1), lobby()) else { unreachable!() };
        let greeting = ServerMessage::Welcome(Box::new(Welcome { secret: Some(bad.into()), ..*welcome }));
        let desk = Desk::entered(SocketConfig::new(ROOM), 1, greeting);
        assert!(!desk.board.may_reenter(), "{bad}");
    }
}

//! Is the list that of the server, and is a lost server found again?

use coplay_proto::{Topology, signal::SignalError};

use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn lobby(code: &str, players: u32) -> Lobby {
    Lobby {
        code: code.into(),
        game: String::new(),
        version: String::new(),
        players,
        max: 4,
        topology: Topology::Mesh,
        public: true,
        locked: false,
        has_password: false,
        metadata: Default::default(),
    }
}

fn news(reset: bool, lobbies: &[Lobby], gone: &[&str]) -> Input {
    let gone = gone.iter().map(|code| (*code).to_owned()).collect();
    Input::Signaller(SignallerEvent::Message(ServerMessage::News(LobbyNews { reset, lobbies: lobbies.to_vec(), gone })))
}

fn open() -> Board {
    let mut board = Board::new(ms(0), "ws://host/-/lobbies".into(), None, LobbyFilter::default(), 1);
    assert!(matches!(&board.handle(ms(0), Input::Elapsed)[..], [Output::Dial(_)]));
    let said = board.handle(ms(1), Input::Signaller(SignallerEvent::Opened));
    assert_eq!(said, [Output::Send(ClientMessage::Watch(LobbyFilter::default()))]);
    board
}

#[test]
fn a_ticket_is_shown_each_time_and_is_not_in_the_url() {
    let url = "ws://host/-/lobbies".to_owned();
    let mut board = Board::new(ms(0), url, Some("1000-ab".into()), LobbyFilter::default(), 1);
    for _ in 0..2 {
        let now = board.deadline().expect("it is to be dialled");
        let [Output::Dial(dial)] = &board.handle(now, Input::Elapsed)[..] else { panic!("it dials") };
        assert_eq!(dial.subprotocols(), ["coplay.v1", "coplay.ticket.313030302d6162"]);
        board.handle(now, Input::Signaller(SignallerEvent::Down(Down::Lost("cut".into()))));
    }
}

fn players(board: &Board) -> Vec<(&str, u32)> {
    board.lobbies.values().map(|lobby| (lobby.code.as_str(), lobby.players)).collect()
}

#[test]
fn news_make_the_list_and_are_told_once_for_all_that_came() {
    let mut board = open();
    assert_eq!(board.event(), Some(LobbyEvent::Signaling(SignalingState::Connected)));
    board.handle(ms(2), news(true, &[lobby("B", 1), lobby("A", 1)], &[]));
    board.handle(ms(3), news(false, &[lobby("B", 2), lobby("C", 3)], &["A"]));
    assert_eq!(players(&board), [("B", 2), ("C", 3)]);
    assert_eq!((board.event(), board.event()), (Some(LobbyEvent::Changed), None));
    let filter = LobbyFilter { free: 1, ..LobbyFilter::default() };
    let said = board.handle(ms(4), Input::Filter(filter.clone()));
    assert_eq!(said, [Output::Send(ClientMessage::Watch(filter))]);
    board.handle(ms(5), news(true, &[lobby("B", 2)], &[]));
    assert_eq!(players(&board), [("B", 2)]);
    for n in 0..2 * MOST {
        board.handle(ms(6), news(false, &[lobby(&n.to_string(), 1)], &[]));
    }
    assert_eq!(board.lobbies.len(), MOST, "a server that tells without end");
}

#[test]
fn a_lost_server_is_dialled_again_and_asked_for_the_filter_of_now() {
    let mut board = open();
    board.handle(ms(2), news(true, &[lobby("A", 1)], &[]));
    board.handle(ms(3), Input::Signaller(SignallerEvent::Down(Down::Lost("cut".into()))));
    assert_eq!(board.event(), Some(LobbyEvent::Signaling(SignalingState::Lost { reason: "cut".into() })));
    let filter = LobbyFilter { free: 2, ..LobbyFilter::default() };
    assert_eq!(board.handle(ms(4), Input::Filter(filter.clone())), [], "there is nobody to tell");
    let again = board.deadline().expect("it is tried again");
    assert!(again > ms(100) && again < ms(600), "{again:?}");
    assert!(matches!(&board.handle(again, Input::Elapsed)[..], [Output::Dial(_)]));
    let said = board.handle(again, Input::Signaller(SignallerEvent::Opened));
    assert_eq!(said, [Output::Send(ClientMessage::Watch(filter))]);
    assert_eq!(players(&board), [("A", 1)], "as it was last, until there is news");
    let due = board.deadline().expect("it says that it is there");
    assert_eq!(board.handle(due, Input::Elapsed), [Output::Send(ClientMessage::KeepAlive)]);
}

#[test]
fn a_server_without_a_list_and_one_that_is_silent_are_told() {
    let mut board = Board::new(ms(0), "ws://host/-/lobbies".into(), None, LobbyFilter::default(), 1);
    let mut now = ms(0);
    let mut dials = 0;
    while let Some(due) = board.deadline() {
        now = due.max(now);
        dials += board.handle(now, Input::Elapsed).len();
    }
    assert_eq!(dials, ATTEMPTS as usize);
    let events: Vec<_> = std::iter::from_fn(|| board.event()).collect();
    let Some(LobbyEvent::Failed(SocketError::Unreachable { reason, .. })) = events.last() else { panic!("{events:?}") };
    assert_eq!(reason, "it does not answer");

    let mut board = open();
    let malformed = SignalError::Malformed { detail: "what?".into() };
    board.handle(ms(2), Input::Signaller(SignallerEvent::Message(ServerMessage::Error(malformed.clone()))));
    let events: Vec<_> = std::iter::from_fn(|| board.event()).collect();
    assert_eq!(events.last(), Some(&LobbyEvent::Failed(SocketError::Refused(malformed))));
    assert_eq!(board.deadline(), None);
}

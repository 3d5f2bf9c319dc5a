//! Do native sockets and our signaling server agree about lobbies, passwords, leaders, quick matches and lost seats?
#![cfg(not(target_arch = "wasm32"))]

use std::time::{Duration, Instant};

use coplay_proto::{
    PeerId, Topology,
    signal::{
        SignalError,
        lobby::{Listing, Lobby, LobbyFilter, Metadata, QuickMatch, RoomCommand},
    },
};
use coplay_signaling::{Config, Running, Signaling, Stun, Timing};
use coplay_socket::{
    Entered, LobbyBrowser, LobbyEvent, RoomEvent, SignalingState, Socket, SocketConfig, SocketError, SocketEvent,
    connect, now,
};
use wire::Wire;

#[path = "common/wire.rs"]
mod wire;

const PATIENCE: Duration = Duration::from_secs(60);

fn server() -> Running {
    Signaling::spawn(Config::local().stun(Stun::Off)).expect("it starts")
}

/// What `pick` takes of what comes out of `poll`.
async fn until<E, T>(mut poll: impl FnMut() -> Option<E>, mut pick: impl FnMut(E) -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        while let Some(event) = poll() {
            if let Some(picked) = pick(event) {
                return picked;
            }
        }
        assert!(Instant::now() < end, "waited in vain");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn next<T>(socket: &mut dyn Socket, pick: impl FnMut(SocketEvent) -> Option<T>) -> T {
    until(|| socket.poll(now()), pick).await
}

async fn entered(socket: &mut dyn Socket) -> Entered {
    next(socket, |event| match event {
        SocketEvent::Entered(entered) => Some(entered),
        SocketEvent::Failed(error) => panic!("{error}"),
        _ => None,
    })
    .await
}

async fn opened(socket: &mut dyn Socket) -> PeerId {
    next(socket, |event| match event {
        SocketEvent::Opened(peer) => Some(peer),
        SocketEvent::Failed(error) => panic!("{error}"),
        _ => None,
    })
    .await
}

async fn failed(socket: &mut dyn Socket) -> SocketError {
    next(socket, |event| match event {
        SocketEvent::Failed(error) => Some(error),
        _ => None,
    })
    .await
}

async fn room(socket: &mut dyn Socket) -> RoomEvent {
    next(socket, |event| match event {
        SocketEvent::Room(event) => Some(event),
        _ => None,
    })
    .await
}

/// The list, once it is as wanted.
async fn listed(browser: &mut LobbyBrowser, wanted: impl Fn(&[Lobby]) -> bool) -> Vec<Lobby> {
    let end = Instant::now() + PATIENCE;
    loop {
        let event = browser.poll();
        assert!(!matches!(event, Some(LobbyEvent::Failed(_))), "{event:?}");
        let lobbies = browser.lobbies();
        if wanted(&lobbies) {
            return lobbies;
        }
        assert!(Instant::now() < end, "waited in vain: {lobbies:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_lobby_is_made_found_joined_by_password_changed_and_left() {
    let server = server();
    let filter = LobbyFilter { game: Some("arena".into()), free: 1, ..LobbyFilter::default() };
    let mut browser = LobbyBrowser::open(&server.url(), filter);
    let mut url = format!("{}/?topology=mesh&max=2", server.url());
    let metadata = Metadata::new([("map", "the hill")]).expect("short");
    Listing { public: true, game: "arena".into(), version: "0.1".into(), metadata }.append_to(&mut url);
    let with = |url: &str, password: Option<&str>| {
        connect(SocketConfig { password: password.map(Into::into), ..SocketConfig::new(url) })
    };
    let mut host = with(&url, Some("swordfish"));
    let made = entered(&mut *host).await;
    let RoomEvent::Settings(lobby) = room(&mut *host).await else { panic!("the settings come first") };
    let found = listed(&mut browser, |lobbies| !lobbies.is_empty()).await;
    assert_eq!((&found[..], lobby.has_password, found[0].code.as_str()), (&[*lobby][..], true, made.room.as_str()));
    assert_eq!(found[0].metadata.get("map"), Some("the hill"));

    let code = format!("{}/{}?existing=1", server.url(), found[0].code);
    let refused = |error| SocketError::Refused(error);
    assert_eq!(failed(&mut *with(&code, None)).await, refused(SignalError::PasswordNeeded));
    assert_eq!(failed(&mut *with(&code, Some("haddock"))).await, refused(SignalError::WrongPassword));
    let mut guest = with(&code, Some("swordfish"));
    let guest_id = entered(&mut *guest).await.me;
    assert_eq!((opened(&mut *host).await, opened(&mut *guest).await), (guest_id, made.me));
    listed(&mut browser, <[_]>::is_empty).await;

    guest.room_command(RoomCommand::Lock(true));
    let denied = next(&mut *guest, |event| match event {
        SocketEvent::Room(RoomEvent::Denied(error)) => Some(error),
        _ => None,
    });
    assert_eq!(denied.await, SignalError::NotLeader);
    host.room_command(RoomCommand::Max(3));
    let RoomEvent::Settings(lobby) = room(&mut *guest).await else { panic!("the new settings") };
    assert_eq!((lobby.max, lobby.players), (3, 2));
    listed(&mut browser, |lobbies| lobbies.iter().any(|lobby| lobby.players == 2 && lobby.max == 3)).await;

    host.room_command(RoomCommand::Kick(guest_id));
    assert_eq!(failed(&mut *guest).await, refused(SignalError::Kicked { seconds: 60 }));
    let closed = next(&mut *host, |event| match event {
        SocketEvent::Closed(peer, _) => Some(peer),
        _ => None,
    });
    assert_eq!(closed.await, guest_id, "the link ends too");
    assert!(matches!(
        failed(&mut *with(&code, Some("swordfish"))).await,
        SocketError::Refused(SignalError::Kicked { .. })
    ));
    // Dropping the socket is a goodbye: no seat is kept.
    drop(host);
    listed(&mut browser, <[_]>::is_empty).await;
    drop((guest, browser));
    let end = Instant::now() + Duration::from_secs(5);
    while server.occupancy().peers > 0 {
        assert!(Instant::now() < end, "{:?}", server.occupancy());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_server_that_asks_for_tickets_is_shown_them_for_rooms_matches_and_the_list() {
    let secret = coplay_signaling::Secret::from("a secret of sixteen or more");
    let until = std::time::SystemTime::now() + Duration::from_secs(3600);
    let ticket = coplay_signaling::ticket(&secret, None, until);
    let config = Config { tickets: Some(secret), ..Config::local().stun(Stun::Off) };
    let server = Signaling::spawn(config).expect("it starts");
    let wanted = QuickMatch { game: "arena".into(), version: "1".into(), size: 2, topology: Topology::Mesh };
    let room = || SocketConfig::new(format!("{}/r?topology=mesh&public=1", server.url()));
    let quick = || SocketConfig::quick_match(&server.url(), &wanted);
    let with = |config: SocketConfig| connect(SocketConfig { ticket: Some(ticket.as_str().into()), ..config });
    for config in [room(), quick()] {
        let error = failed(&mut *connect(config)).await;
        assert!(matches!(error, SocketError::Refused(SignalError::TicketRefused { .. })), "{error}");
    }
    let mut refused = LobbyBrowser::open(&server.url(), LobbyFilter::default());
    let pick = |event| if let LobbyEvent::Failed(error) = event { Some(error) } else { None };
    let error = self::until(|| refused.poll(), pick).await;
    assert!(matches!(error, SocketError::Refused(SignalError::TicketRefused { .. })), "{error}");

    let mut host = with(room());
    entered(&mut *host).await;
    let mut browser =
        LobbyBrowser::open_with_ticket(&server.url(), Some(ticket.as_str().into()), LobbyFilter::default());
    assert_eq!(listed(&mut browser, |lobbies| !lobbies.is_empty()).await[0].code, "r");
    let (mut one, mut two) = (with(quick()), with(quick()));
    let (one, two) = tokio::join!(entered(&mut *one), entered(&mut *two));
    assert_eq!(one.room, two.room);
}

#[tokio::test]
async fn a_quick_match_connects_those_who_want_the_same() {
    let server = server();
    let wanted = QuickMatch { game: "duel".into(), version: "1".into(), size: 2, topology: Topology::Mesh };
    let mut one = connect(SocketConfig::quick_match(&server.url(), &wanted));
    assert!(matches!(room(&mut *one).await, RoomEvent::Waiting(status) if status.waiting == 1 && status.size == 2));
    let other_version = QuickMatch { version: "2".into(), ..wanted.clone() };
    let mut stranger = connect(SocketConfig::quick_match(&server.url(), &other_version));
    assert!(matches!(room(&mut *stranger).await, RoomEvent::Waiting(_)));
    let mut two = connect(SocketConfig::quick_match(&server.url(), &wanted));
    let (first, second) = (entered(&mut *one).await, entered(&mut *two).await);
    assert_eq!((first.room, first.leader), (second.room, second.leader));
    assert_eq!((opened(&mut *one).await, opened(&mut *two).await), (second.me, first.me));
}

#[tokio::test]
async fn a_lost_signaling_connection_comes_back_to_its_seat_while_the_links_go_on() {
    let server = server();
    let wire = Wire::to(server.local_addr()).await.expect("a port is free");
    let mut leader = connect(SocketConfig::new(format!("ws://{}/r", wire.address)));
    let me = entered(&mut *leader).await.me;
    let mut other = connect(SocketConfig::new(format!("{}/r", server.url())));
    let other_id = entered(&mut *other).await.me;
    assert_eq!((opened(&mut *leader).await, opened(&mut *other).await), (other_id, me));

    wire.cut();
    let lost = next(&mut *leader, |event| match event {
        SocketEvent::Signaling(SignalingState::Lost { reason }) => Some(reason),
        SocketEvent::Closed(..) => panic!("a link ended with signaling"),
        _ => None,
    });
    lost.await;
    // Somebody comes meanwhile, whom the lost one is to be connected with.
    let mut third = connect(SocketConfig::new(format!("{}/r", server.url())));
    let third_entered = entered(&mut *third).await;
    assert_eq!(third_entered.leader.map(|leader| leader.peer), Some(me), "it leads still");
    let back = next(&mut *leader, |event| match event {
        SocketEvent::Room(RoomEvent::Resumed) => Some(()),
        SocketEvent::Entered(entered) => panic!("{entered:?}"),
        SocketEvent::Closed(..) => panic!("a link ended with signaling"),
        _ => None,
    });
    back.await;
    assert_eq!(opened(&mut *leader).await, third_entered.me, "it offers to who came meanwhile");
    let mut of_other = Vec::new();
    while let Some(event) = other.poll(now()) {
        of_other.push(event);
    }
    assert!(
        !of_other.iter().any(|event| matches!(event, SocketEvent::Closed(..) | SocketEvent::Leader(_))),
        "{of_other:?}"
    );
    leader.room_command(RoomCommand::Lock(true));
    let locked = next(&mut *leader, |event| match event {
        SocketEvent::Room(RoomEvent::Settings(lobby)) if lobby.locked => Some(()),
        _ => None,
    });
    locked.await;
}

#[tokio::test]
async fn a_seat_that_is_gone_leaves_the_links_as_they_are() {
    let timing = Timing { resume: Duration::from_millis(50), ..Timing::default() };
    let server = Signaling::spawn(Config { timing, ..Config::local().stun(Stun::Off) }).expect("it starts");
    let wire = Wire::to(server.local_addr()).await.expect("a port is free");
    let mut one = connect(SocketConfig::new(format!("ws://{}/r", wire.address)));
    let me = entered(&mut *one).await.me;
    let mut other = connect(SocketConfig::new(format!("{}/r", server.url())));
    let other_id = entered(&mut *other).await.me;
    assert_eq!((opened(&mut *one).await, opened(&mut *other).await), (other_id, me));
    wire.cut();
    let gone = next(&mut *one, |event| match event {
        SocketEvent::Signaling(SignalingState::Lost { reason }) if reason.contains("seat") => Some(()),
        SocketEvent::Closed(..) | SocketEvent::Entered(_) => panic!("{event:?}"),
        _ => None,
    });
    gone.await;
    // When the link ends, nobody knows it any more, and it enters anew.
    drop(other);
    assert_ne!(entered(&mut *one).await.me, me);
}

#[tokio::test]
async fn a_list_that_cannot_be_had_says_why() {
    // Bound and dropped: nobody listens there.
    let address = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free").local_addr().expect("bound");
    let mut browser = LobbyBrowser::open(&format!("ws://{address}"), LobbyFilter::default());
    let error = until(
        || browser.poll(),
        |event| match event {
            LobbyEvent::Failed(error) => Some(error),
            _ => None,
        },
    );
    let error = error.await.to_string();
    assert!(error.contains("coplay_signaling") && error.contains(&address.to_string()), "{error}");
}

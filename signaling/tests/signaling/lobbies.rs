//! Does somebody with a menu see the public list, as it is and as it changes?

use std::time::Instant;

use coplay_proto::signal::{
    ClientMessage, ServerMessage, SignalError,
    lobby::{Lobby, LobbyFilter, LobbyNews, LobbyPage, LobbyQuery, Metadata, RoomCommand},
};
use coplay_signaling::{Config, Limits, Occupancy, Running, Stun};

use crate::client::*;

const LIST: &str = "/-/lobbies";

async fn menu(server: &Running) -> Client {
    Client::open(server, LIST, true).await.unwrap()
}

async fn page(menu: &mut Client, query: LobbyQuery) -> LobbyPage {
    menu.tell(&ClientMessage::List(query)).await;
    match menu.next().await {
        ServerMessage::Page(page) => page,
        other => panic!("{other:?}"),
    }
}

async fn news(menu: &mut Client) -> LobbyNews {
    match menu.next().await {
        ServerMessage::News(news) => news,
        other => panic!("{other:?}"),
    }
}

fn codes(lobbies: &[Lobby]) -> Vec<&str> {
    lobbies.iter().map(|lobby| lobby.code.as_str()).collect()
}

#[tokio::test]
async fn public_rooms_are_listed_by_what_is_asked_for() {
    let server = plain();
    let (_a, _) = Client::coplay(&server, "/a?public=1&game=arena&version=1&meta.map=hill&max=2").await;
    let (_b, _) = Client::coplay(&server, "/b?public=1&game=arena&version=2&meta.map=lake").await;
    let (mut c, _) = Client::coplay(&server, "/c?public=1&game=cubes").await;
    let (_hidden, _) = Client::coplay(&server, "/hidden?game=arena").await;
    let mut menu = menu(&server).await;
    let all = page(&mut menu, LobbyQuery::default()).await;
    assert_eq!((codes(&all.lobbies), all.next), (vec!["a", "b", "c"], None));
    assert_eq!((all.lobbies[0].players, all.lobbies[0].max, all.lobbies[0].game.as_str()), (1, 2, "arena"));

    let filtered = async |menu: &mut Client, filter: LobbyFilter| {
        let page = page(menu, LobbyQuery { filter, ..LobbyQuery::default() }).await;
        codes(&page.lobbies).join(" ")
    };
    let game = LobbyFilter { game: Some("arena".into()), ..LobbyFilter::default() };
    assert_eq!(filtered(&mut menu, game.clone()).await, "a b");
    assert_eq!(filtered(&mut menu, LobbyFilter { version: Some("2".into()), ..game }).await, "b");
    let metadata = Metadata::new([("map", "hill")]).unwrap();
    assert_eq!(filtered(&mut menu, LobbyFilter { metadata, ..LobbyFilter::default() }).await, "a");
    assert_eq!(filtered(&mut menu, LobbyFilter { free: 2, ..LobbyFilter::default() }).await, "b c");
    let first = page(&mut menu, LobbyQuery { limit: 2, ..LobbyQuery::default() }).await;
    assert_eq!((codes(&first.lobbies), first.next.as_deref()), (vec!["a", "b"], Some("b")));
    let second = page(&mut menu, LobbyQuery { limit: 2, after: first.next, ..LobbyQuery::default() }).await;
    assert_eq!((codes(&second.lobbies), second.next), (vec!["c"], None));

    // What the leader changes is what the list says.
    c.tell(&ClientMessage::Room(RoomCommand::Lock(true))).await;
    assert!(matches!(c.next().await, ServerMessage::Room(_)));
    assert_eq!(filtered(&mut menu, LobbyFilter { free: 1, ..LobbyFilter::default() }).await, "a b");
    c.tell(&ClientMessage::Room(RoomCommand::Public(false))).await;
    assert!(matches!(c.next().await, ServerMessage::Room(lobby) if !lobby.public));
    assert_eq!(filtered(&mut menu, LobbyFilter::default()).await, "a b");
}

#[tokio::test]
async fn a_watcher_is_told_what_changes_and_not_more_than_twice_a_second() {
    let server = plain();
    let mut menu = menu(&server).await;
    let filter = LobbyFilter { game: Some("arena".into()), ..LobbyFilter::default() };
    menu.tell(&ClientMessage::Watch(filter)).await;
    assert_eq!(news(&mut menu).await, LobbyNews { reset: true, ..LobbyNews::default() }, "there is none yet");
    let start = Instant::now();
    let (mut leader, _) = Client::coplay(&server, "/?public=1&game=arena").await;
    let (_other, _) = Client::coplay(&server, "/?public=1&game=cubes").await;
    let first = news(&mut menu).await;
    assert_eq!((first.reset, first.lobbies.len(), first.lobbies[0].players), (false, 1, 1));
    let code = first.lobbies[0].code.clone();
    for n in 0..25 {
        let metadata = Metadata::new([("n", n.to_string())]).unwrap();
        leader.tell(&ClientMessage::Room(RoomCommand::Metadata(metadata))).await;
        assert!(matches!(leader.next().await, ServerMessage::Room(_)));
    }
    let mut told = 0;
    loop {
        let news = news(&mut menu).await;
        told += 1;
        if news.lobbies.last().is_some_and(|lobby| lobby.metadata.get("n") == Some("24")) {
            break;
        }
    }
    let most = start.elapsed().as_millis() / 500 + 1;
    assert!(told <= most, "{told} times in {:?}", start.elapsed());
    leader.leave().await;
    let last = news(&mut menu).await;
    assert_eq!((last.lobbies.len(), &last.gone[..]), (0, &[code][..]));
    // Another filter is answered anew.
    menu.tell(&ClientMessage::Watch(LobbyFilter::default())).await;
    let all = news(&mut menu).await;
    assert_eq!((all.reset, all.lobbies.len()), (true, 1));
}

#[tokio::test]
async fn a_menu_is_no_room_and_asks_within_limits() {
    let limits = Limits { address_menus: 2, address_lobbies: 1, ..Limits::default() };
    let server = start(Config { limits, ..Config::local().stun(Stun::Off) });
    let (mut one, mut two) = (menu(&server).await, menu(&server).await);
    assert_eq!(Client::refused(&server, LIST).await, (SignalError::TooMuch, 4429));
    one.tell(&ClientMessage::Room(RoomCommand::Lock(true))).await;
    assert!(matches!(one.dismissed().await, (SignalError::Malformed { .. }, 4400)));
    for _ in 0..100 {
        two.tell(&ClientMessage::KeepAlive).await;
    }
    for _ in 0..40 {
        two.tell(&ClientMessage::List(LobbyQuery::default())).await;
    }
    let end = loop {
        match two.next().await {
            ServerMessage::Page(_) => (),
            other => break other,
        }
    };
    assert_eq!(end, ServerMessage::Error(SignalError::TooMuch));
    drop(two);
    assert_eq!(Client::denied(&server, LIST).await.0, 400, "without the subprotocol it is no room's name");
    // An address has a share of the list.
    let (mut first, _) = Client::coplay(&server, "/a?public=1").await;
    assert_eq!(Client::refused(&server, "/b?public=1").await, (SignalError::TooMuch, 4429));
    let (mut second, _) = Client::coplay(&server, "/b").await;
    second.tell(&ClientMessage::Room(RoomCommand::Public(true))).await;
    second.hears(ServerMessage::Denied(SignalError::TooMuch)).await;
    first.tell(&ClientMessage::Room(RoomCommand::Public(false))).await;
    assert!(matches!(first.next().await, ServerMessage::Room(_)));
    second.tell(&ClientMessage::Room(RoomCommand::Public(true))).await;
    assert!(matches!(second.next().await, ServerMessage::Room(lobby) if lobby.public));
    first.leave().await;
    second.leave().await;
    until(&server, Occupancy { rooms: 0, peers: 0 }).await;
    let _both = (menu(&server).await, menu(&server).await);
}

//! Does the log say what happened to a peer, to whoever asks for it, and who that was?
#![cfg(unix)]

use coplay_proto::signal::{ClientMessage, ServerMessage, lobby::RoomCommand};
use stun::message::METHOD_REFRESH;

use crate::{
    client::*,
    process::{Process, run},
    turn_client::*,
};

/// A server on a port of its own that logs everything of ours, with these options besides.
fn logging(args: &[&str]) -> Process {
    Process::of(run(&[&["--listen", "127.0.0.1:0", "--drain", "0", "--log", "coplay_signaling=debug"], args].concat()))
}

/// What it logged, once it has stopped.
fn all(process: Process) -> String {
    process.signal("TERM");
    process.rest_of_log()
}

/// The line that has all of these in it.
fn line<'a>(log: &'a str, wanted: &[&str]) -> &'a str {
    let found = log.lines().find(|line| wanted.iter().all(|text| line.contains(text)));
    found.unwrap_or_else(|| panic!("{wanted:?} is in no line of\n{log}"))
}

async fn join(process: &Process, path: &str) -> Client {
    let url = format!("{}{path}", process.url);
    let mut client = Client::open_at(process.address().parse().unwrap(), &url, true).await.unwrap();
    let ServerMessage::Welcome(welcome) = client.next().await else { panic!("no welcome") };
    client.me = welcome.me;
    client
}

#[tokio::test]
async fn at_level_debug_a_peer_can_be_followed_from_its_coming_to_its_going() {
    let process = logging(&["--no-stun"]);
    let address = process.address().parse().unwrap();
    let mut leader = join(&process, "/field").await;
    let mut other = join(&process, "/field").await;
    leader.hears(ServerMessage::NewPeer(other.me)).await;
    leader.tell(&ClientMessage::Room(RoomCommand::Lock(true))).await;
    let ServerMessage::Room(lobby) = leader.next().await else { panic!("not locked") };
    assert!(lobby.locked);
    other.tell(&ClientMessage::Room(RoomCommand::Lock(false))).await;
    let late = format!("{}/field?ticket=do-not-tell", process.url);
    assert!(Client::open_at(address, &late, false).await.is_err(), "it is locked");
    let [first, second] = [leader.me, other.me];
    leader.leave().await;
    while other.next().await != ServerMessage::PeerLeft(first) {}
    let menu = Client::open_at(address, &format!("{}/-/lobbies", process.url), true).await.unwrap();
    menu.leave().await;
    other.leave().await;
    let log = all(process);
    let [leader, other] = [first, second].map(|id| format!("id={id}"));
    for wanted in [
        &["peer{from=127.0.0.1", &leader, "room=\"field\"}", "is in a room"][..],
        &["peer{from=127.0.0.1", &leader, "room=\"field\"}", "is closed", "the peer closed it"],
        &["peer{from=127.0.0.1", &other, "room=\"field\"}", "is in a room"],
        &["room{name=\"field\"}", "the leader changed the room", "locked=true"],
        &["room{name=\"field\"}", "a command is not done", "error="],
        &["room{name=\"field\"}", "a peer left"],
        &["room{name=\"field\"}", "another leads"],
        &["peer{from=127.0.0.1}", "is not let in", "path=\"/field\"", "error="],
        &["peer{from=127.0.0.1}", "looks at the public list"],
    ] {
        line(&log, wanted);
    }
    assert!(!log.contains("do-not-tell"), "no tickets: {log}");
    assert!(!log.contains("Some(") && !log.contains('\x1b'), "neither of a program's insides nor colours: {log}");
    assert!(!line(&log, &["room{", "is made"]).contains("peer{"), "a room is not of the peer that made it");
}

#[tokio::test]
async fn at_level_debug_what_is_relayed_by_turn_has_a_name_and_an_address() {
    let mut process = logging(&["--turn-embedded", "--turn-secret", SECRET]);
    let serves = process.logs("signaling serves");
    let at = serves.split("stun=").nth(1).unwrap().split_whitespace().next().unwrap();
    let name = username(7 << 96, 600);
    let mut asker = Asker {
        socket: tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        server: at.parse().unwrap(),
        password: password(SECRET, &name),
        username: name,
        nonce: String::new(),
    };
    let relay = asker.allocate().await.unwrap();
    asker.refresh(0).await.unwrap();
    asker.password = password("south", &asker.username);
    let forged = asker.request(METHOD_REFRESH, Vec::new());
    asker.socket.send_to(&forged.raw, asker.server).await.unwrap();
    process.logs("a TURN allocation id=");
    let ended = process.logs("a TURN allocation ended");
    let refused = process.logs("a TURN request is refused");
    let (from, relay) = (format!("from={}", asker.socket.local_addr().unwrap()), format!("relay={relay}"));
    assert!(ended.contains(&from) && ended.contains(&relay) && ended.contains("id=00000007"), "{ended}");
    assert!(refused.contains(&from) && refused.contains("code=401"), "{refused}");
}

#[tokio::test]
async fn at_level_info_there_is_nothing_of_a_peer() {
    let process = Process::start(&["--drain", "0"]);
    drop(join(&process, "/field").await);
    let log = all(process);
    line(&log, &["signaling serves", "listen=127.0.0.1:", "tls=false"]);
    assert!(!log.contains("field") && !log.contains("Some(") && !log.contains("None"), "{log}");
}

//! Do native sockets whose signaling server is started anew come back to their rooms, while they play on?
#![cfg(not(target_arch = "wasm32"))]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use coplay_proto::{
    Lane, PeerId, Term,
    signal::{Leader, lobby::RoomCommand},
};
use coplay_signaling::{Config, Running, Signaling, Stun, Timing};
use coplay_socket::{Entered, RelayPolicy, RoomEvent, Socket, SocketConfig, SocketEvent, connect, now};
use wire::Wire;

#[path = "common/wire.rs"]
mod wire;

const PATIENCE: Duration = Duration::from_secs(60);

fn server(at: SocketAddr, timing: Timing) -> Running {
    Signaling::spawn(Config { timing, ..Config::local().listen(at).stun(Stun::Off) }).expect("it starts")
}

/// A socket, and everything that came out of it.
struct Player {
    socket: Box<dyn Socket>,
    events: Vec<SocketEvent>,
    heard: Vec<Bytes>,
}

impl Player {
    fn new(url: impl Into<String>) -> Self {
        Self::with(SocketConfig { password: Some("swordfish".into()), ..SocketConfig::new(url) })
    }

    fn with(config: SocketConfig) -> Self {
        Self { socket: connect(config), events: Vec::new(), heard: Vec::new() }
    }

    fn poll(&mut self) {
        while let Some(event) = self.socket.poll(now()) {
            match event {
                SocketEvent::Received(_, Lane::Reliable, bytes) => self.heard.push(bytes),
                SocketEvent::Failed(error) => panic!("{error}"),
                event => self.events.push(event),
            }
        }
    }

    fn entered(&self) -> Option<&Entered> {
        self.events.iter().find_map(|event| match event {
            SocketEvent::Entered(entered) => Some(entered),
            _ => None,
        })
    }

    fn is_open(&self, peer: PeerId) -> bool {
        self.events.contains(&SocketEvent::Opened(peer))
    }

    fn is_back(&self) -> bool {
        self.events.contains(&SocketEvent::Room(RoomEvent::Resumed))
    }

    /// Whether it is the one that it was, and lost nobody.
    fn played_on(&self) -> bool {
        let entered = self.events.iter().filter(|event| matches!(event, SocketEvent::Entered(_))).count();
        entered == 1 && !self.events.iter().any(|event| matches!(event, SocketEvent::Closed(..)))
    }

    fn leaders(&self) -> Vec<Leader> {
        let leader = |event: &SocketEvent| match event {
            SocketEvent::Leader(leader) => Some(*leader),
            _ => None,
        };
        self.events.iter().filter_map(leader).collect()
    }
}

/// Polls all until it is so.
async fn until<const N: usize>(what: &str, players: &mut [Player; N], mut done: impl FnMut(&mut [Player; N]) -> bool) {
    let end = Instant::now() + PATIENCE;
    loop {
        players.iter_mut().for_each(Player::poll);
        if done(players) {
            return;
        }
        assert!(Instant::now() < end, "waited in vain: {what}: {:?}", players.each_ref().map(|it| &it.events));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn two_who_play_on_are_there_again_after_a_restart_and_a_third_finds_them() {
    // It drains, so that they are told to wait when they come back at once.
    let first = server(([127, 0, 0, 1], 0).into(), Timing { drain: Duration::from_millis(800), ..Timing::default() });
    let at = first.local_addr();
    let mut host = [Player::new(format!("ws://{at}/?max=3"))];
    until("the room", &mut host, |[host]| host.entered().is_some()).await;
    let [host] = host;
    let (code, host_id) = (host.entered().expect("just now").room.clone(), host.entered().expect("just now").me);
    let url = format!("ws://{at}/{code}?existing=1");
    let mut two = [host, Player::new(&url)];
    until("the link", &mut two, |[_, guest]| guest.is_open(host_id)).await;
    let guest_id = two[1].entered().expect("it has a link").me;
    until("the other end", &mut two, |[host, _]| host.is_open(guest_id)).await;
    two[0].socket.room_command(RoomCommand::Lock(true));
    let locked = |event: &SocketEvent| matches!(event, SocketEvent::Room(RoomEvent::Settings(lobby)) if lobby.locked);
    until("the lock", &mut two, |two| two.iter().all(|player| player.events.iter().any(locked))).await;

    let mut sent = 0_u32;
    let mut say = move |host: &mut Player| {
        if host.socket.send(guest_id, Lane::Reliable, Bytes::copy_from_slice(&sent.to_be_bytes())).is_ok() {
            sent += 1;
        }
        sent
    };
    say(&mut two[0]);
    drop(first);
    let _second = server(at, Timing::default());
    until("both are back", &mut two, |two| {
        say(&mut two[0]);
        two.iter().all(Player::is_back)
    })
    .await;
    two[0].socket.room_command(RoomCommand::Lock(false));
    let unlocked = |player: &Player| {
        player.events.iter().rposition(locked).is_some_and(|last| {
            player.events[last..]
                .iter()
                .any(|event| matches!(event, SocketEvent::Room(RoomEvent::Settings(lobby)) if !lobby.locked))
        })
    };
    until("it was locked again, and is open", &mut two, |two| two.iter().all(unlocked)).await;

    let [host, guest] = two;
    let mut three = [host, guest, Player::new(&url)];
    until("all are linked", &mut three, |[host, guest, third]| {
        let Some(entered) = third.entered() else { return false };
        assert_eq!((entered.room.as_str(), entered.members.len()), (code.as_str(), 3));
        let id = entered.me;
        host.is_open(id) && guest.is_open(id) && third.is_open(host_id) && third.is_open(guest_id)
    })
    .await;
    let last = say(&mut three[0]);
    until("everything arrives", &mut three, |[_, guest, _]| guest.heard.len() >= last as usize).await;
    let expected: Vec<Bytes> = (0..last).map(|n| Bytes::copy_from_slice(&n.to_be_bytes())).collect();
    assert_eq!(three[1].heard, expected, "nothing was lost, and nothing came twice");
    assert!(three.iter().all(Player::played_on));
    let leader = three[2].entered().and_then(|entered| entered.leader);
    assert_eq!(leader.map(|leader| leader.peer), Some(host_id), "whoever was quicker");
    // And a password that the room made anew has, too.
    let mut stranger = connect(SocketConfig::new(&url));
    let error = loop {
        if let Some(SocketEvent::Failed(error)) = stranger.poll(now()) {
            break error;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    assert!(error.to_string().contains("password"), "{error}");
}

#[tokio::test]
async fn who_is_relayed_by_the_server_plays_on_when_it_is_there_again() {
    let first = server(([127, 0, 0, 1], 0).into(), Timing::default());
    let at = first.local_addr();
    let player =
        || Player::with(SocketConfig { relay: RelayPolicy::Only, ..SocketConfig::new(format!("ws://{at}/relayed")) });
    let mut two = [player(), player()];
    until("the relay", &mut two, |two| {
        two.iter().all(|it| it.events.iter().any(|event| matches!(event, SocketEvent::Opened(_))))
    })
    .await;
    let to = two[1].entered().expect("it has a link").me;
    drop(first);
    two[0].socket.send(to, Lane::Reliable, "said while there is no server".into()).expect("it is kept");
    let _second = server(at, Timing::default());
    until("what was said", &mut two, |[_, guest]| !guest.heard.is_empty()).await;
    assert!(two.iter().all(|player| player.is_back() && player.played_on()));
}

#[tokio::test]
async fn a_host_leads_again_though_a_newcomer_and_a_guest_were_quicker() {
    let first = server(([127, 0, 0, 1], 0).into(), Timing::default());
    let at = first.local_addr();
    let wires = [Wire::to(at).await.expect("a port is free"), Wire::to(at).await.expect("a port is free")];
    let url = |at: SocketAddr| format!("ws://{at}/r?topology=host");
    let mut host = [Player::new(url(wires[0].address))];
    until("the room", &mut host, |[host]| host.entered().is_some()).await;
    let [host] = host;
    let host_id = host.entered().expect("just now").me;
    let mut two = [host, Player::new(url(wires[1].address))];
    until("the link", &mut two, |[_, guest]| guest.is_open(host_id)).await;
    let guest_id = two[1].entered().expect("it has a link").me;
    until("the other end", &mut two, |[host, _]| host.is_open(guest_id)).await;

    for wire in &wires {
        wire.block(true);
    }
    drop(first);
    let _second = server(at, Timing::default());
    let mut stranger = [Player::new(url(at))];
    until("a newcomer", &mut stranger, |[stranger]| stranger.entered().is_some()).await;
    let [stranger] = stranger;
    let stranger_id = stranger.entered().expect("just now").me;
    let [host, guest] = two;
    let mut three = [host, guest, stranger];
    wires[1].block(false);
    until("the guest", &mut three, |[_, guest, _]| guest.is_back()).await;
    wires[0].block(false);
    until("the host", &mut three, |[host, _, stranger]| host.is_open(stranger_id) && stranger.is_open(host_id)).await;
    let again = Leader { peer: host_id, term: Term(2) };
    until("the leader", &mut three, |three| three.iter().all(|player| player.leaders().contains(&again))).await;
    let [host, guest, stranger] = three;
    assert!(host.is_back() && host.played_on() && guest.played_on() && stranger.played_on());
    assert_eq!([host.leaders(), guest.leaders(), stranger.leaders()], [[again]; 3], "nobody else led in between");
    assert!(!guest.is_open(stranger_id) && !stranger.is_open(guest_id), "guests are not connected with each other");
}

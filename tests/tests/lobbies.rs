//! Do games of ours find each other by a menu: the public list, passwords, quick match, and what a leader may do?
#![cfg(not(target_arch = "wasm32"))]

use std::time::{Duration, Instant};

use bevy_app::{App, TaskPoolPlugin};
use bevy_coplay::{RoomDenial, RoomError, SignalError, SocketError, prelude::*};
use bevy_ecs::prelude::*;
use bevy_state::prelude::*;
use coplay_signaling::{Config, Running, Signaling, Stun};

/// Anything that takes longer than this does not happen.
const PATIENCE: Duration = Duration::from_secs(30);
const GAME: &str = "lobby test";

/// What a player was told.
#[derive(Resource, Default)]
struct Told {
    failed: Vec<RoomError>,
    denied: Vec<RoomDenial>,
    waiting: Vec<MatchWaiting>,
    changed: u32,
    lists: u32,
}

/// Games that run side by side, each with its own world.
struct Games {
    signaling: Running,
    apps: Vec<App>,
}

impl Games {
    fn start(count: usize) -> Self {
        let signaling = Signaling::spawn(Config::local().stun(Stun::Off)).expect("a free port");
        let apps = (0..count).map(|_| game()).collect();
        Self { signaling, apps }
    }

    /// A way into a room of this server.
    fn way(&self, join: JoinRoom) -> JoinRoom {
        join.game(GAME).version("1").signaling(self.signaling.url())
    }

    fn join(&mut self, at: usize, join: JoinRoom) {
        let join = self.way(join);
        self.apps[at].world_mut().trigger(join);
    }

    fn watch(&mut self, at: usize) {
        let watch = WatchLobbies::of(GAME).version("1").free_seats(1).signaling(self.signaling.url());
        self.apps[at].world_mut().trigger(watch);
    }

    /// Runs all of them until it is so.
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut [App]) -> bool) {
        let start = Instant::now();
        while !done(&mut self.apps) {
            assert!(start.elapsed() < PATIENCE, "waited too long for {what}");
            self.apps.iter_mut().for_each(App::update);
            std::thread::sleep(Duration::from_millis(4));
        }
    }

    fn until_together(&mut self, players: &[usize]) {
        let others = players.len() - 1;
        self.until("all to be in one room", |apps| {
            players.iter().all(|at| {
                let world = apps[*at].world_mut();
                let peers = world.query::<&Peer>().iter(world).count();
                *world.resource::<State<RoomState>>().get() == RoomState::Joined && peers == others
            })
        });
    }

    fn told(&mut self, at: usize) -> Mut<'_, Told> {
        self.apps[at].world_mut().resource_mut::<Told>()
    }

    fn room(&self, at: usize) -> &Room {
        self.apps[at].world().resource::<Room>()
    }

    /// What the list says of the only room that is in it.
    fn listed(&self, at: usize) -> Option<&Lobby> {
        let lobbies = self.apps[at].world().resource::<Lobbies>();
        assert!(lobbies.iter().len() <= 1);
        lobbies.iter().next()
    }
}

fn game() -> App {
    let mut app = App::new();
    app.add_plugins((TaskPoolPlugin::default(), CoplayPlugins::offline()));
    app.init_resource::<Told>()
        .add_observer(|failed: On<RoomFailed>, mut told: ResMut<Told>| told.failed.push(failed.error.clone()))
        .add_observer(|denied: On<RoomDenied>, mut told: ResMut<Told>| told.denied.push(denied.error.clone()))
        .add_observer(|waiting: On<MatchWaiting>, mut told: ResMut<Told>| told.waiting.push(*waiting))
        .add_observer(|_: On<RoomChanged>, mut told: ResMut<Told>| told.changed += 1)
        .add_observer(|_: On<LobbiesChanged>, mut told: ResMut<Told>| told.lists += 1);
    app.finish();
    app.cleanup();
    app.update();
    app
}

fn state<S: States + Copy>(app: &App) -> S {
    *app.world().resource::<State<S>>().get()
}

fn refusal(error: &RoomError) -> &SignalError {
    let RoomError::Socket(SocketError::Refused(error)) = error else { panic!("{error}") };
    error
}

#[test]
fn a_public_room_is_found_in_the_list_and_entered_with_its_password() {
    let mut games = Games::start(3);
    games.watch(1);
    games.until("an empty list", |apps| state::<LobbiesState>(&apps[1]) == LobbiesState::Open);
    assert_eq!(games.listed(1), None);
    games.join(0, JoinRoom::new_room().public().metadata("map", "canyon").max_players(2).password("sesame"));
    // One of another game, and one that is not public, are not in it.
    let other = games.way(JoinRoom::new_room().public()).game("another");
    games.apps[2].world_mut().trigger(other);
    games.until("the room in the list", |apps| apps[1].world().resource::<Lobbies>().iter().len() == 1);
    let lobby = games.listed(1).expect("it is there").clone();
    assert_eq!((lobby.players, lobby.max, lobby.has_password, lobby.locked), (1, 2, true, false));
    assert_eq!(lobby.metadata.get("map"), Some("canyon"));
    games.until("the maker to know it", |apps| apps[0].world().resource::<Room>().lobby().is_some());
    assert_eq!(games.room(0).lobby(), Some(&lobby));
    assert_eq!(games.apps[1].world().resource::<Lobbies>().get(&lobby.code), Some(&lobby));

    for (password, expected) in [(None, SignalError::PasswordNeeded), (Some("wrong"), SignalError::WrongPassword)] {
        let way = JoinRoom::room(&lobby.code).existing();
        games.join(1, password.map_or_else(|| way.clone(), |password| way.clone().password(password)));
        games.until("a refusal", |apps| !apps[1].world().resource::<Told>().failed.is_empty());
        assert_eq!(refusal(&games.told(1).failed.remove(0)), &expected);
        games.until("it to be offline", |apps| state::<RoomState>(&apps[1]) == RoomState::Offline);
    }
    games.join(1, JoinRoom::room(lobby.code.to_lowercase()).existing().password("sesame"));
    games.until_together(&[0, 1]);
    // A full room is not one with a free seat.
    games.until("the list to be empty", |apps| apps[1].world().resource::<Lobbies>().iter().len() == 0);
    games.apps[1].world_mut().trigger(UnwatchLobbies);
    games.until("it to be closed", |apps| state::<LobbiesState>(&apps[1]) == LobbiesState::Closed);
}

#[test]
fn a_leader_changes_the_room_and_removes_a_player_and_nobody_else_does() {
    let mut games = Games::start(3);
    games.join(0, JoinRoom::room("led").host());
    games.until("the maker to be in", |apps| state::<RoomState>(&apps[0]) == RoomState::Joined);
    games.join(1, JoinRoom::room("led").host());
    games.until_together(&[0, 1]);
    games.watch(2);

    let metadata = Metadata::new([("mode", "race")]).expect("it is short");
    for change in [ChangeRoom::Public(true), ChangeRoom::Metadata(metadata.clone()), ChangeRoom::MaxPlayers(3)] {
        games.apps[0].world_mut().trigger(change);
    }
    games.until("the list to have it", |apps| {
        apps[2].world().resource::<Lobbies>().iter().any(|lobby| lobby.metadata == metadata && lobby.max == 3)
    });
    games.until("the guest to know it", |apps| {
        apps[1].world().resource::<Room>().lobby().is_some_and(|lobby| lobby.max == 3 && lobby.public)
    });
    assert!(games.told(1).changed >= 3);

    games.apps[1].world_mut().trigger(ChangeRoom::Lock(true));
    games.until("a denial", |apps| !apps[1].world().resource::<Told>().denied.is_empty());
    assert_eq!(games.told(1).denied, [RoomDenial::Refused(SignalError::NotLeader)]);
    games.apps[0].world_mut().trigger(ChangeRoom::Lock(true));
    games.until("the lock", |apps| apps[1].world().resource::<Room>().lobby().is_some_and(|lobby| lobby.locked));
    games.join(2, JoinRoom::room("led").host());
    games.until("a refusal", |apps| !apps[2].world().resource::<Told>().failed.is_empty());
    assert_eq!(refusal(&games.told(2).failed.remove(0)), &SignalError::RoomLocked);

    let guest = games.room(1).me();
    games.apps[0].world_mut().trigger(KickPeer(guest));
    games.until("the guest to be out", |apps| state::<RoomState>(&apps[1]) == RoomState::Offline);
    let why = games.told(1).failed.remove(0).to_string();
    assert!(why.contains("removed"), "{why}");
    games.until("the host to be alone", |apps| {
        let world = apps[0].world_mut();
        world.query::<&Peer>().iter(world).count() == 0
    });
    games.apps[0].world_mut().trigger(ChangeRoom::Lock(false));
    games.until("the lock to be off", |apps| {
        apps[0].world().resource::<Room>().lobby().is_some_and(|room| !room.locked)
    });
    games.join(1, JoinRoom::room("led").host());
    games.until("to be kept out", |apps| !apps[1].world().resource::<Told>().failed.is_empty());
    assert!(matches!(refusal(&games.told(1).failed.remove(0)), SignalError::Kicked { seconds: 1..=60 }));
}

#[test]
fn as_many_as_ask_for_a_quick_match_play_together_and_who_cancels_does_not() {
    let mut games = Games::start(4);
    games.join(0, JoinRoom::quick_match(3).host());
    games.until("one to wait", |apps| !apps[0].world().resource::<Told>().waiting.is_empty());
    assert_eq!(games.told(0).waiting.remove(0), MatchWaiting { waiting: 1, players: 3 });
    assert_eq!(state::<RoomState>(&games.apps[0]), RoomState::Joining);
    games.join(1, JoinRoom::quick_match(3).host());
    games.until("two to wait", |apps| {
        apps[0].world().resource::<Told>().waiting.last() == Some(&MatchWaiting { waiting: 2, players: 3 })
    });
    games.apps[0].world_mut().trigger(LeaveRoom);
    games.until("one to wait", |apps| {
        apps[1].world().resource::<Told>().waiting.last() == Some(&MatchWaiting { waiting: 1, players: 3 })
    });
    // Of another size: not with those.
    games.join(0, JoinRoom::quick_match(2).host());
    games.join(2, JoinRoom::quick_match(3).host());
    games.join(3, JoinRoom::quick_match(3).host());
    games.until_together(&[1, 2, 3]);
    games.until("the match", |apps| {
        let codes: Vec<_> = [1, 2, 3].map(|at| apps[at].world().resource::<Room>().code().to_owned()).into();
        codes.iter().all(|code| code.len() == 6 && *code == codes[0])
    });
    assert_eq!(state::<RoomState>(&games.apps[0]), RoomState::Joining, "one is not enough for two");
    assert_eq!(games.room(1).lobby().map(|lobby| (lobby.max, lobby.public)), Some((3, false)));
}

#[test]
fn without_a_server_of_ours_a_list_says_what_to_do() {
    let mut games = Games::start(1);
    let watch = WatchLobbies::of(GAME).metadata("", "no key");
    games.apps[0].add_observer(|failed: On<LobbiesFailed>, mut log: Local<u32>| {
        assert!(failed.error.to_string().starts_with("N0012"), "{}", failed.error);
        *log += 1;
    });
    games.apps[0].world_mut().trigger(watch);
    games.until("it to be closed", |apps| state::<LobbiesState>(&apps[0]) == LobbiesState::Closed);
    games.apps[0].world_mut().trigger(ChangeRoom::Lock(true));
    games.until("a denial", |apps| !apps[0].world().resource::<Told>().denied.is_empty());
    assert_eq!(games.told(0).denied, [RoomDenial::NotConnected]);
}

//! How a player finds a game: the public rooms, a new one, a code, a quick match; and what a leader does with a room.
//!
//! Before a match it is what one sees first, in a match Tab opens it. Arrow keys and Enter, or a click.

use bevy::{
    input::{
        ButtonState,
        keyboard::{Key, KeyboardInput},
    },
    prelude::*,
};
use bevy_coplay::{RoomError, SignalError, SocketError, prelude::*};

use crate::options::{GAME, Options, VERSION};

mod rows;
mod view;

/// The most letters of a line that is typed in.
const LONGEST: usize = 64;
/// What the leader of a room for beginners tells who looks for one.
const FOR_BEGINNERS: (&str, &str) = ("for", "beginners");

/// What the menu shows.
#[derive(Resource, Default)]
pub struct Menu {
    page: Page,
    /// Which row is chosen, from 0.
    chosen: usize,
    /// What went wrong, or is waited for.
    notice: String,
    /// The room that is being joined, to be asked for once more with what was missing.
    wanted: Option<JoinRoom>,
    /// Whether only rooms for beginners are listed.
    beginners: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
enum Page {
    /// A match is on, or the menu was not asked for.
    #[default]
    Closed,
    /// Where to play.
    Rooms,
    /// On the way into a room.
    Joining,
    /// A line is typed in.
    Typing(Line, String),
    /// What can be done with the room that we are in.
    Room,
}

/// What is typed in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Line {
    Code,
    Password,
    /// Of a room that is to be made.
    NewPassword,
}

/// What a row does.
#[derive(Clone, Debug, PartialEq)]
enum Action {
    QuickMatch(u16),
    /// A new room, in the public list or not.
    Make(bool),
    Type(Line),
    /// List only rooms for beginners, or all.
    Beginners(bool),
    /// A room of the list.
    Enter(String, Topology),
    Change(ChangeRoom),
    Kick(PeerId),
    Leave,
    Close,
}

impl Menu {
    /// Whether keys and clicks are for the menu.
    pub fn is_open(&self) -> bool {
        self.page != Page::Closed
    }

    fn turn(&mut self, page: Page) {
        (self.page, self.chosen) = (page, 0);
    }
}

pub fn plugin(app: &mut App) {
    app.init_resource::<Menu>()
        .add_observer(failed)
        .add_observer(denied)
        .add_observer(waiting)
        .add_systems(OnEnter(RoomState::Offline), open)
        .add_systems(OnEnter(RoomState::Joining), |mut menu: ResMut<Menu>| menu.turn(Page::Joining))
        .add_systems(OnEnter(RoomState::Joined), close)
        .add_systems(Update, keys)
        .add_plugins(view::plugin);
}

/// As a player of this game, at the signaling server that was asked for.
fn way(join: JoinRoom, options: &Options) -> JoinRoom {
    let join = join.game(GAME).version(VERSION);
    match &options.signaling {
        Some(url) => join.signaling(url),
        None => join,
    }
}

fn open(mut menu: ResMut<Menu>, options: Res<Options>, mut commands: Commands) {
    if options.offline {
        return menu.turn(Page::Closed);
    }
    // A password that was asked for is being typed in.
    if !matches!(menu.page, Page::Typing(..)) {
        menu.turn(Page::Rooms);
    }
    commands.trigger(list(&menu, &options));
}

/// The rooms that are to be listed.
fn list(menu: &Menu, options: &Options) -> WatchLobbies {
    let mut watch = WatchLobbies::of(GAME).version(VERSION).free_seats(1);
    if menu.beginners {
        let (key, value) = FOR_BEGINNERS;
        watch = watch.metadata(key, value);
    }
    match &options.signaling {
        Some(url) => watch.signaling(url),
        None => watch,
    }
}

fn close(mut menu: ResMut<Menu>, mut commands: Commands) {
    menu.turn(Page::Closed);
    menu.notice.clear();
    commands.trigger(UnwatchLobbies);
}

fn failed(failure: On<RoomFailed>, mut menu: ResMut<Menu>, mut commands: Commands) {
    menu.notice = failure.error.to_string();
    menu.turn(Page::Rooms);
    let RoomError::Socket(SocketError::Refused(error)) = &failure.error else { return };
    match error {
        SignalError::PasswordNeeded | SignalError::WrongPassword => {
            menu.turn(Page::Typing(Line::Password, String::new()));
        }
        // A code does not say how its room is played.
        SignalError::TopologyDiffers { room, .. } => {
            if let Some(join) = menu.wanted.take() {
                let join = if *room == Topology::Host { join.host() } else { join.mesh() };
                commands.trigger(join.clone());
                menu.wanted = Some(join);
            }
        }
        _ => {}
    }
}

fn denied(denied: On<RoomDenied>, mut menu: ResMut<Menu>) {
    menu.notice = denied.error.to_string();
}

fn waiting(waiting: On<MatchWaiting>, mut menu: ResMut<Menu>) {
    menu.notice = format!("{} of {} players", waiting.waiting, waiting.players);
}

fn keys(mut keys: MessageReader<KeyboardInput>, mut commands: Commands) {
    for key in keys.read().filter(|key| key.state == ButtonState::Pressed) {
        let key = key.clone();
        commands.queue(move |world: &mut World| press(world, &key));
    }
}

fn press(world: &mut World, key: &KeyboardInput) {
    let rows = rows::rows(world);
    let joined = *world.resource::<State<RoomState>>() == RoomState::Joined;
    let mut menu = world.resource_mut::<Menu>();
    let menu = &mut *menu;
    match (&key.logical_key, &mut menu.page) {
        (Key::Tab, Page::Closed) if joined => menu.turn(Page::Room),
        (Key::Tab | Key::Escape, Page::Room) => menu.turn(Page::Closed),
        (_, Page::Closed) => {}
        (Key::Escape, Page::Joining) => act(world, Action::Leave),
        (Key::Escape, Page::Typing(..)) => menu.turn(Page::Rooms),
        (Key::Backspace, Page::Typing(_, text)) => _ = text.pop(),
        (Key::Enter, Page::Typing(line, text)) => {
            let (line, text) = (*line, core::mem::take(text));
            typed(world, line, text);
        }
        (_, Page::Typing(_, text)) => {
            let letters = key.text.iter().flat_map(|text| text.chars()).filter(|letter| !letter.is_control());
            text.extend(letters.take(LONGEST.saturating_sub(text.len())));
        }
        (Key::ArrowDown, _) if !rows.is_empty() => menu.chosen = (menu.chosen + 1) % rows.len(),
        (Key::ArrowUp, _) if !rows.is_empty() => menu.chosen = (menu.chosen + rows.len() - 1) % rows.len(),
        (Key::Enter, _) => {
            if let Some((_, action)) = rows.into_iter().nth(menu.chosen) {
                act(world, action);
            }
        }
        _ => {}
    }
}

/// Does what a row says.
fn act(world: &mut World, action: Action) {
    let options = world.resource::<Options>().clone();
    let topology = |join: JoinRoom, topology| if topology == Topology::Host { join.host() } else { join.mesh() };
    let ours = if options.host { Topology::Host } else { Topology::Mesh };
    world.resource_mut::<Menu>().notice.clear();
    match action {
        Action::QuickMatch(players) => join(world, topology(JoinRoom::quick_match(players), ours)),
        Action::Make(public) => join(world, topology(new_room(&options, public), ours)),
        Action::Enter(code, theirs) => join(world, topology(JoinRoom::room(code).existing(), theirs)),
        Action::Type(line) => world.resource_mut::<Menu>().turn(Page::Typing(line, String::new())),
        Action::Beginners(only) => {
            let mut menu = world.resource_mut::<Menu>();
            menu.beginners = only;
            let watch = list(&menu, &options);
            world.trigger(watch);
        }
        Action::Change(change) => world.trigger(change),
        Action::Kick(peer) => world.trigger(KickPeer(peer)),
        Action::Leave => world.trigger(LeaveRoom),
        Action::Close => world.resource_mut::<Menu>().turn(Page::Closed),
    }
}

/// A line is complete.
fn typed(world: &mut World, line: Line, text: String) {
    let options = world.resource::<Options>().clone();
    let text = text.trim();
    let way = match line {
        _ if text.is_empty() => return world.resource_mut::<Menu>().turn(Page::Rooms),
        Line::Code => JoinRoom::room(text).existing(),
        Line::NewPassword => new_room(&options, true).password(text),
        Line::Password => {
            let Some(wanted) = world.resource::<Menu>().wanted.clone() else { return };
            return join(world, wanted.password(text));
        }
    };
    join(world, if options.host { way.host() } else { way.mesh() });
}

fn new_room(options: &Options, public: bool) -> JoinRoom {
    let room = JoinRoom::new_room();
    let room = match &options.name {
        Some(name) => room.metadata("by", name),
        None => room,
    };
    if public { room.public() } else { room }
}

fn join(world: &mut World, join: JoinRoom) {
    let join = way(join, world.resource::<Options>());
    world.resource_mut::<Menu>().wanted = Some(join.clone());
    world.trigger(join);
}

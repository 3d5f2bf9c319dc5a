//! A line to say something, and the last things that were said or happened.

use bevy::{
    input::{
        ButtonState,
        keyboard::{Key, KeyboardInput},
    },
    prelude::*,
};
use bevy_coplay::prelude::*;

use crate::{
    game::{Hit, Pilot},
    menu::Menu,
};

const LINES: usize = 7;
const LONGEST: usize = 120;
const FADES_AFTER: f32 = 12.0;

/// What is being typed, if anything.
#[derive(Resource, Default)]
pub struct Typing(Option<String>);

impl Typing {
    /// Whether keys are for the chat line just now.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }
}

/// What a peer is called: as its pilot, or by its seat.
pub fn peer_name(peer: &Peer, name: Option<&Name>) -> String {
    name.map_or_else(|| format!("Player {}", peer.slot + 1), ToString::to_string)
}

/// Something said.
#[derive(NetEvent, Clone, Debug)]
pub struct Say {
    text: String,
}

/// What was said and what happened, and when.
#[derive(Resource, Default)]
struct Log(Vec<(String, Color, f32)>);

impl Log {
    fn add(&mut self, line: String, color: Color, now: f32) {
        self.0.push((line, color, now));
        if self.0.len() > LINES {
            self.0.remove(0);
        }
    }
}

#[derive(Component)]
struct Lines;

#[derive(Component)]
struct Prompt;

pub fn plugin(app: &mut App) {
    app.init_resource::<Typing>()
        .init_resource::<Log>()
        .add_observer(said)
        .add_observer(joined)
        .add_observer(left)
        .add_observer(shot_down)
        .add_systems(Startup, lay_out)
        .add_systems(Update, (name_peers, (type_line, show).chain()));
}

fn lay_out(mut commands: Commands) {
    let column = Node { flex_direction: FlexDirection::Column, ..default() };
    let bottom = Node {
        position_type: PositionType::Absolute,
        left: px(16),
        right: px(16),
        bottom: px(14),
        row_gap: px(8),
        ..column.clone()
    };
    // The newest lines are seen, however little room there is.
    let lines = Node {
        max_width: Val::Vw(60.0),
        max_height: Val::Vh(25.0),
        justify_content: JustifyContent::End,
        overflow: Overflow::clip(),
        ..column
    };
    commands.spawn(bottom).with_children(|bottom| {
        bottom.spawn((Lines, lines));
        let prompt = Node { min_height: px(22), ..default() };
        bottom.spawn((Prompt, Text::default(), TextFont::from_font_size(18.0), wrap(), prompt));
    });
}

/// Within words, too, since people type what they please.
fn wrap() -> TextLayout {
    TextLayout::linebreak(LineBreak::WordOrCharacter)
}

fn type_line(
    mut keys: MessageReader<KeyboardInput>,
    mut typing: ResMut<Typing>,
    menu: Res<Menu>,
    mut commands: Commands,
) {
    if menu.is_open() {
        return keys.clear();
    }
    for key in keys.read().filter(|key| key.state == ButtonState::Pressed) {
        match (&key.logical_key, &mut typing.0) {
            (Key::Enter, None) => typing.0 = Some(String::new()),
            (Key::Enter, Some(line)) => {
                if !line.trim().is_empty() {
                    commands.net_trigger(Say { text: line.trim().to_owned() });
                }
                typing.0 = None;
            }
            (Key::Escape, Some(_)) => typing.0 = None,
            (Key::Backspace, Some(line)) => {
                line.pop();
            }
            (_, Some(line)) => {
                let typed = key.text.iter().flat_map(|text| text.chars()).filter(|c| !c.is_control());
                line.extend(typed.take(LONGEST.saturating_sub(line.len())));
            }
            (_, None) => {}
        }
    }
}

fn said(say: On<Received<Say>>, pilots: Query<(&Pilot, &ControlledBy)>, time: Res<Time>, mut log: ResMut<Log>) {
    let (name, color) = who(say.from, &pilots);
    let text: String = say.text.chars().take(LONGEST).collect();
    log.add(format!("{name}: {text}"), color, time.elapsed_secs());
}

fn joined(joined: On<PeerJoined>, peers: Query<(&Peer, Option<&Name>)>, time: Res<Time>, mut log: ResMut<Log>) {
    if let Ok((peer, name)) = peers.get(joined.peer) {
        log.add(format!("{} joined", peer_name(peer, name)), peer.color(), time.elapsed_secs());
    }
}

fn left(left: On<PeerLeft>, peers: Query<(&Peer, Option<&Name>)>, time: Res<Time>, mut log: ResMut<Log>) {
    if let Ok((peer, name)) = peers.get(left.peer) {
        log.add(format!("{} {}", peer_name(peer, name), left.reason), peer.color(), time.elapsed_secs());
    }
}

/// A pilot's name stays with its peer, so that it is known when the ship is gone.
fn name_peers(
    pilots: Query<(&Pilot, &ControlledBy), Changed<Pilot>>,
    peers: Query<(Entity, &Peer)>,
    mut commands: Commands,
) {
    for (pilot, by) in &pilots {
        if let Some((entity, _)) = peers.iter().find(|(_, peer)| peer.id == by.0) {
            commands.entity(entity).insert(Name::new(pilot.name.clone()));
        }
    }
}

fn shot_down(hit: On<Received<Hit>>, pilots: Query<&Pilot>, time: Res<Time>, mut log: ResMut<Log>) {
    let pilot = |ship: Option<Entity>| ship.and_then(|ship| pilots.get(ship).ok());
    if hit.down
        && let (Some(by), Some(victim)) = (pilot(hit.by), pilot(hit.victim))
    {
        log.add(format!("{} shot down {}", by.name, victim.name), by.color, time.elapsed_secs());
    }
}

fn who(peer: PeerId, pilots: &Query<(&Pilot, &ControlledBy)>) -> (String, Color) {
    let pilot = pilots.iter().find(|(_, by)| by.0 == peer);
    pilot.map_or_else(|| (peer.to_string(), Color::WHITE), |(pilot, _)| (pilot.name.clone(), pilot.color))
}

fn show(
    typing: Res<Typing>,
    mut log: ResMut<Log>,
    lines: Single<Entity, With<Lines>>,
    mut prompt: Single<&mut Text, With<Prompt>>,
    time: Res<Time>,
    mut commands: Commands,
) {
    if typing.is_changed() {
        prompt.0 = typing.0.as_ref().map_or_else(String::new, |line| format!("say: {line}_"));
    }
    let now = time.elapsed_secs();
    let fades = |line: &(String, Color, f32)| now - line.2 > FADES_AFTER;
    if !log.is_changed() && !log.0.iter().any(fades) {
        return;
    }
    log.bypass_change_detection().0.retain(|line| !fades(line));
    commands.entity(*lines).despawn_related::<Children>().with_children(|lines| {
        for (text, color, _) in &log.0 {
            let whole = Node { flex_shrink: 0.0, ..default() };
            lines.spawn((Text::new(text), TextFont::from_font_size(17.0), TextColor(*color), wrap(), whole));
        }
    });
}

//! What is written around the arena: how to join, who is there, how far away they are and by which path.

use bevy::prelude::*;
use bevy_coplay::{Conditions, prelude::*};

use crate::{chat::peer_name, game::Pilot};

const DIM: Color = Color::srgb(0.55, 0.6, 0.8);

pub fn plugin(app: &mut App) {
    app.init_resource::<Problem>()
        .add_observer(failed)
        .add_systems(Startup, lay_out)
        .add_systems(Update, (title, scores.run_if(bevy::time::common_conditions::on_timer(REFRESH))));
}

const REFRESH: core::time::Duration = core::time::Duration::from_millis(250);

/// Why we are not in a room.
#[derive(Resource, Default)]
struct Problem(Option<String>);

#[derive(Component)]
struct Title;

#[derive(Component)]
struct Scores;

fn lay_out(mut commands: Commands) {
    // In a narrow window the score goes below the title.
    let top = Node {
        position_type: PositionType::Absolute,
        top: px(12),
        left: px(16),
        right: px(16),
        flex_wrap: FlexWrap::Wrap,
        align_items: AlignItems::Start,
        align_content: AlignContent::Start,
        column_gap: px(16),
        row_gap: px(8),
        ..default()
    };
    let score = Node {
        flex_direction: FlexDirection::Column,
        align_items: AlignItems::End,
        margin: UiRect::left(Val::Auto),
        ..default()
    };
    commands.spawn(top).with_children(|top| {
        top.spawn((Title, Text::default(), TextFont::from_font_size(18.0), TextColor(DIM)));
        top.spawn((Scores, score));
    });
}

fn failed(failure: On<RoomFailed>, mut problem: ResMut<Problem>) {
    problem.0 = Some(failure.error.to_string());
}

fn title(
    room: Res<Room>,
    state: Res<State<RoomState>>,
    problem: Res<Problem>,
    paths: Res<LinkConditions>,
    mut title: Single<&mut Text, With<Title>>,
) {
    let text = match (state.get(), &problem.0) {
        (RoomState::Joined, _) => {
            let role = match room.topology() {
                Topology::Mesh => "mesh",
                Topology::Host if room.is_leader() => "you host",
                Topology::Host => "hosted",
            };
            let worse =
                if paths.0 == Conditions::PERFECT { String::new() } else { format!("\nsends as over {}", paths.0) };
            // A code has no small letters; a name that has some is found as it is written.
            let named = room.code().chars().any(|letter| letter.is_ascii_lowercase());
            let what = if named { "room" } else { "join code" };
            let keys = "move WASD   aim mouse   fire click\nchat Enter   room Tab   network N";
            format!("{what}  {}   ({role})\n{keys}{worse}", room.code())
        }
        (RoomState::Joining, None) => "joining the room ...".to_owned(),
        (RoomState::Offline, None) => "offline".to_owned(),
        (_, Some(problem)) => format!("not in a room: {problem}"),
    };
    if title.0 != text {
        title.0 = text;
    }
}

fn scores(
    pilots: Query<(&Pilot, Option<&ControlledBy>, Has<Mine>)>,
    peers: Query<(&Peer, Option<&Name>, &PeerPath, Has<Unresponsive>)>,
    room: Res<Room>,
    board: Single<Entity, With<Scores>>,
    mut commands: Commands,
) {
    let mut ships: Vec<_> = pilots.iter().collect();
    ships.sort_by(|(a, ..), (b, ..)| b.score.cmp(&a.score).then_with(|| a.name.cmp(&b.name)));
    let mut rows = Vec::new();
    for (pilot, controller, mine) in ships {
        let peer = controller.and_then(|by| peers.iter().find(|(peer, ..)| peer.id == by.0));
        let far =
            if mine { "you".to_owned() } else { peer.map_or_else(String::new, |(.., path, gone)| far(path, gone)) };
        rows.push((far, format!("{:>14} {:>4}", pilot.name, pilot.score), pilot.color));
    }
    // A host without a window has no ship.
    let pilotless = |peer: &Peer| !pilots.iter().any(|(_, by, _)| by.is_some_and(|by| by.0 == peer.id));
    for (peer, name, path, gone) in peers.iter().filter(|(peer, ..)| pilotless(peer)) {
        let hosts = room.topology() == Topology::Host && room.leader() == Some(peer.id);
        let name = if hosts { "host".to_owned() } else { peer_name(peer, name) };
        rows.push((far(path, gone), format!("{name:>14}     "), peer.color()));
    }
    commands.entity(*board).despawn_related::<Children>().with_children(|board| {
        for (far, row, color) in rows {
            board
                .spawn((Text::new(format!("{far:>18}  ")), TextFont::from_font_size(16.0), TextColor(DIM)))
                .with_child((TextSpan::new(row), TextFont::from_font_size(18.0), TextColor(color)));
        }
    });
}

/// How far away a peer is, by which path, and what is wrong with that.
fn far(path: &PeerPath, unresponsive: bool) -> String {
    let ping = path.rtt.as_secs_f32() * 1000.0;
    let trouble = match path.cause.filter(|_| path.quality <= PeerQuality::Poor) {
        None | Some(QualityCause::Silence) => "",
        Some(QualityCause::Narrow) => " slow",
        Some(QualityCause::Queueing) => " full",
        Some(QualityCause::Loss | QualityCause::LossReceived) => " lossy",
        Some(QualityCause::RoundTrip) => " far",
        Some(QualityCause::Jitter) => " uneven",
    };
    match path.kind {
        _ if unresponsive => "silent".to_owned(),
        Some(PathKind::Relay | PathKind::WebSocket) => format!("{ping:.0} ms relayed{trouble}"),
        Some(_) => format!("{ping:.0} ms direct{trouble}"),
        None => "via host".to_owned(),
    }
}

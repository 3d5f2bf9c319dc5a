//! How the menu looks, to who sees it and to who has it read out.

use bevy::prelude::*;
use bevy_coplay::prelude::*;

use super::{Line, Menu, Page, act, rows};
use crate::chat::peer_name;

const BACK: Color = Color::srgba(0.03, 0.04, 0.08, 0.9);
const CHOSEN: Color = Color::srgb(0.16, 0.24, 0.42);
const TEXT: Color = Color::srgb(0.85, 0.89, 1.0);
const DIM: Color = Color::srgb(0.55, 0.6, 0.8);

#[derive(Component)]
struct Panel;

/// The row's place in the list.
#[derive(Component, Clone, Copy)]
struct Row(usize);

/// What was drawn last.
#[derive(Resource, Default, PartialEq)]
struct Shown {
    open: bool,
    code: String,
    title: String,
    rows: Vec<String>,
    chosen: usize,
    notice: String,
}

pub(super) fn plugin(app: &mut App) {
    app.init_resource::<Shown>().add_systems(Startup, lay_out).add_systems(Update, (click, draw).chain());
}

fn lay_out(mut commands: Commands) {
    let node = Node {
        position_type: PositionType::Absolute,
        width: percent(100),
        height: percent(100),
        flex_direction: FlexDirection::Column,
        align_items: AlignItems::Center,
        justify_content: JustifyContent::Center,
        row_gap: px(4),
        ..default()
    };
    commands.spawn((Panel, node, BackgroundColor(BACK), GlobalZIndex(10), Visibility::Hidden));
}

fn click(rows: Query<(&Interaction, &Row), Changed<Interaction>>, mut commands: Commands) {
    for (_, row) in rows.iter().filter(|(interaction, _)| **interaction == Interaction::Pressed) {
        let Row(number) = *row;
        commands.queue(move |world: &mut World| {
            if let Some((_, action)) = rows::rows(world).into_iter().nth(number) {
                act(world, action);
            }
        });
    }
}

fn draw(world: &mut World) {
    let others = others(world);
    let rows: Vec<String> = rows::rows(world).into_iter().map(|(label, _)| label).collect();
    // A row may have gone from under the finger.
    let mut menu = world.resource_mut::<Menu>();
    menu.chosen = menu.chosen.min(rows.len().saturating_sub(1));
    let menu = world.resource::<Menu>();
    let connection = *world.resource::<State<LobbiesState>>().get();
    let now = Shown {
        open: menu.is_open(),
        code: world.resource::<Room>().code().to_owned(),
        title: title(menu, connection, &others),
        rows,
        chosen: menu.chosen,
        notice: menu.notice.clone(),
    };
    if now == *world.resource::<Shown>() {
        return;
    }
    read_out(&now);
    let mut panels = world.query_filtered::<Entity, With<Panel>>();
    let Ok(panel) = panels.single(world) else { return };
    let visibility = if now.open { Visibility::Visible } else { Visibility::Hidden };
    world.entity_mut(panel).insert(visibility).despawn_related::<Children>().with_children(|panel| {
        panel.spawn((Text::new(&now.title), TextFont::from_font_size(26.0), TextColor(TEXT)));
        for (number, label) in now.rows.iter().enumerate() {
            let back = if number == now.chosen { CHOSEN } else { Color::NONE };
            let node = Node { padding: UiRect::axes(px(16), px(4)), min_width: px(420), ..default() };
            panel.spawn((Row(number), Button, node, BackgroundColor(back))).with_child((
                Text::new(label),
                TextFont::from_font_size(18.0),
                TextColor(TEXT),
            ));
        }
        panel.spawn((Text::new(&now.notice), TextFont::from_font_size(16.0), TextColor(DIM)));
    });
    world.insert_resource(now);
}

/// Who else is in the room.
fn others(world: &mut World) -> String {
    let mut peers = world.query::<(&Peer, Option<&Name>)>();
    let mut names: Vec<_> = peers.iter(world).map(|(peer, name)| (peer.slot, peer_name(peer, name))).collect();
    names.sort();
    let names: Vec<_> = names.into_iter().map(|(_, name)| name).collect();
    if names.is_empty() { "nobody else".to_owned() } else { names.join(", ") }
}

fn title(menu: &Menu, connection: LobbiesState, others: &str) -> String {
    match &menu.page {
        Page::Closed => String::new(),
        Page::Rooms if connection == LobbiesState::Open => "coplay arena".to_owned(),
        Page::Rooms => "coplay arena (looking for rooms ...)".to_owned(),
        Page::Joining => "joining ...".to_owned(),
        Page::Room => format!("this room, with {others}"),
        Page::Typing(line, text) => match line {
            Line::Code => format!("code: {text}_"),
            // Somebody may look over one's shoulder.
            Line::Password | Line::NewPassword => format!("password: {}_", "*".repeat(text.chars().count())),
        },
    }
}

/// A canvas has no words for a screen reader: the page has them beside it, in an element of its own.
#[cfg(target_arch = "wasm32")]
fn read_out(now: &Shown) {
    let Some(place) = web_sys::window().and_then(|w| w.document()).and_then(|page| page.get_element_by_id("spoken"))
    else {
        return;
    };
    let text = if now.open {
        let rows = now.rows.iter().enumerate();
        let rows = rows.map(|(number, row)| format!("{} {row}", if number == now.chosen { ">" } else { "-" }));
        [now.title.clone()].into_iter().chain(rows).chain([now.notice.clone()]).collect::<Vec<_>>().join("\n")
    } else {
        format!("playing in room {}", now.code)
    };
    place.set_text_content(Some(&text));
}

/// A window is read out by what the system has for it.
#[cfg(not(target_arch = "wasm32"))]
fn read_out(_: &Shown) {}

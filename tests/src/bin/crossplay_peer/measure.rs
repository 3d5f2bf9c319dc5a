//! What a peer measures while it plays: which events came, how long they took there and back, how old state is.

use std::collections::BTreeMap;

use bevy_app::{App, FixedUpdate, Update};
use bevy_coplay::prelude::*;
use bevy_ecs::prelude::*;
use coplay_tests::crossplay::{Findings, Sent};

use crate::{
    desk::{monotonic_millis, wall_millis},
    game::{Look, Pos, Shield, Stamp, playing},
};

/// An event to all every so many ticks of 60 a second: 20 a second.
const EVERY: u32 = 3;
/// Every so many of those are to be answered.
const ANSWERED: u32 = 4;

/// To everyone.
#[derive(NetEvent, Clone, Debug)]
struct Beat {
    number: u32,
    /// Where this is set, everyone answers with it: the sender's clock.
    sent: Option<f64>,
}

/// The answer, to the sender.
#[derive(NetEvent, Clone, Debug)]
struct Echo {
    number: u32,
    sent: f64,
}

/// What was sent from here.
#[derive(Resource, Debug, Default)]
pub(crate) struct Outbox {
    ticks: u32,
    pub(crate) sent: Sent,
    /// Answers, by whom they went to.
    echoes: BTreeMap<PeerId, u32>,
}

/// What was seen here.
#[derive(Resource, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) findings: Findings,
    /// When something last changed or came, by the clock that never jumps.
    pub(crate) last: f64,
}

pub(crate) fn plugin(app: &mut App) {
    app.add_net::<(Beat, Echo)>()
        .init_resource::<Outbox>()
        .init_resource::<Seen>()
        .add_observer(beat_came)
        .add_observer(echo_came)
        .add_systems(FixedUpdate, beat.run_if(playing))
        .add_systems(Update, (changes, ages));
}

fn beat(mut outbox: ResMut<Outbox>, mut commands: Commands) {
    outbox.ticks += 1;
    if outbox.ticks.is_multiple_of(EVERY) {
        let number = outbox.sent.beats;
        outbox.sent.beats += 1;
        let sent = number.is_multiple_of(ANSWERED).then(monotonic_millis);
        outbox.sent.asked += u32::from(sent.is_some());
        commands.net_trigger(Beat { number, sent });
    }
}

fn beat_came(
    beat: On<Received<Beat>>,
    room: Res<Room>,
    mut seen: ResMut<Seen>,
    mut outbox: ResMut<Outbox>,
    mut commands: Commands,
) {
    if beat.from == room.me() {
        return;
    }
    let from = beat.from.to_string();
    seen.last = monotonic_millis();
    seen.findings.received.entry(from).or_default().beats.came(beat.number);
    if let Some(sent) = beat.sent {
        let echoes = outbox.echoes.entry(beat.from).or_default();
        let number = *echoes;
        *echoes += 1;
        commands.net_trigger_to(Target::Peer(beat.from), Echo { number, sent });
    }
}

fn echo_came(echo: On<Received<Echo>>, mut seen: ResMut<Seen>) {
    let from = echo.from.to_string();
    seen.last = monotonic_millis();
    let rtt = seen.last - echo.sent;
    seen.findings.event_rtt.entry(from.clone()).or_default().add(rtt);
    seen.findings.received.entry(from).or_default().echoes.came(echo.number);
}

type Moved = Or<(Changed<Pos>, Changed<Look>, Changed<Shield>, Changed<Stamp>)>;

fn changes(moved: Query<(), (Moved, Without<Owned>)>, mut seen: ResMut<Seen>) {
    if !moved.is_empty() {
        seen.last = monotonic_millis();
    }
}

fn ages(stamps: Query<&Stamp, (Changed<Stamp>, Without<Owned>)>, mut seen: ResMut<Seen>) {
    for stamp in &stamps {
        // A new entity's stamp has not been written yet.
        if stamp.at > 0.0 {
            seen.findings.state_age.add(wall_millis() - stamp.at);
        }
    }
}

impl Seen {
    /// Whether every event has come that was sent to this peer, which has `asked` for so many answers.
    pub(crate) fn has_all(&self, me: &str, asked: u32, sent: &BTreeMap<String, Sent>) -> bool {
        sent.iter().filter(|(id, _)| *id != me).all(|(id, sent)| {
            let received = self.findings.received.get(id);
            received.is_some_and(|from| from.beats.delivered >= sent.beats && from.echoes.delivered >= asked)
        })
    }
}

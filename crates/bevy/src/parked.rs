//! Which events wait here for an entity of this world? The session has it, but it waits for its parent, say.

use core::time::Duration;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bevy_ecs::{resource::Resource, world::World};
use bytes::Bytes;
use coplay_proto::{Channel, PeerId};

use crate::{
    absent,
    net::Clock,
    registry::{Table, Type},
    room::Room,
};

/// How long an event waits for an entity that it names and that is not in this world yet: as long as that may wait for its
/// parent. The session has waited before, for two seconds at most.
const PATIENCE: Duration = absent::PATIENCE;
/// The most events of one peer and channel that wait, because the first of them does.
const MAX_PARKED: usize = 256;

/// Events that wait for an entity, and those of the same peer and channel behind them.
#[derive(Resource, Default)]
pub(crate) struct Parked {
    lines: BTreeMap<Line, VecDeque<Arrived>>,
}

type Line = (PeerId, Channel);

struct Arrived {
    event: Type,
    value: Bytes,
    until: Duration,
}

/// An event has come.
pub(crate) fn arrived(world: &mut World, table: &Arc<Table>, from: PeerId, event: Type, value: Bytes) {
    let Some(shape) = table.event(event) else { return };
    if from == world.resource::<Room>().me() {
        return;
    }
    let channel = table.channel(event);
    let until = world.resource::<Clock>().now + PATIENCE;
    let line = (from, channel);
    let behind = channel.is_ordered() && world.resource::<Parked>().lines.contains_key(&line);
    if behind || !shape.missing(world, &value).is_empty() {
        let parked = world.resource_mut::<Parked>().into_inner();
        let queue = parked.lines.entry(line).or_default();
        queue.push_back(Arrived { event, value, until });
        if queue.len() > MAX_PARKED {
            first(world, table, line);
        }
    } else {
        shape.deliver(world, from, &value);
    }
}

/// Delivers what has waited long enough, or waits no more.
pub(crate) fn deliver(world: &mut World, table: &Arc<Table>) {
    let now = world.resource::<Clock>().now;
    for line in world.resource::<Parked>().lines.keys().copied().collect::<Vec<_>>() {
        while let Some(queue) = world.resource::<Parked>().lines.get(&line)
            && let Some(next) = queue.front()
            && (next.until <= now
                || table.event(next.event).is_none_or(|shape| shape.missing(world, &next.value).is_empty()))
        {
            first(world, table, line);
        }
    }
}

fn first(world: &mut World, table: &Arc<Table>, line: Line) {
    let lines = &mut world.resource_mut::<Parked>().into_inner().lines;
    let Some(queue) = lines.get_mut(&line) else { return };
    let next = queue.pop_front();
    if queue.is_empty() {
        lines.remove(&line);
    }
    if let Some(Arrived { event, value, .. }) = next
        && let Some(shape) = table.event(event)
    {
        shape.deliver(world, line.0, &value);
    }
}

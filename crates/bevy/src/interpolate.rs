//! What is shown of a remote value between two that were received? The past, evenly.
//!
//! Values arrive unevenly. They are shown a little later than they arrive, by how late they come at worst, so that
//! there is always one to move towards. What has stopped is shown exactly.

use std::collections::{BTreeMap, VecDeque};

use bevy_app::{App, Plugin, PreUpdate};
use bevy_ecs::{resource::Resource, schedule::IntoScheduleConfigs, world::World};
use coplay_proto::{PeerId, Tick};

use crate::{
    component::Arrival,
    net::{Clock, Net},
    net_type::Networked,
    registry,
    schedule::NetSystems,
};

/// The most received values of one component that wait to be shown.
const MAX_AHEAD: usize = 64;
/// How much later than they usually arrive values are shown, in ticks: a lost frame or two do not show.
const MARGIN: f64 = 2.0;
/// The most that a value is held back, in seconds. What comes later is an old value for whoever is new, or lost and
/// repeated, and says nothing of the path.
const MAX_DELAY: f64 = 0.5;
/// How much one arrival counts.
const GAIN: f64 = 1.0 / 16.0;
/// By how much showing runs faster or slower than time, at the most, to get to another delay.
const HURRY: f64 = 0.25;

/// Shows components with `#[net(interpolate)]` of remote entities between their received values. Without this plugin
/// they jump to each new value.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetInterpolationPlugin;

impl Plugin for NetInterpolationPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<Playheads>()
            .add_systems(PreUpdate, play.in_set(NetSystems::Apply).after(crate::apply::apply));
    }
}

/// What is shown of each owner's entities, in the owner's ticks.
#[derive(Resource, Debug, Default)]
pub(crate) struct Playheads {
    heads: BTreeMap<PeerId, Playhead>,
    /// The room's tick.
    now: f64,
    /// In ticks.
    max_delay: f64,
}

#[derive(Clone, Copy, Debug)]
struct Playhead {
    /// How late values come, in ticks: their mean, and its mean deviation.
    late: f64,
    deviation: f64,
    /// The owner's tick that is shown. Never goes back.
    at: f64,
}

impl Playhead {
    fn new(now: f64, late: f64) -> Self {
        Self { late, deviation: 1.0, at: now - late - 3.0 - MARGIN }
    }

    fn arrived(&mut self, late: f64) {
        let error = late - self.late;
        self.late += error * GAIN;
        self.deviation += (error.abs() - self.deviation) * GAIN;
    }

    /// Some ticks have passed.
    fn advance(&mut self, now: f64, passed: f64, max_delay: f64) {
        let delay = (self.late + 3.0 * self.deviation + MARGIN).min(max_delay);
        let error = now - delay - (self.at + passed);
        if error.abs() > max_delay {
            // The clock was set, or the game stood still.
            self.at = self.at.max(now - delay);
        } else {
            self.at += passed + (error * GAIN).clamp(-HURRY * passed, HURRY * passed);
        }
    }
}

impl Playheads {
    /// A value has arrived.
    pub(crate) fn arrived(&mut self, arrival: Arrival) {
        let late = (arrival.now - f64::from(arrival.tick.0)).max(0.0);
        if late <= self.max_delay {
            self.heads.entry(arrival.owner).or_insert_with(|| Playhead::new(arrival.now, late)).arrived(late);
        }
    }

    /// The tick that is shown of what this peer owns. Of one whose values never came in time, all that has come.
    pub(crate) fn head(&self, owner: PeerId) -> f64 {
        self.heads.get(&owner).map_or(f64::MAX, |head| head.at)
    }

    /// The owner has left, and all that it owned.
    pub(crate) fn left(&mut self, owner: PeerId) {
        self.heads.remove(&owner);
    }

    fn advance(&mut self, now: f64, rate: f64) {
        self.max_delay = MAX_DELAY * rate;
        let passed = (now - self.now).max(0.0);
        self.now = now;
        for head in self.heads.values_mut() {
            head.advance(now, passed, self.max_delay);
        }
    }

    /// The room's ticks start anew.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn play(world: &mut World) {
    let now = world.resource::<Clock>().now;
    let Some((tick, rate)) = world.resource::<Net>().tick(now) else { return };
    world.resource_mut::<Playheads>().advance(tick, rate);
    let table = registry::table(world);
    for component in table.components() {
        component.play(world);
    }
}

/// What was received of one component and is not shown yet.
#[derive(Debug)]
pub(crate) struct Track<T> {
    /// The last value that was reached, and when that was.
    past: (f64, T),
    next: VecDeque<(f64, T)>,
}

impl<T: Networked> Track<T> {
    pub(crate) fn new(tick: Tick, value: T) -> Self {
        Self { past: (f64::from(tick.0), value), next: VecDeque::new() }
    }

    /// A newer value has arrived; `head` is what is shown now.
    ///
    /// It is newer though its tick may not be: two frames of the owner may fall into one tick, its clock may have been set
    /// back, or it may be another owner. Then it is shown in place of the newest so far.
    pub(crate) fn push(&mut self, tick: Tick, value: T, head: f64) {
        let tick = f64::from(tick.0);
        let newest = self.next.back().unwrap_or(&self.past).0;
        if tick <= newest {
            self.next.pop_back();
            self.next.push_back((newest, value));
            return;
        }
        if self.next.is_empty() {
            // What did not arrive did not change: it has rested until now, or until just before.
            self.past.0 = self.past.0.max(head.min(tick - 1.0));
        }
        self.next.push_back((tick, value));
        if self.next.len() > MAX_AHEAD
            && let Some(skipped) = self.next.pop_front()
        {
            self.past = skipped;
        }
    }

    /// Whether there is anything to be shown yet.
    pub(crate) fn is_moving(&self) -> bool {
        !self.next.is_empty()
    }

    /// What is to be shown at this tick, if it has to change.
    pub(crate) fn play(&mut self, head: f64) -> Option<T> {
        let before = self.next.len();
        while let Some(reached) = self.next.pop_front_if(|(tick, _)| *tick <= head) {
            self.past = reached;
        }
        (self.next.len() < before || before > 0 && head > self.past.0).then(|| self.at(head))
    }

    /// What is shown at this tick.
    pub(crate) fn at(&self, head: f64) -> T {
        let (from, past) = &self.past;
        match self.next.front() {
            Some((to, next)) if head >= *to => next.clone(),
            Some((to, next)) if head > *from => past.lerp(next, ((head - from) / (to - from)) as f32),
            _ => past.clone(),
        }
    }

    /// The newest value that was received means this.
    pub(crate) fn replace_newest(&mut self, value: T) {
        self.next.back_mut().unwrap_or(&mut self.past).1 = value;
    }

    /// The newest value that was received.
    pub(crate) fn into_newest(mut self) -> T {
        self.next.pop_back().unwrap_or(self.past).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(bevy_ecs::component::Component, crate::Networked, Clone, Debug, PartialEq)]
    #[net(interpolate, name = "x")]
    struct X(f32);

    fn play(track: &mut Track<X>, head: f64) -> Option<f32> {
        track.play(head).map(|x| x.0)
    }

    #[cfg(not(target_arch = "wasm32"))]
    #[test]
    fn nothing_is_kept_of_owners_that_have_left() {
        use crate::{AppNetExt, Shared, TestNet};
        let mut net = TestNet::mesh(1, |app| _ = app.add_net::<X>());
        for guest in 1..4 {
            assert_eq!(net.add_late(), guest);
            net.run_secs(0.5);
            let entity = net.app(guest).world_mut().spawn((X(0.0), Shared)).id();
            for step in 0..30_u8 {
                net.app(guest).world_mut().entity_mut(entity).insert(X(step.into()));
                net.step(1);
            }
            assert_eq!(net.app(0).world().resource::<Playheads>().heads.len(), 1);
            net.end(guest);
            net.run_secs(0.5);
            assert_eq!(net.app(0).world().resource::<Playheads>().heads.len(), 0);
        }
    }

    #[test]
    fn values_are_shown_between_two_and_exactly_at_rest() {
        let mut track = Track::new(Tick(10), X(0.0));
        assert_eq!(play(&mut track, 20.0), None);
        track.push(Tick(12), X(2.0), 10.0);
        track.push(Tick(14), X(0.3), 10.0);
        assert_eq!(play(&mut track, 9.5), None);
        assert_eq!(play(&mut track, 11.0), Some(1.0));
        assert_eq!(play(&mut track, 12.0), Some(2.0));
        assert_eq!(play(&mut track, 13.0), Some(2.0 + (0.3 - 2.0) * 0.5));
        assert_eq!(play(&mut track, 14.5), Some(0.3));
        assert!(!track.is_moving());
        assert_eq!(play(&mut track, 15.0), None);
    }

    #[test]
    fn what_has_rested_starts_to_move_when_it_did() {
        let mut track = Track::new(Tick(10), X(0.0));
        track.push(Tick(100), X(1.0), 97.0);
        assert_eq!(play(&mut track, 98.5), Some(0.5));
        let mut track = Track::new(Tick(10), X(0.0));
        track.push(Tick(100), X(1.0), 99.75);
        assert_eq!(play(&mut track, 99.5), Some(0.5), "the tick before was heard of, or was like the ones before it");
    }

    #[test]
    fn the_last_value_is_shown_whatever_its_tick_is() {
        for tick in [9, 10] {
            // When the one before is shown already, and when it is not.
            let mut track = Track::new(Tick(10), X(0.0));
            track.push(Tick(tick), X(9.0), 20.0);
            assert_eq!((track.at(20.0), play(&mut track, 20.0)), (X(9.0), Some(9.0)));
            assert!(!track.is_moving());
            let mut track = Track::new(Tick(8), X(0.0));
            track.push(Tick(10), X(1.0), 8.0);
            track.push(Tick(tick), X(9.0), 8.0);
            assert_eq!(play(&mut track, 9.0), Some(4.5));
            assert_eq!(play(&mut track, 10.0), Some(9.0));
            assert!(!track.is_moving());
        }
    }

    #[test]
    fn waiting_values_are_bounded() {
        let mut track = Track::new(Tick(10), X(0.0));
        for tick in 0..1000 {
            track.push(Tick(11 + tick), X(tick as f32), 0.0);
        }
        assert_eq!(track.next.len(), MAX_AHEAD);
        assert_eq!(track.into_newest(), X(999.0));
    }

    #[test]
    fn the_head_follows_unevenly_arriving_values_evenly_and_never_goes_back() {
        let peer = PeerId::from_u128(1);
        let mut heads = Playheads::default();
        heads.advance(100.0, 60.0);
        let mut rng = coplay_proto::rng::Rng::new(7);
        let mut last = f64::MIN;
        for step in 0..2000 {
            let now = 101.0 + f64::from(step);
            let late = 4.0 + rng.unit() * 4.0;
            heads.advance(now, 60.0);
            heads.arrived(Arrival { owner: peer, tick: Tick((now - late) as u32), now });
            let head = heads.head(peer);
            assert!(head >= last);
            if step > 200 {
                assert!((head - last - 1.0).abs() < 0.1, "shown evenly, not {last} then {head}");
                assert!((8.0..20.0).contains(&(now - head)), "{} ticks late", now - head);
            }
            last = head;
        }
    }
}

//! Which entities of the room are not in this world just now? Those that wait for another one to be here first, and
//! those that the game took away though they are another's. They come when they can, or after a while anyhow.

use core::time::Duration;
use std::collections::BTreeMap;

use bevy_ecs::{entity::Entity, resource::Resource};
use coplay_proto::NetId;

/// The most entities that wait. Further ones do not: they come without their parent.
pub(crate) const MAX_ABSENT: usize = 4096;
/// How long an entity waits for its parent, and to be made again after it went with a parent.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// Entities that the session has and the world has not.
#[derive(Resource, Debug, Default)]
pub(crate) struct Absent {
    entities: BTreeMap<NetId, Wait>,
}

/// What an entity waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Nothing but the time.
    Time,
    /// This parent.
    Parent(NetId),
    /// Its owner is to lead the room, for it is of a scene that all have.
    Leader,
}

/// Until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// It comes at this time at the latest.
    pub(crate) until: Duration,
    /// It comes as soon as this has happened.
    pub(crate) cause: Cause,
    /// What it is, if it still exists but is not shared any more.
    pub(crate) entity: Option<Entity>,
}

impl Absent {
    /// The entity waits. Whether there is room for it.
    pub(crate) fn insert(&mut self, id: NetId, wait: Wait) -> bool {
        let room = self.entities.len() < MAX_ABSENT || self.entities.contains_key(&id);
        if room {
            self.entities.insert(id, wait);
        }
        room
    }

    /// The entity waits no longer.
    pub(crate) fn remove(&mut self, id: NetId) -> Option<Wait> {
        self.entities.remove(&id)
    }

    /// What it waits for, if it waits.
    pub(crate) fn get(&self, id: NetId) -> Option<Wait> {
        self.entities.get(&id).copied()
    }

    /// Those that wait for this.
    pub(crate) fn because_of(&self, cause: Cause) -> Vec<NetId> {
        self.entities.iter().filter(|(_, wait)| wait.cause == cause).map(|(id, _)| *id).collect()
    }

    /// Those whose time has come.
    pub(crate) fn due(&self, now: Duration) -> Vec<NetId> {
        self.entities.iter().filter(|(_, wait)| wait.until <= now).map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use coplay_proto::MemberId;

    use super::*;

    #[test]
    fn waiting_has_an_end_and_a_bound() {
        let mut absent = Absent::default();
        let name = |counter| NetId { creator: MemberId::default(), counter };
        let wait = |until, cause| Wait { until: Duration::from_secs(until), cause, entity: None };
        assert!(absent.insert(name(1), wait(1, Cause::Parent(name(0)))));
        assert!(absent.insert(name(2), wait(2, Cause::Parent(name(0)))));
        assert_eq!(absent.because_of(Cause::Parent(name(0))), [name(1), name(2)]);
        assert_eq!(absent.due(Duration::from_secs(1)), [name(1)]);
        assert!(absent.remove(name(1)).is_some() && absent.get(name(1)).is_none());
        for counter in 1..=u32::try_from(MAX_ABSENT).unwrap() {
            absent.insert(name(counter), wait(3, Cause::Time));
        }
        assert!(!absent.insert(name(u32::MAX), wait(3, Cause::Time)));
        assert!(absent.insert(name(7), wait(9, Cause::Time)));
        assert_eq!(absent.due(Duration::from_secs(3)).len(), MAX_ABSENT - 1);
    }
}

//! Which entities of the room are not in this world just now? Those whose parent is not here yet, and those that the
//! game took away though they are another's. They come when they can, or after a while anyhow.

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

/// Until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// It comes at this time at the latest.
    pub(crate) until: Duration,
    /// It comes as soon as this entity is here.
    pub(crate) parent: Option<NetId>,
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

    /// Those that wait for this parent.
    pub(crate) fn children_of(&self, parent: NetId) -> Vec<NetId> {
        self.entities.iter().filter(|(_, wait)| wait.parent == Some(parent)).map(|(id, _)| *id).collect()
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
        let wait = |until, parent| Wait { until: Duration::from_secs(until), parent, entity: None };
        assert!(absent.insert(name(1), wait(1, Some(name(0)))));
        assert!(absent.insert(name(2), wait(2, Some(name(0)))));
        assert_eq!(absent.children_of(name(0)), [name(1), name(2)]);
        assert_eq!(absent.due(Duration::from_secs(1)), [name(1)]);
        assert!(absent.remove(name(1)).is_some() && absent.get(name(1)).is_none());
        for counter in 1..=u32::try_from(MAX_ABSENT).unwrap() {
            absent.insert(name(counter), wait(3, None));
        }
        assert!(!absent.insert(name(u32::MAX), wait(3, None)));
        assert!(absent.insert(name(7), wait(9, None)));
        assert_eq!(absent.due(Duration::from_secs(3)).len(), MAX_ABSENT - 1);
    }
}

//! The shared world as text that is equal on two peers exactly if their components are equal, bit for bit.

use std::{collections::BTreeMap, fmt::Write};

use bevy_ecs::world::World;

/// Each entity's name in the room, with each component's name and encoded value in hexadecimal.
pub(crate) fn encoded(world: &mut World) -> BTreeMap<String, BTreeMap<String, String>> {
    let entities = bevy_coplay::snapshot(world).into_iter();
    entities
        .map(|(id, components)| {
            let components = components.into_iter().map(|(name, bytes)| (name, hex(&bytes)));
            (id.to_string(), components.collect())
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

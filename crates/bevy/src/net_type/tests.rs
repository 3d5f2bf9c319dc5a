//! Do derived types say what they are, come back as they were, and refuse what is no value of theirs?

use std::collections::BTreeMap;

use bevy_color::Color;
use bevy_ecs::entity::Entity;
use bevy_math::{Quat, Vec2, Vec3};
use coplay_proto::{
    MemberId, PeerId,
    schema::{Delivery, TypeKind},
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;
use crate::{
    NetEvent, NetField, NetInput, Networked,
    field::testing::{NoRefs, OneRef},
};

const STEP: f32 = 0.25;
const EDGE: f64 = 64.0;

#[derive(Component, Networked, Clone, Default, Debug, PartialEq)]
#[net(interpolate)]
struct Pos {
    #[net(step = 0.01, range = -512.0..=512.0)]
    xy: Vec2,
    #[net(step = STEP, range = -EDGE..=EDGE * 2.0)]
    z: f32,
    layer: u8,
    #[net(serde)]
    tags: BTreeMap<u8, String>,
}

#[derive(Component, Networked, Clone, Default, Debug, PartialEq)]
struct Tint(Color);

#[derive(Component, Networked, Clone, Debug, PartialEq)]
struct Frozen;

#[derive(Component, NetInput, Clone, Default, Debug, PartialEq)]
#[net(name = "game::Move", optional)]
struct Move {
    #[net(range = -1..=1, bits = 6)]
    to: Vec2,
    r#type: bool,
}

#[derive(NetField, Clone, Debug, PartialEq)]
enum Weapon {
    Fist,
    Gun {
        #[net(range = 0..=30)]
        rounds: u8,
    },
    Bow(f32, Option<Entity>),
}

#[derive(NetField, Clone, Copy, Debug, PartialEq)]
enum Team {
    Red,
    Blue,
}

#[derive(NetField, Clone, Debug, PartialEq)]
struct Only;

#[derive(NetEvent, Clone, Debug, PartialEq)]
enum Shot {
    Hit { by: Option<Entity>, with: Weapon, at: Vec3 },
    Missed(Team, Vec<Team>),
    Draw,
}

#[derive(NetEvent, Clone, Debug, PartialEq)]
struct Honk {
    by: Option<Entity>,
    from: PeerId,
    only: Only,
}

#[derive(NetEvent, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[net(serde)]
enum Chat {
    Line { text: String, to: Vec<usize> },
    Typing,
}

fn codings<T: NetType>() -> Vec<(String, String)> {
    T::schema().fields.into_iter().map(|field| (field.name, field.coding)).collect()
}

fn assert_codings<T: NetType>(expected: &[(&str, &str)]) {
    let found = codings::<T>();
    let found: Vec<_> = found.iter().map(|(name, coding)| (&**name, &**coding)).collect();
    assert_eq!(found, expected);
}

fn trip<T: NetType>(value: &T) -> (T, usize) {
    let mut out = BitWriter::new();
    value.write(&mut out, &NoRefs).unwrap();
    let bytes = to_bytes(value, &NoRefs).unwrap();
    (from_bytes(&bytes, &mut NoRefs).unwrap(), out.bit_len())
}

#[test]
fn schemas_name_types_fields_and_precision() {
    let pos = Pos::schema();
    assert_eq!(pos.name, concat!(module_path!(), "::Pos"));
    assert_eq!((pos.kind, pos.optional), (TypeKind::Component, false));
    assert_codings::<Pos>(&[
        ("xy", "vec2 step 0.01 range -512..=512"),
        ("z", "f32 step 0.25 range -64..=128"),
        ("layer", "u8"),
        ("tags", "serde BTreeMap<u8,String>"),
    ]);
    assert_codings::<Tint>(&[("0", "color")]);
    assert_codings::<Frozen>(&[]);

    let input = Move::schema();
    assert_eq!((&*input.name, input.kind, input.optional), ("game::Move", TypeKind::Input, true));
    assert_codings::<Move>(&[("to", "vec2 range -1..=1 bits 6"), ("type", "bool")]);

    let shot = Shot::schema();
    assert_eq!((shot.kind, shot.optional), (TypeKind::Event, false));
    assert_eq!(shot.delivery, Delivery::default());
    #[derive(NetEvent, Clone)]
    #[net(channel = "chat")]
    struct Line;
    #[derive(NetEvent, Clone)]
    #[net(unordered)]
    struct Loose;
    #[derive(NetEvent, Clone)]
    #[net(unreliable)]
    struct Sparks;
    let ways = [Line::schema(), Loose::schema(), Sparks::schema()].map(|schema| schema.delivery);
    assert_eq!(ways, [Delivery::Ordered("chat".into()), Delivery::Unordered, Delivery::Unreliable]);
    let weapon = "enum{Fist: {}, Gun: {rounds: u8 range 0..=30}, Bow: {0: f32, 1: option(entity)}}";
    assert_codings::<Shot>(&[
        ("Hit", &format!("{{by: option(entity), with: {weapon}, at: vec3}}")),
        ("Missed", "{0: enum{Red: {}, Blue: {}}, 1: list(enum{Red: {}, Blue: {}})}"),
        ("Draw", "{}"),
    ]);
    assert_codings::<Honk>(&[("by", "option(entity)"), ("from", "peer"), ("only", "{}")]);
    assert_codings::<Chat>(&[("Line", "{text: serde String, to: serde Vec<usize>}"), ("Typing", "{}")]);
}

#[test]
fn structs_come_back_in_as_few_bits_as_they_need() {
    let pos = Pos { xy: Vec2::new(1.25, -512.0), z: 128.0, layer: 7, tags: [(1, "a".to_owned())].into() };
    let (back, bits) = trip(&pos);
    assert_eq!(back, pos);
    // Two of 17, 10 for 769 levels, 8; then, at a whole byte after the length, 1 (count) and 1 + 1 + 1 of serde.
    assert_eq!(bits, (34_usize + 10 + 8 + 8).next_multiple_of(8) + 4 * 8);

    assert_eq!(trip(&Frozen), (Frozen, 0));
    assert_eq!(trip(&Tint(Color::WHITE)), (Tint(Color::WHITE), 132));
    let go = Move { to: Vec2::new(1.0, -1.0), r#type: true };
    assert_eq!(trip(&go), (go, 13));
    let chat = Chat::Line { text: "hi".to_owned(), to: vec![1, 2] };
    assert_eq!(trip(&chat).0, chat);
}

#[test]
fn enums_come_back_in_as_few_bits_as_they_need() {
    assert_eq!(trip(&Shot::Draw), (Shot::Draw, 2));
    let missed = Shot::Missed(Team::Blue, vec![Team::Red, Team::Blue]);
    assert_eq!(trip(&missed), (missed, 2 + 1 + 8 + 2));
    let hit = Shot::Hit { by: None, with: Weapon::Gun { rounds: 30 }, at: Vec3::X };
    assert_eq!(trip(&hit), (hit, 2 + 1 + (2 + 5) + 96));
}

#[test]
fn references_are_mapped_however_deep_they_are() {
    let id = NetId { creator: MemberId::default(), counter: 9 };
    let (here, there) = (Entity::from_raw_u32(1).unwrap(), Entity::from_raw_u32(2).unwrap());
    let shot = |by| Shot::Hit { by: Some(by), with: Weapon::Bow(0.5, Some(by)), at: Vec3::ZERO };
    let bytes = to_bytes(&shot(here), &OneRef::new(here, id)).unwrap();
    assert_eq!(from_bytes::<Shot>(&bytes, &mut OneRef::new(there, id)), Ok(shot(there)));
    assert_eq!(
        from_bytes::<Shot>(&bytes, &mut NoRefs),
        Ok(Shot::Hit { by: None, with: Weapon::Bow(0.5, None), at: Vec3::ZERO })
    );
}

#[test]
fn bytes_that_are_no_value_are_refused() {
    // Of two bits, three variants leave one over.
    assert!(
        matches!(from_bytes::<Shot>(&[0b11], &mut NoRefs), Err(DecodeError::Opaque(name)) if name.ends_with("Shot"))
    );
    assert_eq!(from_bytes::<Shot>(&[], &mut NoRefs), Err(DecodeError::Truncated));
    assert_eq!(from_bytes::<Shot>(&[0b10, 0], &mut NoRefs), Err(DecodeError::Trailing));
    assert_eq!(from_bytes::<Shot>(&[0b110], &mut NoRefs), Err(DecodeError::Padding));
    assert_eq!(from_bytes::<Frozen>(&[0], &mut NoRefs), Err(DecodeError::Trailing));
    assert_eq!(from_bytes::<Frozen>(&[], &mut NoRefs), Ok(Frozen));
    // A weapon of the fourth kind, and 31 rounds.
    assert!(from_bytes::<Shot>(&[0b1_1000], &mut NoRefs).is_err());
    let mut out = BitWriter::new();
    out.write_bits(0b11_1110_1000, 10);
    assert!(matches!(from_bytes::<Shot>(&out.finish(), &mut NoRefs), Err(DecodeError::Opaque("u8"))));
}

#[test]
fn what_cannot_be_sent_is_refused_by_the_name_of_the_field() {
    let pos = Pos { tags: (0..u8::MAX).map(|tag| (tag, "x".repeat(300))).collect(), ..Pos::default() };
    let error = to_bytes(&pos, &NoRefs).unwrap_err();
    assert!(error.to_string().starts_with("`Pos.tags`: "), "{error}");
    let error = to_bytes(&Shot::Missed(Team::Red, vec![Team::Red; 2000]), &NoRefs).unwrap_err();
    assert_eq!(error, EncodeError::TooLong { field: "Shot.Missed.1", length: 2000, max: 1024 });
}

#[test]
fn what_is_interpolated_ends_exactly_where_it_should() {
    const { assert!(Pos::INTERPOLATE && !Tint::INTERPOLATE) }
    let from = Pos { xy: Vec2::new(0.1, 0.2), z: 1.0, layer: 1, tags: BTreeMap::new() };
    let to = Pos { xy: Vec2::new(0.7, -0.9), z: 2.0, layer: 2, tags: [(3, String::new())].into() };
    assert_eq!(from.lerp(&to, 1.0), to);
    let half = from.lerp(&to, 0.5);
    assert!(half.xy.abs_diff_eq(Vec2::new(0.4, -0.35), 1e-6));
    assert_eq!((half.z, half.layer, half.tags), (1.5, 2, to.tags.clone()));
    assert_eq!(Tint(Color::BLACK).lerp(&Tint(Color::WHITE), 0.1), Tint(Color::WHITE), "not interpolated: the newest");
}

#[test]
fn enums_are_interpolated_within_a_variant() {
    let (near, far) = (Weapon::Bow(0.0, None), Weapon::Bow(1.0, None));
    assert_eq!(NetField::lerp(&near, &far, 0.25), Weapon::Bow(0.25, None));
    assert_eq!(NetField::lerp(&near, &Weapon::Fist, 0.25), Weapon::Fist);
}

#[test]
fn every_type_is_registered_by_its_kind() {
    #[derive(Default)]
    struct Names(Vec<(TypeKind, String)>);
    impl Names {
        fn note<T: NetType>(&mut self, kind: TypeKind) {
            let schema = T::schema();
            assert_eq!(schema.kind, kind);
            self.0.push((kind, schema.name.rsplit("::").next().unwrap_or_default().to_owned()));
        }
    }
    impl Registrar for Names {
        fn component<T: Networked>(&mut self) {
            self.note::<T>(TypeKind::Component);
        }
        fn input<T: NetInput>(&mut self) {
            self.note::<T>(TypeKind::Input);
        }
        fn event<T: NetEvent>(&mut self) {
            self.note::<T>(TypeKind::Event);
        }
    }
    let mut names = Names::default();
    <(Pos, Move, (Shot, bevy_transform::components::Transform))>::register(&mut names);
    let names: Vec<_> = names.0.iter().map(|(kind, name)| (*kind, &**name)).collect();
    assert_eq!(
        names,
        [
            (TypeKind::Component, "Pos"),
            (TypeKind::Input, "Move"),
            (TypeKind::Event, "Shot"),
            (TypeKind::Component, "Transform")
        ]
    );
}

#[derive(Component, Networked, Clone, Debug, PartialEq)]
struct Everything {
    flag: bool,
    small: (u8, i16),
    #[net(bits = 10)]
    turn: Quat,
    name: Option<String>,
    path: Vec<[Vec2; 2]>,
    weapon: Weapon,
    owner: Entity,
    #[net(serde)]
    map: BTreeMap<String, Vec<i64>>,
}

fn everything() -> impl Strategy<Value = Everything> {
    let point = (-9.0_f32..9.0, any::<f32>()).prop_map(|(x, y)| Vec2::new(x, if y.is_nan() { 0.0 } else { y }));
    let weapon = prop_oneof![
        Just(Weapon::Fist),
        (0_u8..=30).prop_map(|rounds| Weapon::Gun { rounds }),
        any::<i32>().prop_map(|pull| Weapon::Bow(pull as f32, None)),
    ];
    (
        (any::<bool>(), any::<(u8, i16)>(), prop::option::of(".{0,20}")),
        prop::collection::vec([point.clone(), point], 0..5),
        weapon,
        prop::collection::btree_map(".{0,3}", prop::collection::vec(any::<i64>(), 0..3), 0..3),
    )
        .prop_map(|((flag, small, name), path, weapon, map)| Everything {
            flag,
            small,
            turn: Quat::IDENTITY,
            name,
            path,
            weapon,
            owner: Entity::PLACEHOLDER,
            map,
        })
}

proptest! {
    #[test]
    fn everything_comes_back(value in everything()) {
        prop_assert_eq!(trip(&value).0, value);
    }

    #[test]
    fn what_is_cut_off_or_garbled_is_refused_or_another_value(value in everything(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let bytes = to_bytes(&value, &NoRefs).unwrap();
        prop_assert!(from_bytes::<Everything>(&bytes[..at.index(bytes.len())], &mut NoRefs).is_err());
        let mut garbled = bytes.to_vec();
        garbled[at.index(bytes.len())] ^= flip;
        if let Ok(other) = from_bytes::<Everything>(&garbled, &mut NoRefs) {
            prop_assert!(to_bytes(&other, &NoRefs).is_ok(), "what was received can be sent on");
        }
    }

    #[test]
    fn garbage_is_a_value_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = from_bytes::<Everything>(&bytes, &mut NoRefs);
        let _ = from_bytes::<Pos>(&bytes, &mut NoRefs);
        let _ = from_bytes::<Shot>(&bytes, &mut NoRefs);
        let _ = from_bytes::<Chat>(&bytes, &mut NoRefs);
    }
}

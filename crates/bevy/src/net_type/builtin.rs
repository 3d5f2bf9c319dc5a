//! Which types of Bevy itself can be shared? [`Transform`] and [`Name`], without a derive.

use bevy_ecs::name::Name;
use bevy_math::{Quat, Vec3};
use bevy_transform::components::Transform;
use coplay_proto::{
    codec::{BitReader, BitWriter, DecodeError},
    schema::{TypeKind, TypeSchema},
};

use super::{EncodeError, EntityRefs, NetType, Networked, Register, Registrar, derived::schema};
use crate::field::{FieldOptions, NetField, Precision, read_text, write_text};

static TRANSLATION: FieldOptions = FieldOptions::new::<Vec3>("Transform.translation", Precision::NONE);
static ROTATION: FieldOptions = FieldOptions::new::<Quat>("Transform.rotation", Precision::NONE);
static SCALE: FieldOptions = FieldOptions::new::<Vec3>("Transform.scale", Precision::NONE);

/// As it is: 40 bytes, and interpolated. A component of one's own with a step and a range takes a fraction of that.
impl NetType for Transform {
    fn schema() -> TypeSchema {
        schema(
            "bevy_transform::Transform",
            TypeKind::Component,
            false,
            [
                ("translation", Vec3::coding(&TRANSLATION)),
                ("rotation", Quat::coding(&ROTATION)),
                ("scale", Vec3::coding(&SCALE)),
            ],
        )
    }

    fn write(&self, out: &mut BitWriter, refs: &dyn EntityRefs) -> Result<(), EncodeError> {
        self.translation.write(out, &TRANSLATION, refs)?;
        self.rotation.write(out, &ROTATION, refs)?;
        self.scale.write(out, &SCALE, refs)
    }

    fn read(input: &mut BitReader<'_>, refs: &mut dyn EntityRefs) -> Result<Self, DecodeError> {
        Ok(Self {
            translation: NetField::read(input, &TRANSLATION, refs)?,
            rotation: NetField::read(input, &ROTATION, refs)?,
            scale: NetField::read(input, &SCALE, refs)?,
        })
    }
}

impl Networked for Transform {
    const INTERPOLATE: bool = true;

    fn lerp(&self, to: &Self, t: f32) -> Self {
        if t >= 1.0 {
            return *to;
        }
        Self {
            translation: self.translation.lerp(to.translation, t),
            rotation: self.rotation.slerp(to.rotation, t),
            scale: self.scale.lerp(to.scale, t),
        }
    }
}

impl Register for Transform {
    fn register<R: Registrar>(registrar: &mut R) {
        registrar.component::<Self>();
    }
}

/// As text of at most 1 KiB.
impl NetType for Name {
    fn schema() -> TypeSchema {
        schema("bevy_ecs::Name", TypeKind::Component, false, [("0", "text".to_owned())])
    }

    fn write(&self, out: &mut BitWriter, _: &dyn EntityRefs) -> Result<(), EncodeError> {
        write_text(self.as_str(), out, "Name")
    }

    fn read(input: &mut BitReader<'_>, _: &mut dyn EntityRefs) -> Result<Self, DecodeError> {
        Ok(Self::new(read_text(input)?.to_owned()))
    }
}

impl Networked for Name {
    const INTERPOLATE: bool = false;
}

impl Register for Name {
    fn register<R: Registrar>(registrar: &mut R) {
        registrar.component::<Self>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        field::{MAX_TEXT, testing::NoRefs},
        net_type::{from_bytes, to_bytes},
    };

    #[test]
    fn a_transform_comes_back() {
        let transform = Transform::from_xyz(1.0, -2.5, 0.0)
            .with_rotation(Quat::from_rotation_z(1.0))
            .with_scale(Vec3::new(1.0, 0.0, f32::INFINITY));
        let bytes = to_bytes(&transform, &NoRefs).unwrap();
        assert_eq!(bytes.len(), 40);
        assert_eq!(from_bytes::<Transform>(&bytes, &mut NoRefs), Ok(transform));
        assert_eq!(from_bytes::<Transform>(&bytes[..39], &mut NoRefs), Err(DecodeError::Truncated));
        assert_eq!(from_bytes::<Transform>(&[&bytes[..], &[0]].concat(), &mut NoRefs), Err(DecodeError::Trailing));
    }

    #[test]
    fn between_two_transforms_is_a_transform_and_the_end_is_exact() {
        let from = Transform::from_xyz(0.1, 0.0, 0.0);
        let to = Transform::from_xyz(0.7, 3.0, 0.0).with_rotation(Quat::from_rotation_z(1.0));
        let half = from.lerp(&to, 0.5);
        assert!(half.translation.abs_diff_eq(Vec3::new(0.4, 1.5, 0.0), 1e-6));
        assert!(half.rotation.abs_diff_eq(Quat::from_rotation_z(0.5), 1e-6));
        assert_eq!(from.lerp(&to, 1.0), to);
    }

    #[test]
    fn a_name_comes_back_unless_it_is_too_long() {
        let name = Name::new("Ärger");
        let bytes = to_bytes(&name, &NoRefs).unwrap();
        assert_eq!(from_bytes::<Name>(&bytes, &mut NoRefs), Ok(name));
        let long = to_bytes(&Name::new("x".repeat(MAX_TEXT + 1)), &NoRefs).unwrap_err();
        assert_eq!(long.to_string(), "`Name` has a length of 1025, and at most 1024 can be sent: shorten or split it");
    }

    #[test]
    fn their_schemas_do_not_depend_on_where_bevy_keeps_them() {
        let schema = Transform::schema();
        assert_eq!(schema.name, "bevy_transform::Transform");
        let fields: Vec<_> = schema.fields.iter().map(|field| (&*field.name, &*field.coding)).collect();
        assert_eq!(fields, [("translation", "vec3"), ("rotation", "quat"), ("scale", "vec3")]);
        assert_eq!(Name::schema().fields[0].coding, "text");
    }
}

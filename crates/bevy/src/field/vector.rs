//! How do vectors cross? Each part as the number that it is, with the field's options.

use bevy_math::{DVec2, DVec3, DVec4, IVec2, IVec3, IVec4, UVec2, UVec3, UVec4, Vec2, Vec3, Vec3A, Vec4};
use coplay_proto::codec::{BitReader, BitWriter, DecodeError};

use super::{
    Accepts, FieldOptions, NetField,
    number::{Whole, read_real, read_whole, write_real, write_whole},
};
use crate::net_type::{EncodeError, EntityRefs};

macro_rules! vector_field {
    ($vector:ident, $name:literal, $parts:literal, $accepts:expr, $write:ident, $read:ident $(, $lerp:ident)?) => {
        impl NetField for $vector {
            const ACCEPTS: Accepts = $accepts;

            fn coding(options: &FieldOptions) -> String {
                format!(concat!($name, "{}"), options.precision())
            }

            fn write(
                &self,
                out: &mut BitWriter,
                options: &FieldOptions,
                _: &dyn EntityRefs,
            ) -> Result<(), EncodeError> {
                self.to_array().into_iter().for_each(|part| $write(part, out, options));
                Ok(())
            }

            fn read(
                input: &mut BitReader<'_>,
                options: &FieldOptions,
                _: &mut dyn EntityRefs,
            ) -> Result<Self, DecodeError> {
                let mut parts = [Default::default(); $parts];
                for part in &mut parts {
                    *part = $read(input, options)?;
                }
                Ok(Self::from_array(parts))
            }

            $(
                fn lerp(&self, to: &Self, t: f32) -> Self {
                    Self::$lerp(*self, *to, t.into())
                }
            )?
        }
    };
}

vector_field!(Vec2, "vec2", 2, Accepts::Real, write_real, read_real, lerp);
vector_field!(Vec3, "vec3", 3, Accepts::Real, write_real, read_real, lerp);
// The same bits as those of `Vec3`: that it is aligned is nobody else's concern.
vector_field!(Vec3A, "vec3", 3, Accepts::Real, write_real, read_real, lerp);
vector_field!(Vec4, "vec4", 4, Accepts::Real, write_real, read_real, lerp);
vector_field!(DVec2, "dvec2", 2, Accepts::Real, write_real, read_real, lerp);
vector_field!(DVec3, "dvec3", 3, Accepts::Real, write_real, read_real, lerp);
vector_field!(DVec4, "dvec4", 4, Accepts::Real, write_real, read_real, lerp);
vector_field!(IVec2, "ivec2", 2, <i32 as Whole>::ACCEPTS, write_whole, read_whole);
vector_field!(IVec3, "ivec3", 3, <i32 as Whole>::ACCEPTS, write_whole, read_whole);
vector_field!(IVec4, "ivec4", 4, <i32 as Whole>::ACCEPTS, write_whole, read_whole);
vector_field!(UVec2, "uvec2", 2, <u32 as Whole>::ACCEPTS, write_whole, read_whole);
vector_field!(UVec3, "uvec3", 3, <u32 as Whole>::ACCEPTS, write_whole, read_whole);
vector_field!(UVec4, "uvec4", 4, <u32 as Whole>::ACCEPTS, write_whole, read_whole);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{
        Precision,
        testing::{field, trip},
    };

    #[test]
    fn every_vector_comes_back() {
        fn check<T: NetField + PartialEq + core::fmt::Debug>(value: &T, coding: &str, bits: usize) {
            let options = field::<T>(Precision::NONE);
            assert_eq!(T::coding(&options), coding);
            assert_eq!(trip(value, &options), (value.clone(), bits));
        }
        check(&Vec2::new(1.5, -0.0), "vec2", 64);
        check(&Vec3::new(1.5, f32::INFINITY, 3.0), "vec3", 96);
        check(&Vec3A::new(1.5, -2.0, 3.0), "vec3", 96);
        check(&Vec4::new(1.5, -2.0, 3.0, 1e-40), "vec4", 128);
        check(&DVec2::new(1.5, -1e300), "dvec2", 128);
        check(&DVec3::new(1.5, -1e300, 0.1), "dvec3", 192);
        check(&DVec4::new(1.5, -1e300, 0.1, 0.2), "dvec4", 256);
        check(&IVec2::new(i32::MIN, -1), "ivec2", 48);
        check(&IVec3::new(1, -1, 0), "ivec3", 24);
        check(&IVec4::new(1, -1, 0, 200), "ivec4", 40);
        check(&UVec2::new(u32::MAX, 1), "uvec2", 48);
        check(&UVec3::new(1, 2, 127), "uvec3", 24);
        check(&UVec4::new(1, 2, 3, 128), "uvec4", 40);
    }

    #[test]
    fn the_options_are_those_of_each_part() {
        let precision = Precision { step: Some(0.01), range: Some((-512.0, 512.0)), bits: None };
        let options = field::<Vec2>(precision);
        assert_eq!(Vec2::coding(&options), "vec2 step 0.01 range -512..=512");
        let (back, bits) = trip(&Vec2::new(3.721, -512.0), &options);
        assert_eq!((back, bits), (Vec2::new(3.72, -512.0), 34));

        let options = field::<IVec2>(Precision { bits: Some(4), ..Precision::NONE });
        assert_eq!(trip(&IVec2::new(-8, 7), &options), (IVec2::new(-8, 7), 8));
    }

    #[test]
    fn between_two_vectors_is_a_vector() {
        assert_eq!(NetField::lerp(&Vec2::ZERO, &Vec2::new(4.0, -8.0), 0.25), Vec2::new(1.0, -2.0));
        assert_eq!(NetField::lerp(&IVec2::ZERO, &IVec2::ONE, 0.25), IVec2::ONE, "whole numbers are the newer ones");
    }
}

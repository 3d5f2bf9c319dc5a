//! How do rotations cross? As they are, or as angles and smallest threes of few bits.

use core::f64::consts::{FRAC_1_SQRT_2, FRAC_PI_2, TAU};

use bevy_math::{Quat, Rot2};
use coplay_proto::codec::{BitReader, BitWriter, DecodeError};

use super::{Accepts, FieldOptions, NetField, no_value};
use crate::net_type::{EncodeError, EntityRefs};

/// Raw: x, y, z, w. With `bits`: which of them is the largest (2 bits), then the other three, evenly spaced from
/// -1/√2 to 1/√2, zero included; the largest is positive and follows from them. What is no rotation (a length of zero,
/// infinite or NaN) goes as the identity then.
impl NetField for Quat {
    const ACCEPTS: Accepts = Accepts::Rotation;

    fn coding(options: &FieldOptions) -> String {
        format!("quat{}", options.precision())
    }

    fn write(&self, out: &mut BitWriter, options: &FieldOptions, _: &dyn EntityRefs) -> Result<(), EncodeError> {
        let Some(bits) = options.precision().bits else {
            self.to_array().into_iter().for_each(|part| out.write_f32(part));
            return Ok(());
        };
        let smallest = SmallestThree::of(*self, bits).unwrap_or_else(|| {
            options.warn_clamped(self);
            SmallestThree { largest: 3, levels: [0; 3] }
        });
        out.write_bits(smallest.largest as u64, 2);
        for level in smallest.levels {
            out.write_bits((level + greatest_level(bits)) as u64, bits);
        }
        Ok(())
    }

    fn read(input: &mut BitReader<'_>, options: &FieldOptions, _: &mut dyn EntityRefs) -> Result<Self, DecodeError> {
        let Some(bits) = options.precision().bits else {
            return Ok(Self::from_xyzw(input.read_f32()?, input.read_f32()?, input.read_f32()?, input.read_f32()?));
        };
        let largest = input.read_bits(2)? as usize;
        let mut levels = [0; 3];
        for level in &mut levels {
            *level = input.read_bits(bits)? as i64 - greatest_level(bits);
            if *level > greatest_level(bits) {
                return Err(no_value::<Self>());
            }
        }
        SmallestThree { largest, levels }.quat(bits).ok_or_else(no_value::<Self>)
    }

    fn lerp(&self, to: &Self, t: f32) -> Self {
        self.slerp(*to, t)
    }
}

/// The three smaller parts of a quaternion, in levels from -[`greatest_level`] to that.
#[derive(Clone, Copy, PartialEq, Eq)]
struct SmallestThree {
    /// The index of the part that is left out.
    largest: usize,
    levels: [i64; 3],
}

/// With this many tries, what comes out has settled: leaving out another part than before moves the others by less
/// than a level.
const TRIES: usize = 4;

impl SmallestThree {
    /// `None` if it is no rotation.
    ///
    /// Two parts may be equally large, and which one is left out must not change when what was received is sent on:
    /// they are compared by levels, and the first of equals is taken.
    fn of(quat: Quat, bits: u32) -> Option<Self> {
        let mut found = Self::nearest(quat.to_array().map(f64::from), bits)?;
        for _ in 0..TRIES {
            let again = Self::nearest(found.quat(bits)?.to_array().map(f64::from), bits)?;
            if again == found {
                break;
            }
            found = again;
        }
        Some(found)
    }

    fn nearest(parts: [f64; 4], bits: u32) -> Option<Self> {
        let length = parts.iter().map(|part| part * part).sum::<f64>().sqrt();
        if !(length > 0.0 && length.is_finite()) {
            return None;
        }
        let greatest = greatest_level(bits);
        let levels = parts.map(|part| (part / length * greatest as f64 / FRAC_1_SQRT_2).round() as i64);
        let mut largest = 0;
        for (index, level) in levels.iter().enumerate() {
            if level.abs() > levels[largest].abs() {
                largest = index;
            }
        }
        let sign = if parts[largest] < 0.0 { -1 } else { 1 };
        let mut others = (0..4).filter(|index| *index != largest);
        let levels = [(); 3].map(|()| {
            let level = others.next().map_or(0, |index| levels[index] * sign);
            level.clamp(-greatest, greatest)
        });
        Some(Self { largest, levels })
    }

    /// `None` if the three are longer than a rotation is.
    fn quat(self, bits: u32) -> Option<Quat> {
        let unit = FRAC_1_SQRT_2 / greatest_level(bits) as f64;
        let [a, b, c] = self.levels.map(|level| level as f64 * unit);
        let rest = 1.0 - a * a - b * b - c * c;
        if rest < 0.0 {
            return None;
        }
        let d = rest.sqrt();
        let [x, y, z, w] = match self.largest {
            0 => [d, a, b, c],
            1 => [a, d, b, c],
            2 => [a, b, d, c],
            _ => [a, b, c, d],
        };
        Some(Quat::from_xyzw(x as f32, y as f32, z as f32, w as f32))
    }
}

/// As many levels to either side of zero fit into these bits.
const fn greatest_level(bits: u32) -> i64 {
    (1 << (bits - 1)) - 1
}

/// Raw: cosine and sine, made one long. With `bits`: the angle, evenly spaced over the full turn. What is no rotation
/// goes as the identity.
impl NetField for Rot2 {
    const ACCEPTS: Accepts = Accepts::Rotation;

    fn coding(options: &FieldOptions) -> String {
        format!("rot2{}", options.precision())
    }

    fn write(&self, out: &mut BitWriter, options: &FieldOptions, _: &dyn EntityRefs) -> Result<(), EncodeError> {
        let rotation = if is_rotation(*self) {
            *self
        } else {
            self.try_normalize().filter(|rotation| is_rotation(*rotation)).unwrap_or_else(|| {
                options.warn_clamped(&format_args!("{self:?}"));
                Self::IDENTITY
            })
        };
        let Some(bits) = options.precision().bits else {
            out.write_f32(rotation.cos);
            out.write_f32(rotation.sin);
            return Ok(());
        };
        let turns = f64::from(rotation.sin).atan2(f64::from(rotation.cos)) / TAU;
        let levels = (1_u64 << bits) as f64;
        out.write_bits((turns.rem_euclid(1.0) * levels).round() as u64, bits);
        Ok(())
    }

    fn read(input: &mut BitReader<'_>, options: &FieldOptions, _: &mut dyn EntityRefs) -> Result<Self, DecodeError> {
        let Some(bits) = options.precision().bits else {
            let rotation = Self { cos: input.read_f32()?, sin: input.read_f32()? };
            // Bevy asserts in debug builds that rotations are one long, so no other may come in.
            return if is_rotation(rotation) { Ok(rotation) } else { Err(no_value::<Self>()) };
        };
        let level = input.read_bits(bits)?;
        // A level is a whole number of parts of a quarter.
        let per_quarter = 1_u64 << (bits - 2);
        let (sin, cos) = sin_cos((level % per_quarter) as f64 / per_quarter as f64 * FRAC_PI_2);
        let (sin, cos) = match level / per_quarter {
            0 => (sin, cos),
            1 => (cos, -sin),
            2 => (-sin, -cos),
            _ => (-cos, sin),
        };
        Ok(Self { cos: cos as f32, sin: sin as f32 })
    }

    fn lerp(&self, to: &Self, t: f32) -> Self {
        self.slerp(*to, t)
    }
}

/// Whether it is as long as Bevy wants it.
fn is_rotation(rotation: Rot2) -> bool {
    rotation.is_normalized()
}

/// Sine and cosine of an angle from 0 to π/2, by their series: unlike `f64::sin_cos`, whose last bit is the
/// platform's, the same everywhere.
fn sin_cos(angle: f64) -> (f64, f64) {
    let square = angle * angle;
    let (mut sin, mut cos) = (1.0, 1.0);
    // From the smallest term on; the 12th of either is below 2^-53 for these angles.
    for term in (1..=12).rev() {
        let even = f64::from(2 * term);
        sin = 1.0 - sin * square / (even * (even + 1.0));
        cos = 1.0 - cos * square / (even * (even - 1.0));
    }
    (sin * angle, cos)
}

#[cfg(test)]
mod tests {
    use core::f32::consts::{FRAC_1_SQRT_2, PI};

    use proptest::prelude::*;

    use super::*;
    use crate::field::{
        Precision,
        testing::{NoRefs, decode, encode, field, trip},
    };

    fn bits<T: NetField>(bits: u32) -> FieldOptions {
        field::<T>(Precision { bits: Some(bits), ..Precision::NONE })
    }

    #[test]
    fn raw_ones_come_back_as_they_were() {
        let options = field::<Quat>(Precision::NONE);
        assert_eq!(Quat::coding(&options), "quat");
        let quat = Quat::from_xyzw(0.1, -2.0, f32::INFINITY, 0.0);
        assert_eq!(trip(&quat, &options), (quat, 128));

        let options = field::<Rot2>(Precision::NONE);
        assert_eq!(Rot2::coding(&options), "rot2");
        let rotation = Rot2::radians(2.5);
        assert_eq!(trip(&rotation, &options), (rotation, 64));
    }

    #[test]
    fn simple_rotations_are_exact_whatever_the_bits() {
        for count in 4..=20 {
            let options = bits::<Quat>(count);
            for quat in [Quat::IDENTITY, Quat::from_xyzw(1.0, 0.0, 0.0, 0.0), Quat::from_xyzw(0.0, 0.0, 1.0, 0.0)] {
                assert_eq!(trip(&quat, &options), (quat, 2 + 3 * count as usize));
            }
            let options = bits::<Rot2>(count);
            for (cos, sin) in [(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)] {
                assert_eq!(trip(&Rot2 { cos, sin }, &options), (Rot2 { cos, sin }, count as usize));
            }
        }
        assert_eq!(Quat::coding(&bits::<Quat>(9)), "quat bits 9");
        assert_eq!(Rot2::coding(&bits::<Rot2>(9)), "rot2 bits 9");
    }

    #[test]
    fn equal_parts_do_not_take_turns() {
        let h = FRAC_1_SQRT_2;
        for parts in [
            [h, h, 0.0, 0.0],
            [0.0, h, 0.0, -h],
            [0.5, 0.5, 0.5, 0.5],
            [-0.5, 0.5, -0.5, 0.5],
            [0.6, 0.6, 0.3742, 0.3742],
        ] {
            for count in 4..=20 {
                let options = bits::<Quat>(count);
                let once = encode(&Quat::from_array(parts), &options).unwrap();
                let twice = encode(&decode::<Quat>(&once, &options).unwrap(), &options).unwrap();
                assert_eq!(once, twice, "{parts:?} at {count} bits");
            }
        }
    }

    #[test]
    fn what_is_no_rotation_goes_as_the_identity() {
        let options = bits::<Quat>(10);
        for quat in [Quat::from_xyzw(0.0, 0.0, 0.0, 0.0), Quat::from_xyzw(f32::NAN, 0.0, 0.0, 1.0)] {
            assert_eq!(trip(&quat, &options).0, Quat::IDENTITY);
        }
        assert!(options.warned());
        for options in [bits::<Rot2>(10), field::<Rot2>(Precision::NONE)] {
            for (cos, sin) in [(0.0, 0.0), (f32::NAN, 0.0), (f32::INFINITY, 1.0)] {
                assert_eq!(trip(&Rot2 { cos, sin }, &options).0, Rot2::IDENTITY);
            }
            assert!(options.warned());
            assert_eq!(trip(&Rot2 { cos: 0.0, sin: -3.0 }, &options).0, Rot2 { cos: 0.0, sin: -1.0 });
        }
    }

    #[test]
    fn bits_of_no_rotation_are_refused() {
        // Three parts of 1/√2 are longer than one.
        let options = bits::<Quat>(4);
        let mut out = BitWriter::new();
        out.write_bits(0b11_1011_1011_1000, 14);
        assert!(matches!(decode::<Quat>(&out.finish(), &options), Err(DecodeError::Opaque(_))));
        // The level above the greatest.
        let mut out = BitWriter::new();
        out.write_bits(0b01_1101_1111_1100, 14);
        assert!(matches!(decode::<Quat>(&out.finish(), &options), Err(DecodeError::Opaque(_))));
        assert_eq!(decode::<Quat>(&[0], &options), Err(DecodeError::Truncated));

        let options = field::<Rot2>(Precision::NONE);
        for (cos, sin) in [(2.0, 0.0), (0.0, 0.0), (f32::NAN, 0.0)] {
            let mut out = BitWriter::new();
            out.write_f32(cos);
            out.write_f32(sin);
            assert!(matches!(decode::<Rot2>(&out.finish(), &options), Err(DecodeError::Opaque(_))));
        }
    }

    #[test]
    fn between_is_on_the_arc() {
        let half = NetField::lerp(&Rot2::IDENTITY, &Rot2::radians(1.0), 0.5);
        assert!(half.angle_to(Rot2::radians(0.5)).abs() < 1e-6);
        let half = NetField::lerp(&Quat::IDENTITY, &-Quat::from_rotation_x(1.0), 0.5);
        assert!(half.angle_between(Quat::from_rotation_x(0.5)) < 1e-3, "the short way, whatever the sign");
    }

    proptest! {
        #[test]
        fn a_quat_comes_back_within_its_bits(parts in [-1.0_f32..1.0, -1.0_f32..1.0, -1.0_f32..1.0, -1.0_f32..1.0], count in 4_u32..=20) {
            let quat = Quat::from_array(parts);
            prop_assume!(quat.length() > 0.01);
            let options = bits::<Quat>(count);
            let bytes = encode(&quat, &options).unwrap();
            let back = decode::<Quat>(&bytes, &options).unwrap();
            prop_assert!(back.is_normalized());
            let length = parts.iter().map(|part| f64::from(*part).powi(2)).sum::<f64>().sqrt();
            let sign = f64::from(back.dot(quat)).signum();
            let off = parts.iter().zip(back.to_array()).map(|(part, back)| {
                (f64::from(*part) / length - f64::from(back) * sign).powi(2)
            });
            let off = off.sum::<f64>().sqrt();
            // Half a level for each of three parts, at most three times that for the fourth, which makes √3 levels;
            // and as much again where equal parts have to settle.
            let level = f64::from(FRAC_1_SQRT_2) / greatest_level(count) as f64;
            prop_assert!(off <= 3.5 * level + 1e-6, "off by {off}, a level is {level}");
            prop_assert_eq!(encode(&back, &options).unwrap(), bytes);
        }

        #[test]
        fn an_angle_comes_back_within_half_a_level(angle in -PI..PI, count in 4_u32..=20) {
            let options = bits::<Rot2>(count);
            let bytes = encode(&Rot2::radians(angle), &options).unwrap();
            let back = decode::<Rot2>(&bytes, &options).unwrap();
            prop_assert!(back.is_normalized());
            let level = 2.0 * PI / (1_u32 << count) as f32;
            prop_assert!(back.angle_to(Rot2::radians(angle)).abs() <= level / 2.0 + 1e-6);
            prop_assert_eq!(encode(&back, &options).unwrap(), bytes);
        }

        #[test]
        fn whatever_bits_come_are_a_rotation_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..20), count in 4_u32..=20) {
            for options in [bits::<Quat>(count), field::<Quat>(Precision::NONE)] {
                if let Ok(quat) = Quat::read(&mut BitReader::new(&bytes), &options, &mut NoRefs) {
                    prop_assert!(options.precision().bits.is_none() || quat.is_normalized());
                }
            }
            for options in [bits::<Rot2>(count), field::<Rot2>(Precision::NONE)] {
                if let Ok(rotation) = Rot2::read(&mut BitReader::new(&bytes), &options, &mut NoRefs) {
                    prop_assert!(rotation.is_normalized());
                }
            }
        }

        #[test]
        fn the_series_is_the_sine(angle in 0.0..FRAC_PI_2) {
            let (sin, cos) = sin_cos(angle);
            prop_assert!((sin - angle.sin()).abs() < 1e-15 && (cos - angle.cos()).abs() < 1e-15);
        }
    }
}

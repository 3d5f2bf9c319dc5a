//! How do numbers cross? Whole ones in as many bits as they need, real ones as they are or on a grid.

use coplay_proto::codec::{BitReader, BitWriter, DecodeError};

use super::{Accepts, FieldOptions, NetField, Precision, no_value};
use crate::net_type::{EncodeError, EntityRefs};

/// Which real numbers can cross.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Grid {
    /// All of them.
    Raw,
    /// The multiples of this.
    Multiples(f64),
    /// `min + n * step` for n from 0 to `last`, but that the last one is `max`, even if that is less than a step away.
    Levels { min: f64, max: f64, step: f64, last: u64, bits: u32 },
}

/// The most steps from zero that a multiple is: up to here `f64` can count.
const MAX_MULTIPLE: f64 = 9_007_199_254_740_992.0;
/// What a division of `f64` may be off by, and more.
const ROUNDING: f64 = 1e-12;

impl Grid {
    /// The grid of a precision that [`Accepts::Real`] has no problem with. For those of other kinds it has no meaning.
    pub(super) const fn of(precision: Precision) -> Self {
        match precision {
            Precision { range: Some((min, max)), step: Some(step), .. } => {
                let steps = (max - min) / step;
                let last = (steps - steps * ROUNDING).ceil() as u64;
                Self::Levels { min, max, step, last, bits: bits_for(last) }
            }
            Precision { range: Some((min, max)), bits: Some(bits), .. } => {
                let last = (1 << bits) - 1;
                Self::Levels { min, max, step: (max - min) / last as f64, last, bits }
            }
            Precision { step: Some(step), .. } => Self::Multiples(step),
            _ => Self::Raw,
        }
    }
}

/// How many bits hold the numbers from 0 to `last`.
pub(super) const fn bits_for(last: u64) -> u32 {
    u64::BITS - last.leading_zeros()
}

/// A float as a field, or as a part of one.
pub(super) trait Real: Copy + Into<f64> {
    const NAME: &'static str;

    fn write_raw(self, out: &mut BitWriter);
    fn read_raw(input: &mut BitReader<'_>) -> Result<Self, DecodeError>;
    /// The nearest one, and never an infinite one.
    fn from_f64(value: f64) -> Self;
}

impl Real for f32 {
    const NAME: &'static str = "f32";

    fn write_raw(self, out: &mut BitWriter) {
        out.write_f32(self);
    }

    fn read_raw(input: &mut BitReader<'_>) -> Result<Self, DecodeError> {
        input.read_f32()
    }

    fn from_f64(value: f64) -> Self {
        (value as Self).clamp(Self::MIN, Self::MAX)
    }
}

impl Real for f64 {
    const NAME: &'static str = "f64";

    fn write_raw(self, out: &mut BitWriter) {
        out.write_f64(self);
    }

    fn read_raw(input: &mut BitReader<'_>) -> Result<Self, DecodeError> {
        input.read_f64()
    }

    fn from_f64(value: f64) -> Self {
        value.clamp(Self::MIN, Self::MAX)
    }
}

/// Appends a float on the grid of its field.
pub(super) fn write_real<T: Real>(real: T, out: &mut BitWriter, options: &FieldOptions) {
    let value = real.into();
    match *options.grid() {
        Grid::Raw => real.write_raw(out),
        Grid::Multiples(step) => {
            let count = (value / step).round();
            // The cast takes NaN to 0.
            let held = count.clamp(-MAX_MULTIPLE, MAX_MULTIPLE) as i64;
            if held as f64 != count {
                options.warn_clamped(&value);
            }
            out.write_signed(held);
        }
        Grid::Levels { min, max, step, last, bits } => {
            // Half a step beyond a bound is still the bound.
            if !(value - max <= step / 2.0 && min - value <= step / 2.0) {
                options.warn_clamped(&value);
            }
            let value = if value.is_nan() { 0.0 } else { value };
            let level = if value >= max { last } else { (((value - min) / step).round() as u64).min(last) };
            out.write_bits(level, bits);
        }
    }
}

/// Takes a float off the front: the way back from [`write_real`].
pub(super) fn read_real<T: Real>(input: &mut BitReader<'_>, options: &FieldOptions) -> Result<T, DecodeError> {
    match *options.grid() {
        Grid::Raw => T::read_raw(input),
        Grid::Multiples(step) => {
            let count = input.read_signed()? as f64;
            if count.abs() > MAX_MULTIPLE {
                return Err(no_value::<T>());
            }
            Ok(T::from_f64(count * step))
        }
        Grid::Levels { min, max, step, last, bits } => {
            let level = input.read_bits(bits)?;
            if level > last {
                return Err(no_value::<T>());
            }
            Ok(T::from_f64(if level == last { max } else { min + level as f64 * step }))
        }
    }
}

macro_rules! real_field {
    ($($real:ident)*) => {$(
        impl NetField for $real {
            const ACCEPTS: Accepts = Accepts::Real;

            fn coding(options: &FieldOptions) -> String {
                format!("{}{}", <Self as Real>::NAME, options.precision())
            }

            fn write(
                &self,
                out: &mut BitWriter,
                options: &FieldOptions,
                _: &dyn EntityRefs,
            ) -> Result<(), EncodeError> {
                write_real(*self, out, options);
                Ok(())
            }

            fn read(
                input: &mut BitReader<'_>,
                options: &FieldOptions,
                _: &mut dyn EntityRefs,
            ) -> Result<Self, DecodeError> {
                read_real(input, options)
            }

            fn lerp(&self, to: &Self, t: f32) -> Self {
                self + (to - self) * Self::from(t)
            }
        }
    )*};
}

real_field!(f32 f64);

/// A whole number as a field, or as a part of one.
pub(super) trait Whole: Copy + Into<i128> + TryFrom<i128> {
    const NAME: &'static str;
    const ACCEPTS: Accepts;
    const BITS: u32;
    const SIGNED: bool;
}

/// Appends a whole number.
pub(super) fn write_whole<T: Whole>(whole: T, out: &mut BitWriter, options: &FieldOptions) {
    let value = whole.into();
    if let Some((min, max)) = bounds::<T>(options) {
        let held = value.clamp(min, max);
        if held != value {
            options.warn_clamped(&value);
        }
        out.write_bits((held - min) as u64, bits_for((max - min) as u64));
    } else if T::BITS == 8 {
        out.write_u8(value as u8);
    } else if T::SIGNED {
        out.write_signed(value as i64);
    } else {
        out.write_varint(value as u64);
    }
}

/// Takes a whole number off the front: the way back from [`write_whole`].
pub(super) fn read_whole<T: Whole>(input: &mut BitReader<'_>, options: &FieldOptions) -> Result<T, DecodeError> {
    let value = if let Some((min, max)) = bounds::<T>(options) {
        let value = min + i128::from(input.read_bits(bits_for((max - min) as u64))?);
        if value > max {
            return Err(no_value::<T>());
        }
        value
    } else if T::BITS == 8 {
        let byte = input.read_u8()?;
        if T::SIGNED { i128::from(byte as i8) } else { i128::from(byte) }
    } else if T::SIGNED {
        i128::from(input.read_signed()?)
    } else {
        i128::from(input.read_varint()?)
    };
    T::try_from(value).map_err(|_| no_value::<T>())
}

/// The least and the greatest number that a field holds, if its options limit them.
fn bounds<T: Whole>(options: &FieldOptions) -> Option<(i128, i128)> {
    let Precision { range, bits, .. } = options.precision();
    if let Some((min, max)) = range {
        return Some((min as i128, max as i128));
    }
    let values = 1_i128 << bits?;
    Some(if T::SIGNED { (-values / 2, values / 2 - 1) } else { (0, values - 1) })
}

macro_rules! whole_field {
    ($($whole:ident)*) => {$(
        impl Whole for $whole {
            const NAME: &'static str = stringify!($whole);
            const ACCEPTS: Accepts = Accepts::Integer { min: Self::MIN as i128, max: Self::MAX as i128 };
            const BITS: u32 = Self::BITS;
            const SIGNED: bool = Self::MIN != 0;
        }

        impl NetField for $whole {
            const ACCEPTS: Accepts = <Self as Whole>::ACCEPTS;

            fn coding(options: &FieldOptions) -> String {
                format!("{}{}", <Self as Whole>::NAME, options.precision())
            }

            fn write(
                &self,
                out: &mut BitWriter,
                options: &FieldOptions,
                _: &dyn EntityRefs,
            ) -> Result<(), EncodeError> {
                write_whole(*self, out, options);
                Ok(())
            }

            fn read(
                input: &mut BitReader<'_>,
                options: &FieldOptions,
                _: &mut dyn EntityRefs,
            ) -> Result<Self, DecodeError> {
                read_whole(input, options)
            }
        }
    )*};
}

whole_field!(u8 u16 u32 u64 i8 i16 i32 i64);

impl NetField for bool {
    fn coding(_: &FieldOptions) -> String {
        "bool".to_owned()
    }

    fn write(&self, out: &mut BitWriter, _: &FieldOptions, _: &dyn EntityRefs) -> Result<(), EncodeError> {
        out.write_bool(*self);
        Ok(())
    }

    fn read(input: &mut BitReader<'_>, _: &FieldOptions, _: &mut dyn EntityRefs) -> Result<Self, DecodeError> {
        input.read_bool()
    }
}

#[cfg(test)]
mod tests;

//! Which precision does a field have? What `#[net(step, range, bits)]` say, checked while the game compiles.

use core::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{NetField, number::Grid};

/// What `#[net(..)]` on a field says of its precision.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Precision {
    /// The distance of two values that can be told apart, in the field's own unit.
    pub step: Option<f64>,
    /// The least and the greatest value, both included.
    pub range: Option<(f64, f64)>,
    /// How many bits the value takes (a component of it, if it has several).
    pub bits: Option<u32>,
}

impl Precision {
    /// No option is given: the value crosses as it is.
    pub const NONE: Self = Self { step: None, range: None, bits: None };
}

/// As in a schema: ` step 0.01 range -512..=512`, each part only if it is given.
impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(step) = self.step {
            write!(f, " step {step}")?;
        }
        if let Some((min, max)) = self.range {
            write!(f, " range {min}..={max}")?;
        }
        if let Some(bits) = self.bits {
            write!(f, " bits {bits}")?;
        }
        Ok(())
    }
}

/// Which options the fields of a type take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// None.
    Nothing,
    /// `range` or `bits`, for whole numbers between these two.
    Integer {
        /// The least value of the type.
        min: i128,
        /// The greatest value of the type.
        max: i128,
    },
    /// `step`, `step` and `range`, or `range` and `bits`.
    Real,
    /// `bits`, 4 to 20.
    Rotation,
    /// `bits`, 1 to 16.
    Channels,
}

/// The most bits that `bits` may ask for.
const MAX_BITS: u32 = 32;
/// Up to here each whole number is an `f64`.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

impl Accepts {
    /// What is wrong with a field of such a type that has these options, if anything is, and how to put it right.
    pub const fn problem(self, precision: Precision) -> Option<&'static str> {
        let Precision { step, range, bits } = precision;
        if let Some(bits) = bits
            && (bits == 0 || bits > MAX_BITS)
        {
            return Some("`bits` is 1 to 32");
        }
        if let Some(step) = step
            && !(step > 0.0 && step.is_finite())
        {
            return Some("`step` must be greater than zero");
        }
        if let Some((min, max)) = range {
            if !(max - min).is_finite() {
                return Some("the bounds of `range` must be finite");
            }
            if min >= max {
                return Some("`range` is empty: the lower bound comes first, as in `range = -1.0..=1.0`");
            }
        }
        match self {
            Self::Nothing => nothing_problem(precision),
            Self::Integer { min, max } => integer_problem(precision, min, max),
            Self::Real => real_problem(precision),
            Self::Rotation => bits_problem(precision, 4, 20, "a rotation takes only `bits`, 4 to 20"),
            Self::Channels => bits_problem(precision, 1, 16, "a colour takes only `bits`, 1 to 16"),
        }
    }
}

const fn nothing_problem(precision: Precision) -> Option<&'static str> {
    match precision {
        Precision { step: None, range: None, bits: None } => None,
        _ => Some("fields of this type take no `step`, `range` or `bits`"),
    }
}

const fn integer_problem(precision: Precision, min: i128, max: i128) -> Option<&'static str> {
    let Precision { step, range, bits } = precision;
    if step.is_some() {
        return Some("`step` is for floats: give a whole number a `range` or `bits`");
    }
    if let Some((low, high)) = range {
        if bits.is_some() {
            return Some("a `range` of whole numbers says how many bits they take: leave out `bits`");
        }
        if low.abs() > MAX_WHOLE || high.abs() > MAX_WHOLE {
            return Some("the bounds of a `range` are at most 2^53: leave it out, or narrow it");
        }
        if low as i128 as f64 != low || high as i128 as f64 != high {
            return Some("the bounds of this `range` must be whole numbers");
        }
        if (low as i128) < min || high as i128 > max {
            return Some("the `range` is wider than the type");
        }
    }
    if let Some(bits) = bits
        && 1_i128 << bits > max - min + 1
    {
        return Some("the type has no more than so many `bits`: leave them out");
    }
    None
}

const fn real_problem(precision: Precision) -> Option<&'static str> {
    match precision {
        Precision { range: Some(_), step: None, bits: None } => {
            Some("a `range` of floats needs a `step` (as in `step = 0.01`) or `bits` too")
        }
        Precision { range: None, bits: Some(_), .. } => {
            Some("`bits` of a float need a `range` too, as in `range = 0.0..=1.0, bits = 8`")
        }
        Precision { step: Some(_), bits: Some(_), .. } => {
            Some("`step` and `range` say how many bits the value takes: leave out `bits`, or `step`")
        }
        Precision { range: Some((min, max)), step: Some(step), .. } => {
            if step > max - min {
                Some("`step` is wider than the `range`")
            } else if (max - min) / step > u32::MAX as f64 {
                Some("so fine a `step` in so wide a `range` takes more than 32 bits: widen the one or narrow the other")
            } else {
                None
            }
        }
        _ => None,
    }
}

const fn bits_problem(precision: Precision, least: u32, most: u32, problem: &'static str) -> Option<&'static str> {
    match precision {
        Precision { step: None, range: None, bits: None } => None,
        Precision { step: None, range: None, bits: Some(bits) } if bits >= least && bits <= most => None,
        _ => Some(problem),
    }
}

/// One field of a networked type: its name, and the options that it was given.
#[derive(Debug)]
pub struct FieldOptions {
    name: &'static str,
    precision: Precision,
    /// Worked out once from the precision, of floats.
    grid: Grid,
    /// Whether the owner was told already that a value did not fit.
    warned: AtomicBool,
}

impl FieldOptions {
    /// The options of a field of type `T`. In a `static`, as the derives have them, wrong ones do not compile.
    ///
    /// # Panics
    /// If `T` cannot have these options.
    pub const fn new<T: NetField>(name: &'static str, precision: Precision) -> Self {
        if let Some(problem) = T::ACCEPTS.problem(precision) {
            panic!("{}", problem);
        }
        Self { name, precision, grid: Grid::of(precision), warned: AtomicBool::new(false) }
    }

    /// The type and the field, for people: `Pos.xy`.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The options.
    pub const fn precision(&self) -> Precision {
        self.precision
    }

    /// How floats are coded.
    pub(super) const fn grid(&self) -> &Grid {
        &self.grid
    }

    /// Tells the owner, the first time, that a value does not fit and that another is sent in its place.
    pub(super) fn warn_clamped(&self, value: &dyn fmt::Display) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                field = self.name,
                %value,
                precision = %self.precision,
                "a value does not fit its field, and peers get the nearest one that does: widen its `range`, or keep \
                 the value within (said once for each field)"
            );
        }
    }

    #[cfg(test)]
    pub(super) fn warned(&self) -> bool {
        self.warned.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTE: Accepts = Accepts::Integer { min: 0, max: 255 };

    fn problem(
        accepts: Accepts,
        step: Option<f64>,
        range: Option<(f64, f64)>,
        bits: Option<u32>,
    ) -> Option<&'static str> {
        accepts.problem(Precision { step, range, bits })
    }

    #[test]
    fn what_makes_sense_is_accepted() {
        for (accepts, step, range, bits) in [
            (Accepts::Nothing, None, None, None),
            (BYTE, None, Some((0.0, 255.0)), None),
            (BYTE, None, None, Some(8)),
            (Accepts::Real, None, None, None),
            (Accepts::Real, Some(0.01), None, None),
            (Accepts::Real, Some(0.01), Some((-512.0, 512.0)), None),
            (Accepts::Real, Some(1.0), Some((0.0, f64::from(u32::MAX))), None),
            (Accepts::Real, None, Some((0.0, 1.0)), Some(32)),
            (Accepts::Rotation, None, None, Some(4)),
            (Accepts::Rotation, None, None, None),
            (Accepts::Channels, None, None, Some(16)),
        ] {
            assert_eq!(problem(accepts, step, range, bits), None, "{accepts:?} {step:?} {range:?} {bits:?}");
        }
    }

    #[test]
    fn what_makes_none_is_refused_with_the_reason() {
        for (accepts, step, range, bits, says) in [
            (Accepts::Nothing, Some(1.0), None, None, "take no"),
            (BYTE, Some(1.0), None, None, "for floats"),
            (BYTE, None, Some((0.0, 9.0)), Some(4), "leave out `bits`"),
            (BYTE, None, Some((0.0, 0.5)), None, "whole numbers"),
            (BYTE, None, Some((-1.0, 9.0)), None, "wider than the type"),
            (BYTE, None, None, Some(9), "no more than so many"),
            (BYTE, None, Some((0.0, 1e300)), None, "2^53"),
            (Accepts::Real, Some(0.0), None, None, "greater than zero"),
            (Accepts::Real, Some(-1.0), None, None, "greater than zero"),
            (Accepts::Real, Some(f64::NAN), None, None, "greater than zero"),
            (Accepts::Real, Some(0.1), Some((1.0, 1.0)), None, "empty"),
            (Accepts::Real, Some(0.1), Some((1.0, -1.0)), None, "empty"),
            (Accepts::Real, Some(0.1), Some((f64::MIN, f64::MAX)), None, "finite"),
            (Accepts::Real, Some(0.1), Some((0.0, f64::NAN)), None, "finite"),
            (Accepts::Real, None, Some((0.0, 1.0)), None, "needs a `step`"),
            (Accepts::Real, None, None, Some(8), "need a `range`"),
            (Accepts::Real, Some(0.1), None, Some(8), "need a `range`"),
            (Accepts::Real, Some(0.1), Some((0.0, 1.0)), Some(8), "leave out `bits`"),
            (Accepts::Real, Some(2.0), Some((0.0, 1.0)), None, "wider than the `range`"),
            (Accepts::Real, Some(1e-9), Some((0.0, 9.0)), None, "more than 32 bits"),
            (Accepts::Real, None, Some((0.0, 1.0)), Some(33), "1 to 32"),
            (Accepts::Real, None, Some((0.0, 1.0)), Some(0), "1 to 32"),
            (Accepts::Rotation, None, None, Some(3), "4 to 20"),
            (Accepts::Rotation, Some(0.1), None, None, "4 to 20"),
            (Accepts::Channels, None, Some((0.0, 1.0)), Some(8), "1 to 16"),
        ] {
            let found = problem(accepts, step, range, bits).unwrap_or("nothing");
            assert!(found.contains(says), "{accepts:?} {step:?} {range:?} {bits:?}: {found}");
        }
    }
}

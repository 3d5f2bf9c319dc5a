//! Do numbers come back as exactly as their options promise, and is everything else refused?

use core::fmt::Debug;

use proptest::prelude::*;

use super::*;
use crate::field::testing::{NoRefs, decode, encode, field, trip};

fn step(step: f64) -> Precision {
    Precision { step: Some(step), ..Precision::NONE }
}

fn stepped(step: f64, min: f64, max: f64) -> Precision {
    Precision { step: Some(step), range: Some((min, max)), bits: None }
}

fn spaced(min: f64, max: f64, bits: u32) -> Precision {
    Precision { step: None, range: Some((min, max)), bits: Some(bits) }
}

fn range(min: f64, max: f64) -> Precision {
    Precision { range: Some((min, max)), ..Precision::NONE }
}

fn bits(bits: u32) -> Precision {
    Precision { bits: Some(bits), ..Precision::NONE }
}

#[test]
fn whole_numbers_come_back() {
    fn check<T: NetField + PartialEq + Debug>(value: T, coding: &str, bits: usize) {
        let options = field::<T>(Precision::NONE);
        assert_eq!(T::coding(&options), coding);
        assert_eq!(trip(&value, &options), (value, bits));
        assert!(!options.warned());
    }
    check(true, "bool", 1);
    check(u8::MAX, "u8", 8);
    check(i8::MIN, "i8", 8);
    check(127_u16, "u16", 8);
    check(u16::MAX, "u16", 24);
    check(-64_i16, "i16", 8);
    check(i16::MIN, "i16", 24);
    check(300_u32, "u32", 16);
    check(u32::MAX, "u32", 40);
    check(i32::MIN, "i32", 40);
    check(u64::MAX, "u64", 80);
    check(i64::MIN, "i64", 80);
    check(i64::MAX, "i64", 80);
}

#[test]
fn whole_numbers_take_the_bits_of_their_range() {
    for (precision, coding, value, width) in [
        (range(0.0, 100.0), "i32 range 0..=100", 100, 7),
        (range(-5.0, 2.0), "i32 range -5..=2", -5, 3),
        (range(1000.0, 1001.0), "i32 range 1000..=1001", 1001, 1),
        (range(f64::from(i32::MIN), f64::from(i32::MAX)), "i32 range -2147483648..=2147483647", i32::MIN, 32),
        (bits(4), "i32 bits 4", -8, 4),
        (bits(32), "i32 bits 32", i32::MIN, 32),
    ] {
        let options = field::<i32>(precision);
        assert_eq!(i32::coding(&options), coding);
        assert_eq!(trip(&value, &options), (value, width));
        assert!(!options.warned());
    }
    let wide = field::<i64>(range(-9_007_199_254_740_992.0, 9_007_199_254_740_992.0));
    assert_eq!(trip(&9_007_199_254_740_992_i64, &wide), (9_007_199_254_740_992, 55));
}

#[test]
fn whole_numbers_out_of_range_become_the_nearest_bound() {
    for (precision, value, held) in
        [(range(-5.0, 5.0), i64::MAX, 5), (range(-5.0, 5.0), -6, -5), (bits(4), 8, 7), (bits(4), i64::MIN, -8)]
    {
        let options = field::<i64>(precision);
        assert_eq!(trip(&value, &options).0, held);
        assert!(options.warned());
    }
    assert_eq!(trip(&16_u64, &field::<u64>(bits(4))).0, 15);
}

#[test]
fn whole_numbers_of_another_type_are_refused() {
    fn refused<T: NetField + PartialEq + Debug>(bytes: &[u8], precision: Precision) {
        let options = field::<T>(precision);
        assert!(matches!(decode::<T>(bytes, &options), Err(DecodeError::Opaque(_))), "{}", T::coding(&options));
    }
    refused::<u16>(&[0x80, 0x80, 0x04], Precision::NONE);
    refused::<i16>(&[0x80, 0x80, 0x04], Precision::NONE);
    refused::<u32>(&[0x80, 0x80, 0x80, 0x80, 0x10], Precision::NONE);
    refused::<u8>(&[101], range(0.0, 100.0));
    assert_eq!(decode::<u32>(&[0x80], &field::<u32>(Precision::NONE)), Err(DecodeError::Truncated));
    assert_eq!(decode::<u32>(&[0x80, 0], &field::<u32>(Precision::NONE)), Err(DecodeError::Varint));
    assert_eq!(decode::<u64>(&[0; 3], &field::<u64>(bits(32))), Err(DecodeError::Truncated));
}

#[test]
fn floats_come_back_as_they_were() {
    let options = field::<f32>(Precision::NONE);
    assert_eq!(f32::coding(&options), "f32");
    for value in [0.0, -0.0, 1e-45, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, 0.1] {
        let (back, width) = trip(&value, &options);
        assert_eq!((back.to_bits(), width), (value.to_bits(), 32));
    }
    assert_eq!(trip(&f32::from_bits(0xffc0_1234), &options).0.to_bits(), f32::NAN.to_bits(), "one NaN for all");
    assert_eq!(trip(&0.1_f64, &field::<f64>(Precision::NONE)), (0.1, 64));
    assert!(!options.warned());
}

#[test]
fn floats_take_the_bits_of_their_steps() {
    for (precision, coding, width) in [
        (stepped(0.01, -512.0, 512.0), "f32 step 0.01 range -512..=512", 17),
        (stepped(1.0, 0.0, 1.0), "f32 step 1 range 0..=1", 1),
        (stepped(1.0, 0.0, 3.0), "f32 step 1 range 0..=3", 2),
        (stepped(1.0, 0.0, 4.0), "f32 step 1 range 0..=4", 3),
        (stepped(0.1, 0.0, 0.3), "f32 step 0.1 range 0..=0.3", 2),
        (stepped(0.3, 0.0, 1.0), "f32 step 0.3 range 0..=1", 3),
        (spaced(-1.0, 1.0, 8), "f32 range -1..=1 bits 8", 8),
        (spaced(0.0, 1.0, 32), "f32 range 0..=1 bits 32", 32),
        (step(0.5), "f32 step 0.5", 8),
    ] {
        let options = field::<f32>(precision);
        assert_eq!(f32::coding(&options), coding);
        assert_eq!(trip(&0.0, &options).1, width, "{coding}");
    }
}

#[test]
fn both_bounds_are_exact() {
    for (min, max) in [(-512.0, 512.0), (0.0, 1.0), (-0.1, 0.7), (1.05, 2.0), (-3.0, -1.0)] {
        for precision in [stepped(0.3, min, max), stepped(0.01, min, max), spaced(min, max, 5)] {
            let options = field::<f64>(precision);
            assert_eq!(trip(&min, &options).0, min, "{}", f64::coding(&options));
            assert_eq!(trip(&max, &options).0, max, "{}", f64::coding(&options));
            assert!(!options.warned());
            let options = field::<f32>(precision);
            assert_eq!(trip(&(max as f32), &options).0, max as f32);
            assert!(!options.warned(), "the rounding of `f32` is not out of range");
        }
    }
}

#[test]
fn floats_out_of_range_become_the_nearest_bound_and_the_owner_is_told() {
    for (value, held) in [
        (512.2, 512.0),
        (f32::INFINITY, 512.0),
        (-600.0, -512.0),
        (f32::NEG_INFINITY, -512.0),
        (f32::MIN, -512.0),
        (f32::NAN, 0.0),
    ] {
        for precision in [stepped(0.01, -512.0, 512.0), stepped(0.25, -512.0, 512.0)] {
            let options = field::<f32>(precision);
            assert_eq!(trip(&value, &options).0, held);
            assert!(options.warned(), "{value}");
        }
    }
    assert_eq!(trip(&f32::NAN, &field::<f32>(stepped(0.5, 1.0, 9.0))).0, 1.0);
    assert_eq!(trip(&f32::NAN, &field::<f32>(spaced(-9.0, -1.0, 8))).0, -1.0);
}

#[test]
fn multiples_have_no_range_but_an_end() {
    let options = field::<f32>(step(0.01));
    assert_eq!(trip(&-3.71828_f32, &options), (-3.72, 16));
    assert_eq!(trip(&1e9_f32, &options).0, 1e9);
    assert!(!options.warned());
    for (value, held) in
        [(f32::NAN, 0.0), (f32::INFINITY, (MAX_MULTIPLE * 0.01) as f32), (-1e30, (MAX_MULTIPLE * -0.01) as f32)]
    {
        let options = field::<f32>(step(0.01));
        assert_eq!(trip(&value, &options).0, held);
        assert!(options.warned(), "{value}");
    }
    // Multiples that the type does not have.
    let options = field::<f32>(step(3e38));
    assert_eq!(trip(&f32::MAX, &options).0, 3e38);
    let mut out = BitWriter::new();
    out.write_signed(7);
    assert_eq!(decode::<f32>(&out.finish(), &options), Ok(f32::MAX));
}

#[test]
fn levels_and_multiples_that_do_not_exist_are_refused() {
    let options = field::<f32>(stepped(1.0, 0.0, 4.0));
    assert_eq!(decode::<f32>(&[4], &options), Ok(4.0));
    for level in 5..8 {
        assert!(matches!(decode::<f32>(&[level], &options), Err(DecodeError::Opaque("f32"))));
    }
    let mut out = BitWriter::new();
    out.write_signed(MAX_MULTIPLE as i64 + 2);
    assert!(matches!(decode::<f64>(&out.finish(), &field::<f64>(step(0.1))), Err(DecodeError::Opaque("f64"))));
}

#[test]
fn between_two_floats_is_a_float() {
    assert_eq!(NetField::lerp(&1.0_f32, &2.0, 0.25), 1.25);
    assert_eq!(NetField::lerp(&1.0_f64, &2.0, 0.25), 1.25);
    assert_eq!(NetField::lerp(&1_u8, &9, 0.25), 9, "whole numbers are the newer ones");
}

/// Options as games have them.
fn precision() -> impl Strategy<Value = Precision> {
    (prop::option::of((-1000_i32..1000, 1_u32..2000)), 1_u32..=20, -3..=2_i32).prop_map(|(bounds, bits, decimals)| {
        let step = 10_f64.powi(decimals);
        let Some((min, width)) = bounds else { return self::step(step) };
        let (min, max) = (f64::from(min), f64::from(min) + f64::from(width) + 0.125);
        if step <= max - min { stepped(step, min, max) } else { spaced(min, max, bits) }
    })
}

proptest! {
    #[test]
    fn a_float_comes_back_within_half_a_step(precision in precision(), at in 0.0_f64..=1.0, wild in any::<f32>()) {
        let options = field::<f64>(precision);
        let (min, max) = precision.range.unwrap_or((-1e4, 1e4));
        let step = match options.grid() {
            Grid::Levels { step, .. } | Grid::Multiples(step) => *step,
            Grid::Raw => unreachable!("every one of these has a grid"),
        };
        let value = min + (max - min) * at;
        let back = trip(&value, &options).0;
        prop_assert!((back - value).abs() <= step / 2.0 + 1e-9, "{value} came back as {back}");
        prop_assert!(!options.warned());

        let options = field::<f32>(precision);
        let back = trip(&(value as f32), &options).0;
        prop_assert!((f64::from(back) - value).abs() <= step / 2.0 + 1e-3, "{value} came back as {back}");

        let back = trip(&wild, &options).0;
        if let Some((min, max)) = precision.range {
            prop_assert!((min as f32..=max as f32).contains(&back), "{wild} came back as {back}");
        }
    }

    #[test]
    fn what_came_is_sent_on_as_it_came(precision in precision(), value in prop_oneof![-2000.0_f32..2000.0, any::<f32>()]) {
        let options = field::<f32>(precision);
        let once = encode(&value, &options).unwrap();
        let back = decode::<f32>(&once, &options).unwrap();
        let twice = encode(&back, &options).unwrap();
        // Multiples of a step that is finer than `f32` at this size settle on the second time.
        if precision.range.is_some() || f64::from(back.abs()) < 1e4 {
            prop_assert_eq!(&once, &twice);
        }
        prop_assert_eq!(decode::<f32>(&twice, &options).unwrap().to_bits(), back.to_bits());
    }

    #[test]
    fn whatever_bits_come_are_in_range_or_refused(precision in precision(), bytes in prop::collection::vec(any::<u8>(), 0..12)) {
        let options = field::<f32>(precision);
        if let Ok(value) = f32::read(&mut BitReader::new(&bytes), &options, &mut NoRefs) {
            let (min, max) = precision.range.unwrap_or((f64::MIN, f64::MAX));
            prop_assert!(value.is_finite() && (min as f32..=max as f32).contains(&value));
        }
    }

    #[test]
    fn whole_numbers_come_back_or_clamp(value in any::<i64>(), min in -1000_i32..1000, width in 1_u32..2000, bits in 1_u32..=32) {
        let (min, max) = (i64::from(min), i64::from(min) + i64::from(width));
        prop_assert_eq!(trip(&value, &field::<i64>(range(min as f64, max as f64))).0, value.clamp(min, max));
        let within = value.rem_euclid(max - min + 1) + min;
        prop_assert_eq!(trip(&within, &field::<i64>(range(min as f64, max as f64))).0, within);
        let half = 1_i64 << (bits - 1);
        prop_assert_eq!(trip(&value, &field::<i64>(self::bits(bits))).0, value.clamp(-half, half - 1));
        prop_assert_eq!(trip(&value, &field::<i64>(Precision::NONE)).0, value);
        prop_assert_eq!(trip(&(value as u16), &field::<u16>(Precision::NONE)).0, value as u16);
    }
}

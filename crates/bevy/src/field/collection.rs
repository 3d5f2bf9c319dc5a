//! How do options, lists, arrays and tuples cross? Item by item, a list after its length.

use coplay_proto::codec::{BitReader, BitWriter, DecodeError};

use super::{Accepts, FieldOptions, NetField, no_value};
use crate::net_type::{EncodeError, EntityRefs};

/// The most items that a list has in a field.
pub const MAX_ITEMS: usize = 1024;

impl<T: NetField> NetField for Option<T> {
    const ACCEPTS: Accepts = T::ACCEPTS;

    fn coding(options: &FieldOptions) -> String {
        format!("option({})", T::coding(options))
    }

    fn write(&self, out: &mut BitWriter, options: &FieldOptions, refs: &dyn EntityRefs) -> Result<(), EncodeError> {
        T::write_option(self.as_ref(), out, options, refs)
    }

    fn read(input: &mut BitReader<'_>, options: &FieldOptions, refs: &mut dyn EntityRefs) -> Result<Self, DecodeError> {
        T::read_option(input, options, refs)
    }

    fn lerp(&self, to: &Self, t: f32) -> Self {
        match (self, to) {
            (Some(from), Some(to)) => Some(from.lerp(to, t)),
            _ => to.clone(),
        }
    }
}

impl<T: NetField> NetField for Vec<T> {
    const ACCEPTS: Accepts = T::ACCEPTS;

    fn coding(options: &FieldOptions) -> String {
        format!("list({})", T::coding(options))
    }

    fn write(&self, out: &mut BitWriter, options: &FieldOptions, refs: &dyn EntityRefs) -> Result<(), EncodeError> {
        if self.len() > MAX_ITEMS {
            return Err(EncodeError::TooLong { field: options.name(), length: self.len(), max: MAX_ITEMS });
        }
        out.write_varint(self.len() as u64);
        self.iter().try_for_each(|item| item.write(out, options, refs))
    }

    fn read(input: &mut BitReader<'_>, options: &FieldOptions, refs: &mut dyn EntityRefs) -> Result<Self, DecodeError> {
        let length = input.read_varint()?;
        if length > MAX_ITEMS as u64 {
            return Err(no_value::<Self>());
        }
        // The room for items is made as they come: lists within lists could claim any amount.
        (0..length).map(|_| T::read(input, options, refs)).collect()
    }
}

impl<T: NetField, const N: usize> NetField for [T; N] {
    const ACCEPTS: Accepts = T::ACCEPTS;

    fn coding(options: &FieldOptions) -> String {
        format!("array({}, {N})", T::coding(options))
    }

    fn write(&self, out: &mut BitWriter, options: &FieldOptions, refs: &dyn EntityRefs) -> Result<(), EncodeError> {
        self.iter().try_for_each(|item| item.write(out, options, refs))
    }

    fn read(input: &mut BitReader<'_>, options: &FieldOptions, refs: &mut dyn EntityRefs) -> Result<Self, DecodeError> {
        let mut failed = None;
        let items = [(); N].map(|()| {
            if failed.is_some() {
                return None;
            }
            T::read(input, options, refs).inspect_err(|error| failed = Some(*error)).ok()
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(items.map(|item| item.expect("every item was read, or one had failed"))),
        }
    }

    fn lerp(&self, to: &Self, t: f32) -> Self {
        core::array::from_fn(|index| self[index].lerp(&to[index], t))
    }
}

macro_rules! tuple_field {
    ($($name:ident $index:tt)*) => {
        impl<$($name: NetField),*> NetField for ($($name,)*) {
            fn coding(options: &FieldOptions) -> String {
                format!("({})", [$($name::coding(options)),*].join(", "))
            }

            fn write(
                &self,
                out: &mut BitWriter,
                options: &FieldOptions,
                refs: &dyn EntityRefs,
            ) -> Result<(), EncodeError> {
                $(self.$index.write(out, options, refs)?;)*
                Ok(())
            }

            fn read(
                input: &mut BitReader<'_>,
                options: &FieldOptions,
                refs: &mut dyn EntityRefs,
            ) -> Result<Self, DecodeError> {
                Ok(($($name::read(input, options, refs)?,)*))
            }

            fn lerp(&self, to: &Self, t: f32) -> Self {
                ($(self.$index.lerp(&to.$index, t),)*)
            }
        }
    };
}

tuple_field!(A 0);
tuple_field!(A 0 B 1);
tuple_field!(A 0 B 1 C 2);
tuple_field!(A 0 B 1 C 2 D 3);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{
        Precision,
        testing::{decode, encode, field, trip},
    };

    fn check<T: NetField + PartialEq + core::fmt::Debug>(value: &T, coding: &str, bits: usize) {
        let options = field::<T>(Precision::NONE);
        assert_eq!(T::coding(&options), coding);
        assert_eq!(trip(value, &options), (value.clone(), bits));
    }

    #[test]
    fn what_holds_others_comes_back() {
        check(&Some(7_u8), "option(u8)", 9);
        check(&None::<u8>, "option(u8)", 1);
        check(&Some(None::<bool>), "option(option(bool))", 2);
        check(&vec![1_u8, 2, 3], "list(u8)", 32);
        check(&Vec::<u8>::new(), "list(u8)", 8);
        check(&vec![vec![true], vec![]], "list(list(bool))", 25);
        check(&[1.5_f32, -2.5], "array(f32, 2)", 64);
        check(&[0_u8; 0], "array(u8, 0)", 0);
        check(&(1_u8,), "(u8)", 8);
        check(&(1_u8, true, "x".to_owned(), [Some(2_i8)]), "(u8, bool, text, array(option(i8), 1))", 41);
    }

    #[test]
    fn options_reach_the_items() {
        let precision = Precision { range: Some((0.0, 7.0)), ..Precision::NONE };
        let options = field::<Vec<Option<[u8; 2]>>>(precision);
        assert_eq!(Vec::<Option<[u8; 2]>>::coding(&options), "list(option(array(u8 range 0..=7, 2)))");
        let value = vec![Some([1, 7]), None];
        assert_eq!(trip(&value, &options), (value, 8 + 7 + 1));
    }

    #[test]
    fn a_list_that_is_too_long_is_refused_on_both_sides() {
        let options = field::<Vec<bool>>(Precision::NONE);
        assert_eq!(trip(&vec![true; MAX_ITEMS], &options).0.len(), MAX_ITEMS);
        assert_eq!(
            encode(&vec![true; MAX_ITEMS + 1], &options),
            Err(EncodeError::TooLong { field: "Type.field", length: MAX_ITEMS + 1, max: MAX_ITEMS })
        );
        let mut out = BitWriter::new();
        out.write_varint(MAX_ITEMS as u64 + 1);
        (0..MAX_ITEMS).for_each(|_| out.write_u8(0));
        assert!(matches!(decode::<Vec<bool>>(&out.finish(), &options), Err(DecodeError::Opaque(_))));
    }

    #[test]
    fn items_that_are_missing_are_missed() {
        let list = field::<Vec<u32>>(Precision::NONE);
        assert_eq!(decode::<Vec<u32>>(&[3, 1, 2], &list), Err(DecodeError::Truncated));
        let array = field::<[u8; 3]>(Precision::NONE);
        assert_eq!(decode::<[u8; 3]>(&[1, 2], &array), Err(DecodeError::Truncated));
        let pair = field::<(u8, u8)>(Precision::NONE);
        assert_eq!(decode::<(u8, u8)>(&[1], &pair), Err(DecodeError::Truncated));
    }

    #[test]
    fn the_first_failure_ends_an_array() {
        let options = field::<[u8; 3]>(Precision { range: Some((0.0, 9.0)), ..Precision::NONE });
        // 15 is no value, then 1 and 2 are.
        assert!(matches!(decode::<[u8; 3]>(&[0x1f, 0x02], &options), Err(DecodeError::Opaque("u8"))));
    }

    #[test]
    fn between_is_item_by_item_where_both_have_one() {
        assert_eq!(Some(1.0_f32).lerp(&Some(2.0), 0.5), Some(1.5));
        assert_eq!(None.lerp(&Some(2.0_f32), 0.5), Some(2.0));
        assert_eq!([0.0_f32, 1.0].lerp(&[1.0, 3.0], 0.5), [0.5, 2.0]);
        assert_eq!((0.0_f32, 1_u8).lerp(&(1.0, 3), 0.5), (0.5, 3));
        assert_eq!(vec![0.0_f32].lerp(&vec![1.0], 0.5), vec![1.0]);
    }
}

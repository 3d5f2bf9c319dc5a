//! How do colours cross? In the space that they are in, or as sRGB of few bits.

use bevy_color::{
    Color, ColorToComponents, Hsla, Hsva, Hwba, Laba, Lcha, LinearRgba, Mix, Oklaba, Oklcha, Srgba, Xyza,
};
use coplay_proto::codec::{BitReader, BitWriter, DecodeError};

use super::{Accepts, FieldOptions, NetField, no_value};
use crate::net_type::{EncodeError, EntityRefs};

/// The bits that hold the number of the space.
const SPACE_BITS: u32 = 4;

macro_rules! spaces {
    ($($number:literal $space:ident)*) => {
        fn parts_of(color: &Color) -> (u64, [f32; 4]) {
            match color {
                $(Color::$space(color) => ($number, color.to_f32_array()),)*
            }
        }

        fn color_of(space: u64, parts: [f32; 4]) -> Option<Color> {
            match space {
                $($number => Some(Color::$space($space::from_f32_array(parts))),)*
                _ => None,
            }
        }
    };
}

// The numbers are the wire's: they stay as they are.
spaces!(0 Srgba 1 LinearRgba 2 Hsla 3 Hsva 4 Hwba 5 Laba 6 Lcha 7 Oklaba 8 Oklcha 9 Xyza);

/// Raw: the number of its space, and its four parts in that space; nothing is lost. With `bits`: red, green, blue
/// and alpha of sRGB, 0 to 1 each; what is beyond (HDR) is cut off, and the space becomes sRGB.
impl NetField for Color {
    const ACCEPTS: Accepts = Accepts::Channels;

    fn coding(options: &FieldOptions) -> String {
        format!("color{}", options.precision())
    }

    fn write(&self, out: &mut BitWriter, options: &FieldOptions, _: &dyn EntityRefs) -> Result<(), EncodeError> {
        let Some(bits) = options.precision().bits else {
            let (space, parts) = parts_of(self);
            out.write_bits(space, SPACE_BITS);
            parts.into_iter().for_each(|part| out.write_f32(part));
            return Ok(());
        };
        let greatest = greatest_level(bits);
        for part in self.to_srgba().to_f32_array() {
            let level = (f64::from(part) * greatest).round();
            if !(0.0..=greatest).contains(&level) {
                options.warn_clamped(&format_args!("{self:?}"));
            }
            // The cast takes NaN to 0.
            out.write_bits(level.clamp(0.0, greatest) as u64, bits);
        }
        Ok(())
    }

    fn read(input: &mut BitReader<'_>, options: &FieldOptions, _: &mut dyn EntityRefs) -> Result<Self, DecodeError> {
        let bits = options.precision().bits;
        let space = if bits.is_some() { 0 } else { input.read_bits(SPACE_BITS)? };
        let mut parts = [0.0; 4];
        for part in &mut parts {
            *part = match bits {
                Some(bits) => (input.read_bits(bits)? as f64 / greatest_level(bits)) as f32,
                None => input.read_f32()?,
            };
        }
        color_of(space, parts).ok_or_else(no_value::<Self>)
    }

    fn lerp(&self, to: &Self, t: f32) -> Self {
        self.mix(to, t)
    }
}

fn greatest_level(bits: u32) -> f64 {
    f64::from((1_u32 << bits) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{
        Precision,
        testing::{decode, field, trip},
    };

    #[test]
    fn every_space_comes_back_as_it_was() {
        let options = field::<Color>(Precision::NONE);
        assert_eq!(Color::coding(&options), "color");
        for color in [
            Color::srgba(0.1, 0.2, 0.3, 0.4),
            Color::linear_rgba(0.1, 20.0, 0.3, 0.4),
            Color::hsla(0.1, 0.2, 0.3, 0.4),
            Color::hsva(0.1, 0.2, 0.3, 0.4),
            Color::hwba(0.1, 0.2, 0.3, 0.4),
            Color::laba(0.1, 0.2, 0.3, 0.4),
            Color::lcha(0.1, 0.2, 0.3, 0.4),
            Color::oklaba(0.1, 0.2, 0.3, 0.4),
            Color::oklcha(0.1, 0.2, 0.3, 0.4),
            Color::xyza(0.1, 0.2, 0.3, 0.4),
        ] {
            assert_eq!(trip(&color, &options), (color, 132));
        }
    }

    #[test]
    fn bits_make_it_srgb() {
        let options = field::<Color>(Precision { bits: Some(8), ..Precision::NONE });
        assert_eq!(Color::coding(&options), "color bits 8");
        assert_eq!(trip(&Color::srgba_u8(1, 2, 254, 255), &options), (Color::srgba_u8(1, 2, 254, 255), 32));
        assert!(!options.warned());
        let white: Color = LinearRgba::WHITE.into();
        assert_eq!(trip(&white, &options).0, Color::srgb(1.0, 1.0, 1.0));
        assert_eq!(trip(&Color::srgba(9.0, -1.0, f32::NAN, 0.0), &options).0, Color::srgba(1.0, 0.0, 0.0, 0.0));
        assert!(options.warned());
    }

    #[test]
    fn a_space_that_nobody_knows_is_refused() {
        let options = field::<Color>(Precision::NONE);
        assert!(decode::<Color>(&[0; 17], &options).is_ok());
        let mut bytes = [0; 17];
        bytes[0] = 10;
        assert!(matches!(decode::<Color>(&bytes, &options), Err(DecodeError::Opaque(_))));
        assert_eq!(decode::<Color>(&[0; 16], &options), Err(DecodeError::Truncated));
    }
}

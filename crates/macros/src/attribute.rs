//! What does `#[net(..)]` say, on a type or on a field, and what is wrong with it?

use proc_macro2::Span;
use syn::{
    Attribute, Error, Expr, ExprLit, ExprRange, ExprUnary, Lit, LitStr, RangeLimits, Result, Token, Type, UnOp,
    meta::ParseNestedMeta, spanned::Spanned,
};

use crate::Kind;

/// What is said on a type.
#[derive(Default)]
pub(crate) struct TypeAttributes {
    pub(crate) interpolate: bool,
    pub(crate) name: Option<LitStr>,
    pub(crate) optional: bool,
    pub(crate) serde: bool,
    /// Of an event.
    pub(crate) channel: Option<LitStr>,
    pub(crate) unordered: bool,
    pub(crate) unreliable: bool,
}

/// What is said on a field.
#[derive(Default)]
pub(crate) struct FieldAttributes {
    pub(crate) step: Option<Expr>,
    pub(crate) range: Option<(Expr, Expr)>,
    pub(crate) bits: Option<Expr>,
    pub(crate) serde: bool,
}

/// The most that `bits` may be.
const MAX_BITS: f64 = 32.0;
const ON_FIELDS: [&str; 3] = ["step", "range", "bits"];
const ON_TYPES: [&str; 6] = ["interpolate", "name", "optional", "channel", "unordered", "unreliable"];

impl TypeAttributes {
    pub(crate) fn parse(kind: Kind, attributes: &[Attribute]) -> Result<Self> {
        let mut found = Self::default();
        let (mut interpolate, mut way) = (None, None);
        each(attributes, |meta| {
            let name = name(&meta);
            match &*name {
                "interpolate" if kind == Kind::Networked => {
                    interpolate = Some(meta.path.span());
                    flag(&mut found.interpolate, &meta)
                }
                "interpolate" if kind == Kind::Input => {
                    Err(meta.error("an input is never interpolated: each tick has its own value. Leave it out"))
                }
                "interpolate" if kind == Kind::Event => {
                    Err(meta.error("an event happens once, there is nothing to interpolate: leave it out"))
                }
                "channel" | "unordered" | "unreliable" if kind != Kind::Event => {
                    Err(meta.error(format!("`{name}` says how an event travels: it belongs on a `NetEvent`")))
                }
                "channel" | "unordered" | "unreliable" if way.as_ref().is_some_and(|before| *before != name) => Err(meta
                    .error("an event has one way: in the order of a `channel`, `unordered`, or `unreliable`. Leave out the others")),
                "channel" => {
                    let literal: LitStr = meta.value()?.parse()?;
                    if literal.value().is_empty() {
                        let empty = "the name is empty: leave `channel` out for the channel of all that name none";
                        return Err(Error::new(literal.span(), empty));
                    }
                    way = Some(name);
                    once(&mut found.channel, literal, &meta)
                }
                "unordered" => {
                    way = Some(name);
                    flag(&mut found.unordered, &meta)
                }
                "unreliable" => {
                    way = Some(name);
                    flag(&mut found.unreliable, &meta)
                }
                "serde" => flag(&mut found.serde, &meta),
                "interpolate" | "name" | "optional" if kind == Kind::Field => {
                    Err(meta.error(format!("`{name}` belongs on the types that have such fields, not on a `NetField`")))
                }
                "optional" => flag(&mut found.optional, &meta),
                "name" => {
                    let literal: LitStr = meta.value()?.parse()?;
                    if literal.value().is_empty() {
                        return Err(Error::new(literal.span(), "the name is empty: peers know the type by it"));
                    }
                    once(&mut found.name, literal, &meta)
                }
                _ if ON_FIELDS.contains(&&*name) => Err(meta.error(format!("`{name}` belongs on a field"))),
                _ => Err(meta.error(match kind {
                    Kind::Networked => "a networked type takes `interpolate`, `name = \"..\"`, `optional` and `serde`",
                    Kind::Input => "this takes `name = \"..\"`, `optional` and `serde`",
                    Kind::Event => {
                        "an event takes `channel = \"..\"`, `unordered`, `unreliable`, `name = \"..\"`, `optional` and `serde`"
                    }
                    Kind::Field => "a `NetField` takes `serde`",
                })),
            }
        })?;
        match interpolate {
            Some(span) if found.serde => Err(Error::new(
                span,
                "a type that goes by serde cannot be interpolated: put `serde` on the fields that need it",
            )),
            _ => Ok(found),
        }
    }
}

impl FieldAttributes {
    pub(crate) fn parse(attributes: &[Attribute], ty: &Type) -> Result<Self> {
        let mut found = Self::default();
        let mut last = None;
        each(attributes, |meta| {
            last = Some(meta.path.span());
            let name = name(&meta);
            match &*name {
                "step" => {
                    let step = meta.value()?.parse::<Expr>()?;
                    if literal(&step).is_some_and(|step| step <= 0.0) {
                        return Err(Error::new_spanned(step, "`step` must be greater than zero, as in `step = 0.01`"));
                    }
                    once(&mut found.step, step, &meta)
                }
                "range" => {
                    let range = bounds(meta.value()?.parse()?)?;
                    once(&mut found.range, range, &meta)
                }
                "bits" => {
                    let bits = meta.value()?.parse::<Expr>()?;
                    if literal(&bits).is_some_and(|bits| !(1.0..=MAX_BITS).contains(&bits) || bits.fract() != 0.0) {
                        return Err(Error::new_spanned(bits, "`bits` is a whole number from 1 to 32"));
                    }
                    once(&mut found.bits, bits, &meta)
                }
                "serde" => flag(&mut found.serde, &meta),
                "skip" => {
                    Err(meta.error("every field crosses: put what stays on this peer into a component of its own"))
                }
                _ if ON_TYPES.contains(&&*name) => Err(meta.error(format!("`{name}` belongs on the type"))),
                _ => Err(meta.error("a field takes `step`, `range`, `bits` and `serde`")),
            }
        })?;
        found.check(last.unwrap_or_else(Span::call_site), ty)?;
        Ok(found)
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.serde && self.step.is_none() && self.range.is_none() && self.bits.is_none()
    }

    /// What the attributes say together. What they say of the type is checked where the type is known, by
    /// `Accepts::problem`, with the values of constants; here are the mistakes that can be shown in place.
    fn check(&self, span: Span, ty: &Type) -> Result<()> {
        if self.serde && !(self.step.is_none() && self.range.is_none() && self.bits.is_none()) {
            return Err(Error::new(
                span,
                "a field that goes by serde has no `step`, `range` or `bits`: leave out either",
            ));
        }
        let Some((min, max)) = &self.range else { return Ok(()) };
        if let (Some(low), Some(high)) = (literal(min), literal(max))
            && low >= high
        {
            return Err(Error::new_spanned(
                quote::quote!(#min..=#max),
                "the range is empty: the lower bound comes first, and must be below the upper one",
            ));
        }
        if self.step.is_none() && self.bits.is_none() && is_real(ty) {
            return Err(Error::new_spanned(
                quote::quote!(#min..=#max),
                "a `range` of floats needs a `step`, as in `step = 0.01, range = -512.0..=512.0`, \
                 or `bits`, as in `bits = 8`",
            ));
        }
        Ok(())
    }
}

/// The value of a literal, negative ones included.
pub(crate) fn literal(expression: &Expr) -> Option<f64> {
    match expression {
        Expr::Lit(ExprLit { lit: Lit::Float(float), .. }) => float.base10_parse().ok(),
        Expr::Lit(ExprLit { lit: Lit::Int(int), .. }) => int.base10_parse::<i128>().ok().map(|int| int as f64),
        Expr::Unary(ExprUnary { op: UnOp::Neg(_), expr, .. }) => literal(expr).map(|value| -value),
        Expr::Paren(inner) => literal(&inner.expr),
        Expr::Group(inner) => literal(&inner.expr),
        _ => None,
    }
}

fn each(attributes: &[Attribute], mut parse: impl FnMut(ParseNestedMeta<'_>) -> Result<()>) -> Result<()> {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("net"))
        .try_for_each(|attribute| attribute.parse_nested_meta(&mut parse))
}

fn name(meta: &ParseNestedMeta<'_>) -> String {
    meta.path.get_ident().map(ToString::to_string).unwrap_or_default()
}

fn flag(flag: &mut bool, meta: &ParseNestedMeta<'_>) -> Result<()> {
    if meta.input.peek(Token![=]) {
        return Err(meta.error(format!("`{}` takes no value: write it alone", name(meta))));
    }
    if core::mem::replace(flag, true) { Err(twice(meta)) } else { Ok(()) }
}

fn once<T>(place: &mut Option<T>, value: T, meta: &ParseNestedMeta<'_>) -> Result<()> {
    if place.replace(value).is_some() { Err(twice(meta)) } else { Ok(()) }
}

fn twice(meta: &ParseNestedMeta<'_>) -> Error {
    meta.error(format!("`{}` is given twice", name(meta)))
}

fn bounds(expression: Expr) -> Result<(Expr, Expr)> {
    match expression {
        Expr::Range(ExprRange { start: Some(start), limits: RangeLimits::Closed(_), end: Some(end), .. }) => {
            Ok((*start, *end))
        }
        other => Err(Error::new_spanned(other, "a range has both bounds, and includes them: `range = -1.0..=1.0`")),
    }
}

fn is_real(ty: &Type) -> bool {
    let Type::Path(path) = ty else { return false };
    path.path.segments.last().is_some_and(|last| {
        ["f32", "f64", "Vec2", "Vec3", "Vec3A", "Vec4", "DVec2", "DVec3", "DVec4"].iter().any(|real| last.ident == real)
    })
}

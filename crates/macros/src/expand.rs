//! Which code does a derive write? The schema, both directions of the bits, and what lies between two values.

use proc_macro2::{Ident, Literal, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{DeriveInput, Expr, Member, Result, spanned::Spanned};

use crate::{
    Kind,
    attribute::literal,
    shape::{Body, Field, Shape, Variant, member_name, type_text},
};

/// All that a derive writes.
pub(crate) fn expand(kind: Kind, input: &DeriveInput) -> Result<TokenStream> {
    let shape = Shape::parse(kind, input)?;
    let options = shape.all_fields().filter(|field| !field.attributes.serde).map(options);
    let impls = if kind == Kind::Field { field_impl(&shape) } else { type_impls(kind, &shape) };
    Ok(quote! {
        // Paths are written in full, whatever the game has in scope.
        #[allow(unused_qualifications, reason = "derived code knows no scope")]
        const _: () = {
            use ::bevy_coplay::__private as __net;
            #(#options)*
            #impls
        };
    })
}

impl Shape {
    fn all_fields(&self) -> impl Iterator<Item = &Field> {
        let (fields, variants): (&[_], &[_]) = match &self.body {
            Body::Struct(fields) => (fields, &[]),
            Body::Enum(variants) => (&[], variants),
        };
        fields.iter().chain(variants.iter().flat_map(|variant: &Variant| &variant.fields))
    }
}

fn type_impls(kind: Kind, shape: &Shape) -> TokenStream {
    let Shape { ident, attributes, .. } = shape;
    let name = match &attributes.name {
        Some(name) => quote!(#name),
        None => {
            let name = ident.to_string();
            quote!(::core::concat!(::core::module_path!(), "::", #name))
        }
    };
    let (type_kind, register) = match kind {
        Kind::Input => (quote!(Input), quote!(input)),
        Kind::Event => (quote!(Event), quote!(event)),
        Kind::Networked | Kind::Field => (quote!(Component), quote!(component)),
    };
    let optional = attributes.optional;
    let delivery = match &attributes.channel {
        Some(channel) => quote!(.channel(#channel)),
        None if attributes.unordered => quote!(.unordered()),
        None if attributes.unreliable => quote!(.unreliable()),
        None => quote!(),
    };
    let codings = codings(&shape.body);
    let (write, read) = (write(shape), read(shape));
    let kind_impl = match kind {
        Kind::Input => quote!(impl __net::NetInput for #ident {}),
        Kind::Event => quote!(impl __net::NetEvent for #ident {}),
        Kind::Networked | Kind::Field => {
            let interpolate = attributes.interpolate;
            let lerp = interpolate.then(|| lerp(shape));
            quote! {
                impl __net::Networked for #ident {
                    const INTERPOLATE: bool = #interpolate;
                    #lerp
                }
            }
        }
    };
    quote! {
        #[automatically_derived]
        impl __net::NetType for #ident {
            fn schema() -> __net::TypeSchema {
                __net::schema(#name, __net::TypeKind::#type_kind, #optional, [#(#codings),*])#delivery
            }

            fn write(
                &self,
                __out: &mut __net::BitWriter,
                __refs: &dyn __net::EntityRefs,
            ) -> ::core::result::Result<(), __net::EncodeError> {
                #write
            }

            fn read(
                __input: &mut __net::BitReader<'_>,
                __refs: &mut dyn __net::EntityRefs,
            ) -> ::core::result::Result<Self, __net::DecodeError> {
                #read
            }
        }

        #[automatically_derived]
        #kind_impl

        #[automatically_derived]
        impl __net::Register for #ident {
            fn register<__R: __net::Registrar>(__registrar: &mut __R) {
                __registrar.#register::<Self>();
            }
        }
    }
}

fn field_impl(shape: &Shape) -> TokenStream {
    let ident = &shape.ident;
    let codings = codings(&shape.body);
    let coding = match &shape.body {
        Body::Struct(_) => quote!(__net::coding([#(#codings),*])),
        Body::Enum(_) => quote!(__net::variants([#(#codings),*])),
    };
    let (write, read, lerp) = (write(shape), read(shape), lerp(shape));
    quote! {
        #[automatically_derived]
        impl __net::NetField for #ident {
            fn coding(_: &__net::FieldOptions) -> ::std::string::String {
                #coding
            }

            fn write(
                &self,
                __out: &mut __net::BitWriter,
                _: &__net::FieldOptions,
                __refs: &dyn __net::EntityRefs,
            ) -> ::core::result::Result<(), __net::EncodeError> {
                #write
            }

            fn read(
                __input: &mut __net::BitReader<'_>,
                _: &__net::FieldOptions,
                __refs: &mut dyn __net::EntityRefs,
            ) -> ::core::result::Result<Self, __net::DecodeError> {
                #read
            }

            #lerp
        }
    }
}

/// The static with the options of a field. What is wrong with them is found when the compiler works it out.
fn options(field: &Field) -> TokenStream {
    let Field { ty, attributes, path, options, .. } = field;
    let step = option(attributes.step.as_ref().map(real));
    let range = option(attributes.range.as_ref().map(|(min, max)| {
        let (min, max) = (real(min), real(max));
        quote!((#min, #max))
    }));
    let bits = option(attributes.bits.as_ref().map(|bits| quote!(#bits)));
    let span = ty.span();
    let precision = quote!(__net::Precision { step: #step, range: #range, bits: #bits });
    quote_spanned! {span=>
        static #options: __net::FieldOptions = __net::FieldOptions::new::<#ty>(#path, #precision);
    }
}

fn option(value: Option<TokenStream>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}

/// An expression as `f64`: literals may be written without a point.
fn real(expression: &Expr) -> TokenStream {
    match literal(expression) {
        Some(value) => {
            // A literal token has no sign of its own.
            let sign = value.is_sign_negative().then(|| quote!(-));
            let mut digits = Literal::f64_suffixed(value.abs());
            digits.set_span(expression.span());
            quote!(#sign #digits)
        }
        None => quote!((#expression) as f64),
    }
}

/// Pairs of name and coding, of the fields or of the variants.
fn codings(body: &Body) -> Vec<TokenStream> {
    match body {
        Body::Struct(fields) => fields.iter().map(coding).collect(),
        Body::Enum(variants) => {
            let variants = variants.iter().map(|Variant { ident, fields }| {
                let name = syn::ext::IdentExt::unraw(ident).to_string();
                let codings = fields.iter().map(coding);
                quote!((#name, __net::coding([#(#codings),*])))
            });
            variants.collect()
        }
    }
}

fn coding(field: &Field) -> TokenStream {
    let Field { member, ty, attributes, options, .. } = field;
    let name = member_name(member);
    if attributes.serde {
        let coding = format!("serde {}", type_text(ty));
        return quote!((#name, ::std::string::String::from(#coding)));
    }
    quote_spanned!(ty.span()=> (#name, <#ty as __net::NetField>::coding(&#options)))
}

fn write(shape: &Shape) -> TokenStream {
    if shape.attributes.serde {
        let name = shape.ident.to_string();
        return quote!(__net::write_opaque(self, __out, #name));
    }
    match &shape.body {
        Body::Struct(fields) => {
            let (pattern, write) = (pattern(fields, "__f"), fields.iter().enumerate().map(write_field));
            quote! {
                let Self { #pattern } = self;
                #(#write)*
                ::core::result::Result::Ok(())
            }
        }
        Body::Enum(variants) => {
            let bits = variant_bits(variants);
            let arms = variants.iter().enumerate().map(|(number, Variant { ident, fields })| {
                let number = number as u64;
                let (pattern, write) = (pattern(fields, "__f"), fields.iter().enumerate().map(write_field));
                quote! {
                    Self::#ident { #pattern } => {
                        __out.write_bits(#number, #bits);
                        #(#write)*
                    }
                }
            });
            quote! {
                match self { #(#arms)* }
                ::core::result::Result::Ok(())
            }
        }
    }
}

fn write_field((index, field): (usize, &Field)) -> TokenStream {
    let Field { ty, attributes, path, options, .. } = field;
    let value = bound("__f", index);
    if attributes.serde {
        return quote_spanned!(ty.span()=> __net::write_opaque(#value, __out, #path)?;);
    }
    quote_spanned!(ty.span()=> <#ty as __net::NetField>::write(#value, __out, &#options, __refs)?;)
}

fn read(shape: &Shape) -> TokenStream {
    if shape.attributes.serde {
        return quote!(__net::read_opaque(__input));
    }
    match &shape.body {
        Body::Struct(fields) => {
            let fields = fields.iter().map(read_field);
            quote!(::core::result::Result::Ok(Self { #(#fields),* }))
        }
        Body::Enum(variants) => {
            let bits = variant_bits(variants);
            let arms = variants.iter().enumerate().map(|(number, Variant { ident, fields })| {
                let number = number as u64;
                let fields = fields.iter().map(read_field);
                quote!(#number => ::core::result::Result::Ok(Self::#ident { #(#fields),* }),)
            });
            quote! {
                match __input.read_bits(#bits)? {
                    #(#arms)*
                    _ => ::core::result::Result::Err(__net::no_variant::<Self>()),
                }
            }
        }
    }
}

/// Fields of a struct expression are evaluated in the order in which they are written: that of the wire.
fn read_field(field: &Field) -> TokenStream {
    let Field { member, ty, attributes, options, .. } = field;
    if attributes.serde {
        return quote_spanned!(ty.span()=> #member: __net::read_opaque::<#ty>(__input)?);
    }
    quote_spanned!(ty.span()=> #member: <#ty as __net::NetField>::read(__input, &#options, __refs)?)
}

fn lerp(shape: &Shape) -> TokenStream {
    let between = |path: TokenStream, fields: &[Field]| {
        let (from, to) = (pattern(fields, "__a"), pattern(fields, "__b"));
        let fields = fields.iter().enumerate().map(|(index, field)| {
            let Field { member, ty, attributes, .. } = field;
            let (from, to) = (bound("__a", index), bound("__b", index));
            if attributes.serde {
                return quote!(#member: { let _ = #from; ::core::clone::Clone::clone(#to) });
            }
            quote!(#member: <#ty as __net::NetField>::lerp(#from, #to, __t))
        });
        quote!((#path { #from }, #path { #to }) => #path { #(#fields),* },)
    };
    let arms = match &shape.body {
        _ if shape.attributes.serde => quote!(_ => ::core::clone::Clone::clone(__to),),
        Body::Struct(fields) => between(quote!(Self), fields),
        Body::Enum(variants) => {
            let arms = variants.iter().map(|Variant { ident, fields }| between(quote!(Self::#ident), fields));
            // From one variant to another there is nothing between.
            let other = (variants.len() > 1).then(|| quote!(_ => ::core::clone::Clone::clone(__to),));
            quote!(#(#arms)* #other)
        }
    };
    quote! {
        fn lerp(&self, __to: &Self, __t: f32) -> Self {
            // Sums of parts may miss the end by a rounding.
            if __t >= 1.0 {
                return ::core::clone::Clone::clone(__to);
            }
            match (self, __to) { #arms }
        }
    }
}

/// `xy: __f0, 1: __f1`
fn pattern(fields: &[Field], prefix: &str) -> TokenStream {
    let members = fields.iter().map(|field: &Field| -> &Member { &field.member });
    let bound = (0..fields.len()).map(|index| bound(prefix, index));
    quote!(#(#members: #bound),*)
}

fn bound(prefix: &str, index: usize) -> Ident {
    format_ident!("{prefix}{index}")
}

/// How many bits tell the variants apart.
fn variant_bits(variants: &[Variant]) -> u32 {
    let last = variants.len().saturating_sub(1);
    usize::BITS - last.leading_zeros()
}

#[cfg(test)]
mod tests;

//! Which fields and variants does a type have, and can it cross at all?

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use syn::{Data, DataEnum, DeriveInput, Error, Fields, Member, Result, Type};

use crate::{
    Kind,
    attribute::{FieldAttributes, TypeAttributes},
};

/// A type, as far as the derives care.
pub(crate) struct Shape {
    pub(crate) ident: Ident,
    pub(crate) attributes: TypeAttributes,
    pub(crate) body: Body,
}

pub(crate) enum Body {
    Struct(Vec<Field>),
    Enum(Vec<Variant>),
}

pub(crate) struct Variant {
    pub(crate) ident: Ident,
    pub(crate) fields: Vec<Field>,
}

pub(crate) struct Field {
    /// How Rust names it: the index, in a tuple.
    pub(crate) member: Member,
    pub(crate) ty: Type,
    pub(crate) attributes: FieldAttributes,
    /// How people name it: `Weapon.Gun.rounds`.
    pub(crate) path: String,
    /// The static that holds its options; unique within the type.
    pub(crate) options: Ident,
}

impl Shape {
    pub(crate) fn parse(kind: Kind, input: &DeriveInput) -> Result<Self> {
        if !input.generics.params.is_empty() {
            return Err(Error::new_spanned(
                &input.generics,
                "a generic type cannot be shared, for peers know a type by its name: \
                 wrap what you need, as in `struct Health(Stat<u8>)`",
            ));
        }
        let attributes = TypeAttributes::parse(kind, &input.attrs)?;
        let mut reader = Reader { type_name: &input.ident, opaque: attributes.serde, fields: 0, error: None };
        let body = match &input.data {
            Data::Struct(data) => Body::Struct(reader.fields(&data.fields, &input.ident.to_string())),
            Data::Enum(data) => Body::Enum(reader.variants(data, &input.ident)),
            Data::Union(data) => {
                return Err(Error::new_spanned(
                    data.union_token,
                    "a union cannot be shared, for nobody knows which of its fields holds: make it an enum",
                ));
            }
        };
        match reader.error {
            Some(error) => Err(error),
            None => Ok(Self { ident: input.ident.clone(), attributes, body }),
        }
    }
}

/// Goes through all fields, and finds all that is wrong with them and not only the first.
struct Reader<'a> {
    type_name: &'a Ident,
    /// Whether the whole type goes by serde.
    opaque: bool,
    fields: usize,
    error: Option<Error>,
}

impl Reader<'_> {
    fn fields(&mut self, fields: &Fields, path: &str) -> Vec<Field> {
        fields
            .iter()
            .zip(fields.members())
            .filter_map(|(field, member)| {
                let parsed = self.field(field, member, path);
                parsed.map_err(|error| self.report(error)).ok()
            })
            .collect()
    }

    fn field(&mut self, field: &syn::Field, member: Member, path: &str) -> Result<Field> {
        let mut attributes = FieldAttributes::parse(&field.attrs, &field.ty)?;
        if self.opaque {
            if !attributes.is_empty() {
                return Err(Error::new_spanned(
                    &field.ty,
                    "the whole type goes by serde: leave out `#[net(..)]` on its fields, or `serde` on the type",
                ));
            }
            attributes.serde = true;
        } else if !attributes.serde && contains(field.ty.to_token_stream(), self.type_name) {
            return Err(Error::new_spanned(
                &field.ty,
                "a type may not contain itself, for a peer could send it any number of levels deep: \
                 keep the items in one list, and let them refer to each other by index",
            ));
        }
        let index = self.fields;
        self.fields += 1;
        Ok(Field {
            path: format!("{path}.{}", member_name(&member)),
            options: format_ident!("__FIELD_{index}"),
            ty: field.ty.clone(),
            member,
            attributes,
        })
    }

    fn variants(&mut self, data: &DataEnum, name: &Ident) -> Vec<Variant> {
        if data.variants.is_empty() {
            self.report(Error::new_spanned(name, "an enum without variants has no values to share"));
        }
        let variants = data.variants.iter().map(|variant| {
            if let Some(attribute) = variant.attrs.iter().find(|attribute| attribute.path().is_ident("net")) {
                self.report(Error::new_spanned(
                    attribute,
                    "a variant takes no `#[net(..)]`: it belongs on the type or on a field",
                ));
            }
            let fields = self.fields(&variant.fields, &format!("{name}.{}", variant.ident));
            Variant { ident: variant.ident.clone(), fields }
        });
        variants.collect()
    }

    fn report(&mut self, error: Error) {
        match &mut self.error {
            Some(errors) => errors.combine(error),
            None => self.error = Some(error),
        }
    }
}

/// The name of a field in the schema.
pub(crate) fn member_name(member: &Member) -> String {
    match member {
        Member::Named(ident) => syn::ext::IdentExt::unraw(ident).to_string(),
        Member::Unnamed(index) => index.index.to_string(),
    }
}

/// A type as one writes it, without needless spaces.
pub(crate) fn type_text(ty: &Type) -> String {
    let word = |char: Option<char>| char.is_some_and(|char| char.is_alphanumeric() || char == '_');
    quote!(#ty).to_string().split(' ').fold(String::new(), |mut text, part| {
        if word(text.chars().last()) && word(part.chars().next()) {
            text.push(' ');
        }
        text + part
    })
}

/// Whether the tokens of a type name this one, alone and not as part of another path.
fn contains(tokens: TokenStream, name: &Ident) -> bool {
    let mut within_path = false;
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => !within_path && (ident == *name || ident == "Self"),
        TokenTree::Punct(punct) => {
            within_path = punct.as_char() == ':';
            false
        }
        TokenTree::Group(group) => contains(group.stream(), name),
        TokenTree::Literal(_) => false,
    })
}

//! `derive(Networked, NetInput, NetEvent, NetField)` for `bevy_coplay`, which exports them: how Rust types become bits
//! and a schema.
//!
//! Three steps, a file each: `attribute` reads `#[net(..)]`, `shape` reads the type, `expand` writes the code. Wrong
//! input ends as an error at the place that is wrong, with what to write instead.
#![forbid(unsafe_code)]

mod attribute;
mod expand;
mod shape;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// What is derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Networked,
    Input,
    Event,
    Field,
}

/// Makes a component shared state: its newest value goes from the owner of the entity to every peer.
///
/// On the type: `#[net(interpolate)]` shows remote values between two received ones, `#[net(name = "..")]` names it
/// in the schema (otherwise its path does), `#[net(optional)]` lets a peer lack it, `#[net(serde)]` sends all of it by
/// serde. On a field: `step`, `range`, `bits` and `serde`.
#[proc_macro_derive(Networked, attributes(net))]
pub fn derive_networked(input: TokenStream) -> TokenStream {
    derive(Kind::Networked, &parse_macro_input!(input as DeriveInput))
}

/// Makes a component an input: its value goes from the controller of the entity to the owner.
///
/// Takes the attributes of `Networked`, but `interpolate`.
#[proc_macro_derive(NetInput, attributes(net))]
pub fn derive_net_input(input: TokenStream) -> TokenStream {
    derive(Kind::Input, &parse_macro_input!(input as DeriveInput))
}

/// Makes a type an event of the network: it arrives exactly once, in order, unless it says otherwise.
///
/// Takes the attributes of `Networked`, but `interpolate`; and one of `channel = ".."`, `unordered` and `unreliable`.
#[proc_macro_derive(NetEvent, attributes(net))]
pub fn derive_net_event(input: TokenStream) -> TokenStream {
    derive(Kind::Event, &parse_macro_input!(input as DeriveInput))
}

/// Lets a struct or an enum be a field of networked types.
///
/// On the type: `#[net(serde)]`. On a field: `step`, `range`, `bits` and `serde`.
#[proc_macro_derive(NetField, attributes(net))]
pub fn derive_net_field(input: TokenStream) -> TokenStream {
    derive(Kind::Field, &parse_macro_input!(input as DeriveInput))
}

fn derive(kind: Kind, input: &DeriveInput) -> TokenStream {
    expand::expand(kind, input).unwrap_or_else(|error| error.to_compile_error()).into()
}

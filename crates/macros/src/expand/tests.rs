//! Is what is wrong with a type found, and is the person told what to write instead?

use syn::{File, parse_quote};

use super::*;

fn errors(kind: Kind, input: &DeriveInput) -> Vec<String> {
    match expand(kind, input) {
        Ok(_) => Vec::new(),
        Err(error) => error.into_iter().map(|error| error.to_string()).collect(),
    }
}

/// The one error of a networked type.
fn error(input: &DeriveInput) -> String {
    let mut errors = errors(Kind::Networked, input);
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.remove(0)
}

fn assert_says(error: &str, what: &str) {
    assert!(error.contains(what), "{error:?} does not say {what:?}");
}

#[test]
fn what_is_right_becomes_rust() {
    let inputs: [DeriveInput; 9] = [
        parse_quote!(
            struct Unit;
        ),
        parse_quote!(
            struct Empty {}
        ),
        parse_quote!(
            struct Pair(f32, #[net(serde)] Vec<u8>);
        ),
        parse_quote! {
            #[net(interpolate, name = "game::Pos")]
            #[net(optional)]
            struct Pos { #[net(step = 0.01, range = -512.0..=512.0)] xy: Vec2, #[doc = "of two"] r#type: u8 }
        },
        parse_quote!(
            struct Consts {
                #[net(step = STEP, range = MIN..=MAX * 2.0)]
                at: f32,
                #[net(bits = BITS)]
                of: u8,
            }
        ),
        parse_quote!(
            #[net(serde)]
            struct Opaque {
                a: usize,
            }
        ),
        parse_quote!(
            enum Weapon {
                Fist,
                Gun {
                    #[net(range = 0..=30)]
                    rounds: u8,
                },
                Bow(f32),
            }
        ),
        parse_quote!(
            enum One {
                Only,
            }
        ),
        parse_quote!(
            struct Other {
                pos: other::Other,
            }
        ),
    ];
    for input in &inputs {
        for kind in [Kind::Networked, Kind::Input, Kind::Event, Kind::Field] {
            let mut input = input.clone();
            if kind != Kind::Networked {
                input.attrs.retain(|attribute| !quote!(#attribute).to_string().contains("name"));
            }
            if kind == Kind::Field {
                input.attrs.retain(|attribute| !quote!(#attribute).to_string().contains("optional"));
            }
            let tokens = expand(kind, &input).unwrap();
            syn::parse2::<File>(tokens).unwrap_or_else(|error| panic!("{kind:?} {}: {error}", input.ident));
        }
    }
}

#[test]
fn attributes_that_nobody_knows_are_named() {
    assert_says(
        &error(&parse_quote!(
            #[net(smooth)]
            struct A;
        )),
        "takes `interpolate`, `name = \"..\"`, `optional`",
    );
    assert_says(
        &error(&parse_quote!(
            struct A {
                #[net(precision = 0.1)]
                a: f32,
            }
        )),
        "takes `step`, `range`, `bits`",
    );
    assert_says(
        &error(&parse_quote!(
            struct A {
                #[net(skip)]
                a: f32,
            }
        )),
        "component of its own",
    );
    let field = errors(
        Kind::Field,
        &parse_quote!(
            #[net(smooth)]
            struct A;
        ),
    );
    assert_says(&field[0], "a `NetField` takes `serde`");
}

#[test]
fn attributes_in_the_wrong_place_are_told_the_right_one() {
    assert_says(
        &error(&parse_quote!(
            #[net(step = 0.1)]
            struct A(f32);
        )),
        "`step` belongs on a field",
    );
    assert_says(
        &error(&parse_quote!(
            struct A {
                #[net(interpolate)]
                a: f32,
            }
        )),
        "`interpolate` belongs on the type",
    );
    assert_says(
        &error(&parse_quote!(
            enum A {
                #[net(serde)]
                B(f32),
            }
        )),
        "a variant takes no",
    );
    let event = errors(
        Kind::Event,
        &parse_quote!(
            #[net(interpolate)]
            struct A;
        ),
    );
    assert_says(&event[0], "nothing to interpolate");
    let input = errors(
        Kind::Input,
        &parse_quote!(
            #[net(interpolate)]
            struct A;
        ),
    );
    assert_says(&input[0], "never interpolated");
    let field = errors(
        Kind::Field,
        &parse_quote!(
            #[net(name = "A")]
            struct A;
        ),
    );
    assert_says(&field[0], "not on a `NetField`");
}

#[test]
fn an_event_says_in_one_way_how_it_travels() {
    let of = |input: &DeriveInput| {
        let tokens = expand(Kind::Event, input).unwrap();
        syn::parse2::<File>(tokens.clone()).unwrap();
        tokens.to_string().replace(' ', "")
    };
    assert!(
        of(&parse_quote!(
            #[net(channel = "chat")]
            struct A;
        ))
        .contains(".channel(\"chat\")")
    );
    assert!(
        of(&parse_quote!(
            #[net(unordered)]
            struct A;
        ))
        .contains(".unordered()")
    );
    assert!(
        of(&parse_quote!(
            #[net(unreliable)]
            struct A;
        ))
        .contains(".unreliable()")
    );
    let one = |kind, input: &DeriveInput| errors(kind, input).remove(0);
    let both = one(
        Kind::Event,
        &parse_quote!(
            #[net(unordered, channel = "chat")]
            struct A;
        ),
    );
    assert_says(&both, "an event has one way");
    assert_says(
        &one(
            Kind::Event,
            &parse_quote!(
                #[net(unordered)]
                #[net(unreliable)]
                struct A;
            ),
        ),
        "an event has one way",
    );
    assert_says(
        &one(
            Kind::Event,
            &parse_quote!(
                #[net(unordered, unordered)]
                struct A;
            ),
        ),
        "given twice",
    );
    assert_says(
        &one(
            Kind::Event,
            &parse_quote!(
                #[net(channel = "")]
                struct A;
            ),
        ),
        "the name is empty",
    );
    for kind in [Kind::Networked, Kind::Input, Kind::Field] {
        assert_says(
            &one(
                kind,
                &parse_quote!(
                    #[net(unreliable)]
                    struct A;
                ),
            ),
            "it belongs on a `NetEvent`",
        );
    }
}

#[test]
fn attributes_that_contradict_are_refused() {
    assert_says(
        &error(&parse_quote!(
            struct A {
                #[net(serde, step = 0.1)]
                a: f32,
            }
        )),
        "leave out either",
    );
    assert_says(
        &error(&parse_quote!(
            #[net(serde)]
            struct A {
                #[net(step = 0.1)]
                a: f32,
            }
        )),
        "the whole type goes by serde",
    );
    assert_says(
        &error(&parse_quote!(
            #[net(interpolate, serde)]
            struct A;
        )),
        "cannot be interpolated",
    );
    assert_says(
        &error(&parse_quote!(
            struct A {
                #[net(step = 0.1, step = 0.2)]
                a: f32,
            }
        )),
        "given twice",
    );
    assert_says(
        &error(&parse_quote!(
            #[net(optional)]
            #[net(optional)]
            struct A;
        )),
        "given twice",
    );
    assert_says(
        &error(&parse_quote!(
            #[net(interpolate = true)]
            struct A;
        )),
        "takes no value",
    );
    assert_says(
        &error(&parse_quote!(
            #[net(name = "")]
            struct A;
        )),
        "the name is empty",
    );
}

#[test]
fn steps_ranges_and_bits_that_make_no_sense_are_refused() {
    assert_says(
        &error(&parse_quote!(
            struct A {
                #[net(step = 0)]
                a: f32,
            }
        )),
        "greater than zero",
    );
    assert_says(
        &error(&parse_quote!(
            struct A {
                #[net(step = -0.1)]
                a: f32,
            }
        )),
        "greater than zero",
    );
    assert_says(
        &error(&parse_quote!(
            struct A {
                #[net(step = 0.1, range = 1.0..=-1.0)]
                a: f32,
            }
        )),
        "the range is empty",
    );
    assert_says(
        &error(&parse_quote!(
            struct A {
                #[net(step = 0.1, range = 1..=(1))]
                a: f32,
            }
        )),
        "the range is empty",
    );
    assert_says(
        &error(&parse_quote!(
            struct A {
                #[net(step = 0.1, range = 0.0..1.0)]
                a: f32,
            }
        )),
        "`range = -1.0..=1.0`",
    );
    assert_says(
        &error(&parse_quote!(
            struct A {
                #[net(step = 0.1, range = ..=1.0)]
                a: f32,
            }
        )),
        "has both bounds",
    );
    assert_says(
        &error(&parse_quote!(
            struct A {
                #[net(step = 0.1, range = 1.0)]
                a: f32,
            }
        )),
        "has both bounds",
    );
    assert_says(
        &error(&parse_quote!(
            struct A {
                #[net(range = 0.0..=1.0)]
                a: f32,
            }
        )),
        "needs a `step`",
    );
    assert_says(
        &error(&parse_quote!(
            struct A {
                #[net(range = 0.0..=1.0)]
                a: bevy::math::Vec2,
            }
        )),
        "needs a `step`",
    );
    assert_says(
        &error(&parse_quote!(
            struct A {
                #[net(bits = 33, range = 0..=1)]
                a: f32,
            }
        )),
        "from 1 to 32",
    );
    assert_says(
        &error(&parse_quote!(
            struct A {
                #[net(bits = 0)]
                a: u8,
            }
        )),
        "from 1 to 32",
    );
    assert_says(
        &error(&parse_quote!(
            struct A {
                #[net(bits = 1.5)]
                a: u8,
            }
        )),
        "from 1 to 32",
    );
}

#[test]
fn types_that_cannot_cross_are_refused() {
    assert_says(
        &error(&parse_quote!(
            struct A<T>(T);
        )),
        "a generic type cannot be shared",
    );
    assert_says(
        &error(&parse_quote!(
            struct A<'a>(&'a str);
        )),
        "a generic type cannot be shared",
    );
    assert_says(&error(&parse_quote!(union A { a: u8, b: i8 })), "make it an enum");
    assert_says(
        &error(&parse_quote!(
            enum A {}
        )),
        "no values",
    );
    assert_says(
        &error(&parse_quote!(
            struct A {
                children: Vec<A>,
            }
        )),
        "may not contain itself",
    );
    assert_says(
        &error(&parse_quote!(
            enum A {
                Leaf,
                Node(Option<(u8, Self)>),
            }
        )),
        "may not contain itself",
    );
}

#[test]
fn every_mistake_is_told_and_not_only_the_first() {
    let errors = errors(
        Kind::Networked,
        &parse_quote!(
            struct A {
                #[net(step = 0.0)]
                a: f32,
                b: u8,
                #[net(bits = 40)]
                c: u8,
                #[net(x)]
                d: u8,
            }
        ),
    );
    assert_eq!(errors.len(), 3, "{errors:?}");
}

#[test]
fn types_are_written_as_people_write_them() {
    for (ty, text) in [
        (parse_quote!(Vec<u8>), "Vec<u8>"),
        (parse_quote!(std::collections::HashMap<String, [f32; 4]>), "std::collections::HashMap<String,[f32;4]>"),
        (parse_quote!(&'static mut str), "&'static mut str"),
        (parse_quote!(Box<dyn Any>), "Box<dyn Any>"),
    ] {
        assert_eq!(type_text(&ty), text);
    }
}

//! Which types do the peers share? What `add_net` notes, and the table that is made of it when the app starts.

use core::any::{TypeId, type_name};
use std::{collections::BTreeMap, sync::Arc};

use bevy_app::App;
use bevy_ecs::{
    component::Component,
    lifecycle::Remove,
    observer::On,
    resource::Resource,
    system::{Res, ResMut},
    world::World,
};
use coplay_proto::{
    Channel,
    schema::{Schema, TypeSchema},
};

use crate::{
    child::Child,
    component::{Column, ComponentType, State, forget},
    control::Touched,
    event_type::{Event, EventType},
    input_type::{Input, InputColumn, InputType, forget_input},
    net_type::{NetEvent, NetInput, Networked, Register, Registrar},
    refs::Refs,
};

/// A shared type's place in the [`Schema`].
pub(crate) use coplay_proto::session::TypeId as Type;

/// Names the types that peers share.
pub trait AppNetExt {
    /// Shares these types: a type that derives [`Networked`], [`NetInput`] or
    /// [`NetEvent`], or a tuple of up to 16 of them. Their order does not matter, and the
    /// same type may be added by several plugins.
    ///
    /// # Panics
    /// After the app has started: `N0006`.
    fn add_net<T: Register>(&mut self) -> &mut Self;
}

impl AppNetExt for App {
    fn add_net<T: Register>(&mut self) -> &mut Self {
        self.init_resource::<Registry>();
        T::register(&mut Adding(self));
        self
    }
}

/// What was added so far.
#[derive(Resource, Default)]
pub(crate) struct Registry {
    entries: BTreeMap<TypeId, Entry>,
    table: Option<Arc<Table>>,
}

struct Entry {
    schema: TypeSchema,
    make: fn(Type, Arc<str>) -> Shape,
}

/// What can be done with a shared type.
#[derive(Clone)]
pub(crate) struct Shape {
    pub(crate) component: Option<Arc<dyn ComponentType>>,
    pub(crate) input: Option<Arc<dyn InputType>>,
    pub(crate) event: Option<Arc<dyn EventType>>,
}

/// All shared types, by their place in the schema.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) schema: Schema,
    shapes: Vec<Shape>,
    /// By place.
    channels: Vec<Channel>,
    rust: BTreeMap<TypeId, Type>,
}

impl Table {
    /// The component with this place; inputs are components too.
    pub(crate) fn component(&self, id: Type) -> Option<&dyn ComponentType> {
        self.shapes.get(usize::from(id.0))?.component.as_deref()
    }

    /// The input with this place.
    pub(crate) fn input(&self, id: Type) -> Option<&dyn InputType> {
        self.shapes.get(usize::from(id.0))?.input.as_deref()
    }

    /// The event with this place.
    pub(crate) fn event(&self, id: Type) -> Option<&dyn EventType> {
        self.shapes.get(usize::from(id.0))?.event.as_deref()
    }

    /// The channel by which the event with this place travels.
    pub(crate) fn channel(&self, id: Type) -> Channel {
        self.channels.get(usize::from(id.0)).copied().unwrap_or(Channel::Events)
    }

    /// All components, inputs included.
    pub(crate) fn components(&self) -> impl Iterator<Item = &dyn ComponentType> {
        self.shapes.iter().filter_map(|shape| shape.component.as_deref())
    }

    /// All inputs.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = &dyn InputType> {
        self.shapes.iter().filter_map(|shape| shape.input.as_deref())
    }

    /// The place of a Rust type, if it was added.
    pub(crate) fn place(&self, rust: TypeId) -> Option<Type> {
        self.rust.get(&rust).copied()
    }

    /// What the type is called, for a person.
    pub(crate) fn name(&self, id: Type) -> &str {
        self.schema.get(id).map_or("an unknown type", |shared| &shared.name)
    }
}

/// The table; made when it is first asked for, which closes the registry.
///
/// # Panics
/// Two types have the same name, or there are too many: `N0004`, `N0005`.
pub(crate) fn table(world: &mut World) -> Arc<Table> {
    let registry = &mut *world.get_resource_or_init::<Registry>();
    let table = registry.table.get_or_insert_with(|| {
        let schema = Schema::new(registry.entries.values().map(|entry| entry.schema.clone()).collect());
        // A mistake in the program, which no peer of it can play with.
        let schema = schema.unwrap_or_else(|error| panic!("{error}"));
        let mut shapes = vec![Shape { component: None, input: None, event: None }; schema.types().len()];
        let mut rust = BTreeMap::new();
        for (id, entry) in &registry.entries {
            let Some(place) = schema.index_of(&entry.schema.name) else { continue };
            if let Some(shape) = shapes.get_mut(usize::from(place.0)) {
                *shape = (entry.make)(place, entry.schema.name.as_str().into());
                rust.insert(*id, place);
            }
        }
        let channels = schema.channels();
        Arc::new(Table { schema, shapes, channels, rust })
    });
    Arc::clone(table)
}

/// Adds what the plugin itself shares.
pub(crate) fn add_built_in(app: &mut App) {
    app.add_net::<crate::scene::SceneId>();
    let make = |place, _| Shape { component: Some(Arc::new(Child::new(place))), input: None, event: None };
    Adding(app).add::<bevy_ecs::hierarchy::ChildOf>(Child::schema(), make);
    watch_removal::<bevy_ecs::hierarchy::ChildOf>(app);
}

struct Adding<'a>(&'a mut App);

impl Adding<'_> {
    /// Whether the type is new.
    fn add<T: 'static>(&mut self, schema: TypeSchema, make: fn(Type, Arc<str>) -> Shape) -> bool {
        let registry = &mut *self.0.world_mut().get_resource_or_init::<Registry>();
        assert!(
            registry.table.is_none(),
            "N0006: `{}` was added by `add_net` after the app had started, when other peers may already know what this \
             one shares: call `add_net` while the app is built, in `main` or in `Plugin::build`",
            type_name::<T>()
        );
        registry.entries.insert(TypeId::of::<T>(), Entry { schema, make }).is_none()
    }
}

impl Registrar for Adding<'_> {
    fn component<T: Networked>(&mut self) {
        let make =
            |place, name| Shape { component: Some(Arc::new(State::<T>::new(place, name))), input: None, event: None };
        if self.add::<T>(T::schema(), make) {
            self.0.init_resource::<Column<T>>().add_observer(forget::<T>);
            watch_removal::<T>(self.0);
        }
    }

    fn input<T: NetInput>(&mut self) {
        let make = |place, name| {
            let input = Arc::new(Input::<T>::new(place, name));
            Shape { component: Some(Arc::clone(&input) as _), input: Some(input), event: None }
        };
        if self.add::<T>(T::schema(), make) {
            self.0.init_resource::<InputColumn<T>>().add_observer(forget_input::<T>);
            watch_removal::<T>(self.0);
        }
    }

    fn event<T: NetEvent>(&mut self) {
        let make = |_, name| Shape { component: None, input: None, event: Some(Arc::new(Event::<T>::new(name))) };
        self.add::<T>(T::schema(), make);
    }
}

/// Notes when a shared entity loses a component of this type.
fn watch_removal<T: Component>(app: &mut App) {
    app.init_resource::<Refs>().init_resource::<Touched>();
    app.add_observer(|remove: On<Remove, T>, refs: Res<Refs>, mut touched: ResMut<Touched>| {
        if refs.name(remove.entity).is_some() {
            touched.removed.push((remove.entity, TypeId::of::<T>()));
        }
    });
}

//! Which connection did matchbox make? While it makes one, the page's `RTCPeerConnection` is a proxy that notes it.
//!
//! matchbox tells nobody, and has no way to close a connection in the browser. The page is one thread, and the proxy is gone
//! before anything else runs on it, so nobody but matchbox sees it.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
};

use coplay_proto::Lane;
use js_sys::{Array, Function, Object, Proxy, Reflect};
use wasm_bindgen::{JsCast, JsValue, closure::Closure, throw_val};
use web_sys::{RtcDataChannel, RtcPeerConnection};

use crate::web::page::function;

const CONNECTION: &str = "RTCPeerConnection";
const CREATE: &str = "createDataChannel";

/// A connection of matchbox's.
pub(super) struct Made {
    pub(super) connection: RtcPeerConnection,
    /// In the order of the lanes' ids.
    channels: Channels,
    /// In place of the connection's own function, until [`during`] has ended.
    create: Option<Closure<dyn Fn(JsValue, JsValue) -> JsValue>>,
}

type Channels = Rc<RefCell<Vec<RtcDataChannel>>>;

/// Does this, and returns the connection that was made meanwhile, if one was.
pub(super) fn during<T>(work: impl FnOnce() -> T) -> (T, Option<Made>) {
    let (global, name) = (js_sys::global(), JsValue::from_str(CONNECTION));
    let Ok(real) = Reflect::get(&global, &name) else { return (work(), None) };
    let made = Rc::new(RefCell::new(None));
    let construct = {
        let made = made.clone();
        Closure::<dyn Fn(Function, Array) -> JsValue>::new(move |real: Function, arguments: Array| {
            match Reflect::construct(&real, &arguments) {
                Ok(connection) => {
                    *made.borrow_mut() = Made::of(connection.clone().unchecked_into());
                    connection
                }
                // As without the proxy.
                Err(thrown) => throw_val(thrown),
            }
        })
    };
    let handler = Object::new();
    // These fail for what is frozen, which leaves things as they are.
    let _ = Reflect::set(&handler, &"construct".into(), function(&construct));
    let proxy = Proxy::new(&real, &handler);
    let _ = Reflect::set(&global, &name, &proxy);
    let result = work();
    let _ = Reflect::set(&global, &name, &real);
    let mut made = made.take();
    if let Some(made) = &mut made {
        made.noted();
    }
    (result, made)
}

impl Made {
    /// Begins to note the channels.
    fn of(connection: RtcPeerConnection) -> Option<Self> {
        let method: Function = Reflect::get(&connection, &CREATE.into()).ok()?.dyn_into().ok()?;
        let channels = Channels::default();
        let noted: Weak<_> = Rc::downgrade(&channels);
        let this = connection.clone();
        let create = Closure::<dyn Fn(JsValue, JsValue) -> JsValue>::new(move |label: JsValue, init: JsValue| {
            let channel = method.call2(&this, &label, &init).unwrap_or_else(|thrown| throw_val(thrown));
            if let Some(channels) = noted.upgrade() {
                channels.borrow_mut().push(channel.clone().unchecked_into());
            }
            channel
        });
        Reflect::set(&connection, &CREATE.into(), function(&create)).ok()?;
        Some(Self { connection, channels, create: Some(create) })
    }

    /// matchbox makes both channels with the connection: there are no more to be noted.
    fn noted(&mut self) {
        let _ = Reflect::delete_property(&self.connection, &CREATE.into());
        self.create = None;
    }

    pub(super) fn channel(&self, lane: Lane) -> Option<RtcDataChannel> {
        let index = match lane {
            Lane::Unreliable => 0,
            Lane::Reliable => 1,
        };
        self.channels.borrow().get(index).cloned()
    }

    /// Tells the peer that this is the end, once the last reliable bytes have arrived. matchbox hears of nothing more.
    pub(super) fn end(&self) {
        self.detach();
        if let Some(reliable) = self.channel(Lane::Reliable) {
            reliable.close();
        }
    }

    pub(super) fn close(&self) {
        self.detach();
        self.connection.close();
    }

    fn detach(&self) {
        for channel in &*self.channels.borrow() {
            channel.set_onopen(None);
            channel.set_onmessage(None);
            channel.set_onerror(None);
            channel.set_onclose(None);
        }
    }
}

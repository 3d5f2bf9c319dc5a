//! What TCP gives a game in a browser.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use bytes::Bytes;
use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::{BinaryType, MessageEvent, WebSocket};

use crate::game::{Connection, Way, is_bulk};

struct Socket {
    socket: WebSocket,
    received: Rc<RefCell<VecDeque<Bytes>>>,
    bulk: Rc<Cell<u64>>,
}

pub(super) fn connect(url: &str) -> Result<Box<dyn Connection>, String> {
    let socket = WebSocket::new(url).map_err(|error| format!("{error:?}"))?;
    socket.set_binary_type(BinaryType::Arraybuffer);
    let received = Rc::<RefCell<VecDeque<Bytes>>>::default();
    let bulk = Rc::<Cell<u64>>::default();
    let (came, bulk_came) = (received.clone(), bulk.clone());
    let heard = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
        if let Ok(bytes) = event.data().dyn_into::<ArrayBuffer>() {
            let bytes = Bytes::from(Uint8Array::new(&bytes).to_vec());
            if is_bulk(&bytes) {
                bulk_came.set(bulk_came.get() + bytes.len() as u64);
            } else {
                came.borrow_mut().push_back(bytes);
            }
        }
    });
    // For as long as the page is there.
    socket.set_onmessage(Some(heard.into_js_value().unchecked_ref()));
    Ok(Box::new(Socket { socket, received, bulk }))
}

impl Connection for Socket {
    fn begin(&mut self) -> Result<bool, String> {
        match self.socket.ready_state() {
            WebSocket::CONNECTING => Ok(false),
            WebSocket::OPEN => Ok(true),
            _ => Err("the connection is over".to_owned()),
        }
    }

    fn receive(&mut self) -> Option<Bytes> {
        self.received.borrow_mut().pop_front()
    }

    fn send(&mut self, bytes: Bytes, _: Way) {
        let _ = self.socket.send_with_u8_array(&bytes);
    }

    fn bulk_came(&self) -> u64 {
        self.bulk.get()
    }
}

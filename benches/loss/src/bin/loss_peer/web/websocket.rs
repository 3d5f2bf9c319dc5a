//! What TCP gives a game in a browser.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use bytes::Bytes;
use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::{BinaryType, MessageEvent, WebSocket};

use crate::game::{Connection, Way};

struct Socket {
    socket: WebSocket,
    received: Rc<RefCell<VecDeque<Bytes>>>,
}

pub(super) fn connect(url: &str) -> Result<Box<dyn Connection>, String> {
    let socket = WebSocket::new(url).map_err(|error| format!("{error:?}"))?;
    socket.set_binary_type(BinaryType::Arraybuffer);
    let received = Rc::<RefCell<VecDeque<Bytes>>>::default();
    let came = received.clone();
    let heard = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
        if let Ok(bytes) = event.data().dyn_into::<ArrayBuffer>() {
            came.borrow_mut().push_back(Uint8Array::new(&bytes).to_vec().into());
        }
    });
    // For as long as the page is there.
    socket.set_onmessage(Some(heard.into_js_value().unchecked_ref()));
    Ok(Box::new(Socket { socket, received }))
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

    fn send(&mut self, bytes: Bytes, way: Way) {
        if way == Way::Reliably {
            let _ = self.socket.send_with_u8_array(&bytes);
        }
    }
}

//! How is the signaling server spoken with in a browser? By the browser's WebSocket.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use bytes::Bytes;
use coplay_proto::signal::{ClientMessage, SUBPROTOCOL, relay::MAX_FRAME};
use js_sys::{Array, ArrayBuffer, Uint8Array};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::{BinaryType, CloseEvent, MessageEvent, WebSocket};

use super::page::{self, function};
use crate::{Dial, Dialect, Down, Signaller, SignallerEvent, Waker};

/// The most messages that wait to be polled. A server that sends more at once is left.
const MAX_WAITING: usize = 4096;
/// The longest message that is read, in UTF-16 units.
const MAX_MESSAGE: u32 = 256 * 1024;
/// The most bytes that wait in the browser to be sent. What comes on top is dropped.
const MAX_BUFFERED: u32 = 1024 * 1024;

/// The most WebSockets that are kept until another is open: by then the oldest is long dead.
const MAX_BEFORE: usize = 4;
/// The most relayed frames among what waits to be polled: they never keep out a message.
const MAX_FRAMES: usize = 1024;
/// The most bytes that wait in the browser before a relayed frame is dropped.
const MAX_BUFFERED_RELAY: u32 = 256 * 1024;

/// The connection to one URL, dialled when it is asked to be.
pub(super) struct WebSocketSignaller {
    url: String,
    inbox: Rc<Inbox>,
    line: Option<Line>,
    /// Those before, until the newest is open. To close one says goodbye, and that would be the end of our seat if it came
    /// before the new one is there; the server closes them itself then.
    before: Vec<Line>,
}

impl WebSocketSignaller {
    pub(super) fn new(url: String) -> Self {
        Self { url, inbox: Rc::default(), line: None, before: Vec::new() }
    }
}

impl Signaller for WebSocketSignaller {
    fn dial(&mut self, dial: Dial) {
        if let Some(line) = self.line.take() {
            line.forget();
            if self.before.len() >= MAX_BEFORE {
                self.before.remove(0);
            }
            self.before.push(line);
        }
        self.inbox.events.borrow_mut().clear();
        let url = dial.url.as_deref().unwrap_or(&self.url);
        match Line::dial(url, &dial, &self.inbox) {
            Ok(line) => self.line = Some(line),
            Err(thrown) => self.inbox.push(SignallerEvent::Down(Down::Lost(page::why(&thrown)))),
        }
    }

    fn hang_up(&mut self) {
        self.line = None;
        self.inbox.events.borrow_mut().clear();
    }

    fn send(&mut self, message: ClientMessage) {
        let Some(Line { socket, .. }) = &self.line else { return };
        if socket.ready_state() != WebSocket::OPEN || socket.buffered_amount() > MAX_BUFFERED {
            return;
        }
        if let Ok(text) = serde_json::to_string(&message) {
            // It only fails while the socket is not open, and then its end is already on its way.
            let _ = socket.send_with_str(&text);
        }
    }

    fn relay(&mut self, frame: Bytes) {
        let Some(Line { socket, .. }) = &self.line else { return };
        if socket.ready_state() == WebSocket::OPEN && socket.buffered_amount() <= MAX_BUFFERED_RELAY {
            let _ = socket.send_with_u8_array(&frame);
        }
    }

    fn poll(&mut self) -> Option<SignallerEvent> {
        let event = self.inbox.events.borrow_mut().pop_front();
        if matches!(event, Some(SignallerEvent::Message(_))) {
            self.before.clear();
        }
        event
    }

    fn set_waker(&mut self, waker: Waker) {
        drop(self.inbox.waker.replace(Some(waker.clone())));
        waker();
    }
}

/// What the callbacks said.
#[derive(Default)]
struct Inbox {
    events: RefCell<VecDeque<SignallerEvent>>,
    waker: RefCell<Option<Waker>>,
}

impl Inbox {
    fn push(&self, event: SignallerEvent) {
        self.events.borrow_mut().push_back(event);
        let waker = self.waker.borrow().clone();
        if let Some(waker) = waker {
            waker();
        }
    }
}

/// One WebSocket and its callbacks, which the browser forgets when this is dropped.
struct Line {
    socket: WebSocket,
    _on_open: Closure<dyn Fn()>,
    _on_close: Closure<dyn Fn(CloseEvent)>,
    _on_message: Closure<dyn Fn(MessageEvent)>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Dialled,
    Open,
    Over,
}

impl Line {
    fn dial(url: &str, dial: &Dial, inbox: &Rc<Inbox>) -> Result<Self, JsValue> {
        let dialect = dial.dialect;
        let offers: Array = dial.subprotocols().into_iter().map(JsValue::from).collect();
        let socket = WebSocket::new_with_str_sequence(url, &offers)?;
        let state = Rc::new(Cell::new(State::Dialled));
        let over = {
            let (inbox, state) = (inbox.clone(), state.clone());
            move |down: Down| {
                if state.replace(State::Over) != State::Over {
                    inbox.push(SignallerEvent::Down(down));
                }
            }
        };

        socket.set_binary_type(BinaryType::Arraybuffer);
        let on_open = Closure::<dyn Fn()>::new({
            let (inbox, state, over, socket) = (inbox.clone(), state.clone(), over.clone(), socket.clone());
            move || {
                // Chromium fails a connection whose subprotocol the server does not select; Firefox may open it.
                if dialect == Dialect::Coplay && socket.protocol() != SUBPROTOCOL {
                    over(Down::WrongDialect);
                } else {
                    state.set(State::Open);
                    inbox.push(SignallerEvent::Opened);
                }
            }
        });
        socket.set_onopen(Some(function(&on_open)));

        let on_message = Closure::<dyn Fn(MessageEvent)>::new({
            let (inbox, state, over) = (inbox.clone(), state.clone(), over.clone());
            move |event: MessageEvent| {
                if state.get() != State::Open {
                    return;
                }
                let data = event.data();
                let waiting = inbox.events.borrow().len();
                if let Some(frame) = data.dyn_ref::<ArrayBuffer>() {
                    if waiting < MAX_FRAMES && frame.byte_length() as usize <= MAX_FRAME {
                        inbox.push(SignallerEvent::Relayed(Uint8Array::new(frame).to_vec().into()));
                    }
                    return;
                }
                if waiting >= MAX_WAITING {
                    return over(Down::Lost("the server sends more than can be taken".into()));
                }
                let text = data.dyn_ref::<js_sys::JsString>().filter(|text| text.length() <= MAX_MESSAGE);
                match text.map(|text| serde_json::from_str(&String::from(text))) {
                    Some(Ok(message)) => inbox.push(SignallerEvent::Message(message)),
                    _ => tracing::debug!("passed over what signaling said: it is not of the protocol"),
                }
            }
        });
        socket.set_onmessage(Some(function(&on_message)));

        let on_close = Closure::<dyn Fn(CloseEvent)>::new(move |event: CloseEvent| {
            over(match (state.get(), dialect) {
                (State::Open, _) => Down::Lost(reason(&event)),
                // A browser does not tell a server that is not there from one that does not select the subprotocol.
                (_, Dialect::Coplay) => Down::Unknown("it does not answer".into()),
                (_, Dialect::Matchbox) => Down::Lost("it does not answer".into()),
            });
        });
        socket.set_onclose(Some(function(&on_close)));
        Ok(Self { socket, _on_open: on_open, _on_close: on_close, _on_message: on_message })
    }
}

impl Line {
    /// Has the browser forget our callbacks.
    fn forget(&self) {
        self.socket.set_onopen(None);
        self.socket.set_onclose(None);
        self.socket.set_onmessage(None);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.forget();
        // It only fails for a code or reason of our own.
        let _ = self.socket.close();
    }
}

fn reason(event: &CloseEvent) -> String {
    let (code, reason) = (event.code(), event.reason());
    if reason.is_empty() { format!("closed with code {code}") } else { format!("{reason} (code {code})") }
}

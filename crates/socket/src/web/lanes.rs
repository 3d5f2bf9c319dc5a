//! How do datagrams get into and out of a peer's two data channels?

use std::{cell::Cell, rc::Rc};

use bytes::Bytes;
use coplay_proto::Lane;
use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::{
    MessageEvent, RtcDataChannel, RtcDataChannelInit, RtcDataChannelState, RtcDataChannelType, RtcPeerConnection,
};

use super::{
    inbox::{Happening, Inbox},
    page::function,
};
use crate::{
    SendError,
    socket::{MAX_RELIABLE, MAX_UNRELIABLE},
    switchboard::{Attempt, Input},
};

/// The most bytes of one peer that wait to be polled; each datagram counts [`OVERHEAD`] more.
const MAX_WAITING: usize = 2 * 1024 * 1024;
/// What a datagram costs besides its bytes.
const OVERHEAD: usize = 64;
/// The most bytes that wait in the browser to be sent on the unreliable lane: half a second of a busy game, and older
/// than that nobody wants them.
pub(super) const MAX_BUFFERED_UNRELIABLE: usize = 64 * 1024;
/// The same, on the reliable lane. Chromium closes a channel at 16 MiB.
pub(super) const MAX_BUFFERED_RELIABLE: usize = 1024 * 1024;

/// When so little waits in the browser again, whoever sends much may go on.
const BUFFERED_LOW: u32 = 64 * 1024;

/// Both channels of a peer, and their callbacks.
pub(super) struct Lanes {
    unreliable: Channel,
    reliable: Channel,
    waiting: Rc<Waiting>,
}

struct Channel {
    raw: RtcDataChannel,
    _on_open: Closure<dyn Fn()>,
    _on_close: Closure<dyn Fn()>,
    _on_message: Closure<dyn Fn(MessageEvent)>,
    _on_low: Closure<dyn Fn()>,
}

impl Lanes {
    /// Makes the channels by matchbox's convention: negotiated, with ids from 0 and these labels.
    pub(super) fn open(connection: &RtcPeerConnection, inbox: &Rc<Inbox>, attempt: Attempt) -> Self {
        let waiting = Rc::<Waiting>::default();
        let channel = |lane, label| Channel::open(connection, inbox, &waiting, attempt, lane, label);
        Self {
            unreliable: channel(Lane::Unreliable, "matchbox_socket_0"),
            reliable: channel(Lane::Reliable, "matchbox_socket_1"),
            waiting,
        }
    }

    pub(super) fn are_open(&self) -> bool {
        [&self.unreliable, &self.reliable]
            .iter()
            .all(|Channel { raw, .. }| raw.ready_state() == RtcDataChannelState::Open)
    }

    pub(super) fn send(&self, lane: Lane, bytes: &[u8]) -> Result<(), SendError> {
        let (Channel { raw, .. }, most) = match lane {
            Lane::Unreliable => (&self.unreliable, MAX_BUFFERED_UNRELIABLE),
            Lane::Reliable => (&self.reliable, MAX_BUFFERED_RELIABLE),
        };
        if raw.ready_state() != RtcDataChannelState::Open {
            return Err(SendError::UnknownPeer);
        }
        if raw.buffered_amount() as usize + bytes.len() > most {
            return Err(SendError::Full);
        }
        raw.send_with_u8_array(bytes).map_err(|_| SendError::Full)
    }

    /// How many bytes wait in the browser on the reliable lane.
    pub(super) fn buffered(&self) -> usize {
        self.reliable.raw.buffered_amount() as usize
    }

    /// So many bytes of a datagram are out of the inbox.
    pub(super) fn taken(&self, length: usize) {
        self.waiting.leaves(length);
    }

    /// Tells the peer that this is the end. It takes that of either channel for that of both; the reliable one ends
    /// only when its last bytes have arrived.
    pub(super) fn end(&self) {
        self.reliable.raw.close();
    }

    /// Has the browser forget our callbacks.
    pub(super) fn detach(&self) {
        for Channel { raw, .. } in [&self.unreliable, &self.reliable] {
            raw.set_onopen(None);
            raw.set_onclose(None);
            raw.set_onmessage(None);
            raw.set_onbufferedamountlow(None);
        }
    }
}

impl Channel {
    fn open(
        connection: &RtcPeerConnection,
        inbox: &Rc<Inbox>,
        waiting: &Rc<Waiting>,
        attempt: Attempt,
        lane: Lane,
        label: &str,
    ) -> Self {
        let init = RtcDataChannelInit::new();
        init.set_negotiated(true);
        match lane {
            Lane::Unreliable => {
                init.set_id(0);
                init.set_ordered(false);
                init.set_max_retransmits(0);
            }
            Lane::Reliable => init.set_id(1),
        }
        let raw = connection.create_data_channel_with_data_channel_dict(label, &init);
        raw.set_binary_type(RtcDataChannelType::Arraybuffer);

        let on_open = Closure::<dyn Fn()>::new({
            let inbox = inbox.clone();
            move || inbox.push(Happening::LaneOpen(attempt))
        });
        raw.set_onopen(Some(function(&on_open)));

        let on_close = Closure::<dyn Fn()>::new({
            let inbox = inbox.clone();
            move || inbox.push(Happening::Switchboard(Input::Closed(attempt)))
        });
        raw.set_onclose(Some(function(&on_close)));

        let on_message = Closure::<dyn Fn(MessageEvent)>::new({
            let (inbox, waiting) = (inbox.clone(), waiting.clone());
            move |event: MessageEvent| {
                let data = event.data();
                // No peer of ours sends text.
                let Some(data) = data.dyn_ref::<ArrayBuffer>() else { return };
                match waiting.enters(lane, data.byte_length() as usize) {
                    Enters::Yes => {
                        let bytes = Bytes::from(Uint8Array::new(data).to_vec());
                        inbox.push(Happening::Received(attempt, lane, bytes));
                    }
                    Enters::Lost => {}
                    Enters::Overrun(why) => inbox.push(Happening::Switchboard(Input::Overrun(attempt, why))),
                }
            }
        });
        raw.set_onmessage(Some(function(&on_message)));

        let on_low = Closure::<dyn Fn()>::new({
            let inbox = inbox.clone();
            move || inbox.wake()
        });
        if lane == Lane::Reliable {
            raw.set_buffered_amount_low_threshold(BUFFERED_LOW);
            raw.set_onbufferedamountlow(Some(function(&on_low)));
        }
        Self { raw, _on_open: on_open, _on_close: on_close, _on_message: on_message, _on_low: on_low }
    }
}

/// How many bytes of a peer wait in the inbox; `None` once no more are taken.
pub(super) struct Waiting(Cell<Option<usize>>);

impl Default for Waiting {
    fn default() -> Self {
        Self(Cell::new(Some(0)))
    }
}

/// Whether a datagram may wait in the inbox.
pub(super) enum Enters {
    Yes,
    Lost,
    /// It may not, and was to arrive: that is the end, which is said once.
    Overrun(String),
}

impl Waiting {
    /// Counts a datagram of a lane in, if there is room for it.
    pub(super) fn enters(&self, lane: Lane, length: usize) -> Enters {
        let Some(waiting) = self.0.get() else { return Enters::Lost };
        let most = match lane {
            Lane::Unreliable => MAX_UNRELIABLE,
            Lane::Reliable => MAX_RELIABLE,
        };
        let total = waiting + length + OVERHEAD;
        if length <= most && total <= MAX_WAITING {
            self.0.set(Some(total));
            return Enters::Yes;
        }
        if length <= most && lane == Lane::Unreliable {
            return Enters::Lost;
        }
        self.0.set(None);
        Enters::Overrun(match length > most {
            true => format!("the peer sent {length} bytes at once, and the lane takes {most}"),
            false => "the peer sent more than was taken in time".into(),
        })
    }

    /// Counts a datagram out.
    pub(super) fn leaves(&self, length: usize) {
        self.0.set(self.0.get().map(|waiting| waiting.saturating_sub(length + OVERHEAD)));
    }
}

//! What a browser's data channels give a game: one that is reliable and ordered; where bulk is sent beside the messages, an unreliable one for state,
//! and another reliable one for that.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use bytes::Bytes;
use coplay_bench_stacks::channels::{self, Channels};
use js_sys::Uint8Array;
use serde_json::json;
use web_sys::RtcDataChannelState;

use crate::{
    game::{Connection, Way},
    say,
};

/// Which of the channels are reliable: that of messages, of state, of bulk.
const RELIABLE: [bool; 3] = [true, false, true];
const STATE: usize = 1;
const BULK: u16 = 2;

struct Raw {
    channels: Channels,
    received: Rc<RefCell<VecDeque<Bytes>>>,
    bulk: Rc<Cell<u64>>,
}

pub(super) fn connect(url: &str, bulk: bool) -> Result<Box<dyn Connection>, String> {
    let reliable = if bulk { &RELIABLE[..] } else { &RELIABLE[..1] };
    let (received, bulk) = (Rc::<RefCell<VecDeque<Bytes>>>::default(), Rc::<Cell<u64>>::default());
    let (came, bulk_came) = (received.clone(), bulk.clone());
    let heard = move |number: u16, bytes: Uint8Array| {
        if number == BULK {
            bulk_came.set(bulk_came.get() + u64::from(bytes.length()));
        } else {
            came.borrow_mut().push_back(bytes.to_vec().into());
        }
    };
    let failed = |reason: String| say(&json!({ "event": "closed", "reason": reason }));
    let channels = channels::answer(url, reliable, heard, failed)?;
    Ok(Box::new(Raw { channels, received, bulk }))
}

impl Connection for Raw {
    fn begin(&mut self) -> Result<bool, String> {
        let state = self.channels.channels.first().map(web_sys::RtcDataChannel::ready_state);
        match state {
            Some(RtcDataChannelState::Connecting) => Ok(false),
            Some(RtcDataChannelState::Open) => Ok(true),
            _ => Err("the channel is closed".to_owned()),
        }
    }

    fn receive(&mut self) -> Option<Bytes> {
        self.received.borrow_mut().pop_front()
    }

    fn send(&mut self, bytes: Bytes, way: Way) {
        let number = if way == Way::Reliably { 0 } else { STATE };
        if let Some(channel) = self.channels.channels.get(number) {
            let _ = channel.send_with_u8_array(&bytes);
        }
    }

    fn bulk_came(&self) -> u64 {
        self.bulk.get()
    }
}

//! What a browser's data channel gives a game: reliable and ordered, all else as the browser has it by default. The page
//! answers an offer that comes over a WebSocket, with all candidates in it.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use bytes::Bytes;
use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{
    MessageEvent, RtcDataChannel, RtcDataChannelInit, RtcDataChannelState, RtcDataChannelType, RtcIceGatheringState,
    RtcPeerConnection, RtcSdpType, RtcSessionDescriptionInit, WebSocket,
};

use crate::{
    game::{Connection, Way},
    say,
};

struct Channel {
    channel: RtcDataChannel,
    /// Without it the browser may close it.
    _connection: RtcPeerConnection,
    received: Rc<RefCell<VecDeque<Bytes>>>,
}

pub(super) fn connect(url: &str) -> Result<Box<dyn Connection>, String> {
    make(url).map_err(|error| format!("{error:?}"))
}

fn make(url: &str) -> Result<Box<dyn Connection>, JsValue> {
    let connection = RtcPeerConnection::new()?;
    let init = RtcDataChannelInit::new();
    init.set_negotiated(true);
    init.set_id(0);
    let channel = connection.create_data_channel_with_data_channel_dict("reliable", &init);
    channel.set_binary_type(RtcDataChannelType::Arraybuffer);
    let received = Rc::<RefCell<VecDeque<Bytes>>>::default();
    let came = received.clone();
    let heard = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
        if let Ok(bytes) = event.data().dyn_into::<ArrayBuffer>() {
            came.borrow_mut().push_back(Uint8Array::new(&bytes).to_vec().into());
        }
    });
    // For as long as the page is there, as all that follows.
    channel.set_onmessage(Some(heard.into_js_value().unchecked_ref()));
    let signaling = WebSocket::new(url)?;
    let (answering, socket) = (connection.clone(), signaling.clone());
    let offered = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
        let (connection, socket) = (answering.clone(), socket.clone());
        if let Some(offer) = event.data().as_string() {
            spawn_local(async move {
                if let Err(error) = answer(connection, socket, &offer).await {
                    say(&serde_json::json!({ "event": "closed", "reason": format!("{error:?}") }));
                }
            });
        }
    });
    signaling.set_onmessage(Some(offered.into_js_value().unchecked_ref()));
    Ok(Box::new(Channel { channel, _connection: connection, received }))
}

async fn answer(connection: RtcPeerConnection, socket: WebSocket, offer: &str) -> Result<(), JsValue> {
    let gathered = connection.clone();
    let tell = Closure::<dyn FnMut()>::new(move || {
        if gathered.ice_gathering_state() == RtcIceGatheringState::Complete
            && let Some(answer) = gathered.local_description()
        {
            let _ = socket.send_with_str(&answer.sdp());
        }
    });
    connection.set_onicegatheringstatechange(Some(tell.into_js_value().unchecked_ref()));
    let description = RtcSessionDescriptionInit::new(RtcSdpType::Offer);
    description.set_sdp(offer);
    JsFuture::from(connection.set_remote_description(&description)).await?;
    let answer: RtcSessionDescriptionInit = JsFuture::from(connection.create_answer()).await?.unchecked_into();
    JsFuture::from(connection.set_local_description(&answer)).await?;
    Ok(())
}

impl Connection for Channel {
    fn begin(&mut self) -> Result<bool, String> {
        match self.channel.ready_state() {
            RtcDataChannelState::Connecting => Ok(false),
            RtcDataChannelState::Open => Ok(true),
            _ => Err("the channel is closed".to_owned()),
        }
    }

    fn receive(&mut self) -> Option<Bytes> {
        self.received.borrow_mut().pop_front()
    }

    fn send(&mut self, bytes: Bytes, way: Way) {
        if way == Way::Reliably {
            let _ = self.channel.send_with_u8_array(&bytes);
        }
    }
}

//! A browser's data channels alone, all as the browser has it by default. The page answers an offer that comes over a WebSocket,
//! with all candidates in it.

use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{
    MessageEvent, RtcDataChannel, RtcDataChannelInit, RtcDataChannelType, RtcIceGatheringState, RtcPeerConnection,
    RtcSdpType, RtcSessionDescriptionInit, WebSocket,
};

/// A connection, and its channels in the order in which they were asked for.
#[derive(Debug)]
pub struct Channels {
    /// Without it the browser may close them.
    _connection: RtcPeerConnection,
    /// The channels.
    pub channels: Vec<RtcDataChannel>,
}

/// Answers who is at this URL, for channels that are reliable or not, as said. Everything that comes is `heard`, with the number of its
/// channel; and why it came to nothing, if it does, is `failed`.
///
/// # Errors
/// The browser does not do it.
pub fn answer(
    url: &str,
    reliable: &[bool],
    heard: impl Fn(u16, Uint8Array) + Clone + 'static,
    failed: impl Fn(String) + Clone + 'static,
) -> Result<Channels, String> {
    make(url, reliable, heard, failed).map_err(|error| format!("{error:?}"))
}

fn make(
    url: &str,
    reliable: &[bool],
    heard: impl Fn(u16, Uint8Array) + Clone + 'static,
    failed: impl Fn(String) + Clone + 'static,
) -> Result<Channels, JsValue> {
    let connection = RtcPeerConnection::new()?;
    let mut channels = Vec::new();
    for (reliable, number) in reliable.iter().zip(0..) {
        let init = RtcDataChannelInit::new();
        init.set_negotiated(true);
        init.set_id(number);
        if !reliable {
            init.set_ordered(false);
            init.set_max_retransmits(0);
        }
        let channel = connection.create_data_channel_with_data_channel_dict(&format!("{number}"), &init);
        channel.set_binary_type(RtcDataChannelType::Arraybuffer);
        let heard = heard.clone();
        let hear = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            if let Ok(bytes) = event.data().dyn_into::<ArrayBuffer>() {
                heard(number, Uint8Array::new(&bytes));
            }
        });
        // For as long as the page is there, as all that follows.
        channel.set_onmessage(Some(hear.into_js_value().unchecked_ref()));
        channels.push(channel);
    }
    let signaling = WebSocket::new(url)?;
    let (answering, socket) = (connection.clone(), signaling.clone());
    let offered = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
        let (connection, socket, failed) = (answering.clone(), socket.clone(), failed.clone());
        if let Some(offer) = event.data().as_string() {
            spawn_local(async move {
                if let Err(error) = accept(connection, socket, &offer).await {
                    failed(format!("{error:?}"));
                }
            });
        }
    });
    signaling.set_onmessage(Some(offered.into_js_value().unchecked_ref()));
    Ok(Channels { _connection: connection, channels })
}

async fn accept(connection: RtcPeerConnection, socket: WebSocket, offer: &str) -> Result<(), JsValue> {
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

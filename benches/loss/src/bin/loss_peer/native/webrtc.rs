//! The `webrtc` crate alone: a reliable, ordered data channel, all else as the crate has it by default.
//!
//! The two sides exchange their descriptions, candidates included, over a WebSocket; side A serves it, and offers.

use std::sync::Arc;

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use rtc_ice::mdns::MulticastDnsMode;
use tokio::{net::TcpListener, sync::Notify};
use tokio_tungstenite::{accept_async, connect_async, tungstenite::Message};
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit},
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
        RTCIceGatheringState, RTCSessionDescription, SettingEngineBuilder,
    },
};

use super::piped::{Served, listen, pipe};
use crate::{Settings, game::Connection, say};

pub(super) fn connect(settings: &Settings) -> Result<Vec<Box<dyn Connection>>, String> {
    let (pipes, served): (Vec<_>, Vec<_>) = (0..settings.count).map(|_| pipe()).unzip();
    let address = settings.address.clone();
    if settings.leads {
        tokio::spawn(serve(listen(&address)?, served));
    } else {
        for served in served {
            let url = format!("ws://{address}/");
            tokio::spawn(async move { tell(answer(&url, served).await) });
        }
    }
    Ok(pipes.into_iter().map(|piped| -> Box<dyn Connection> { Box::new(piped) }).collect())
}

fn tell(ended: Result<(), String>) {
    if let Err(reason) = ended {
        say(&serde_json::json!({ "event": "closed", "reason": reason }));
    }
}

async fn serve(listener: TcpListener, served: Vec<Served>) {
    for served in served {
        let Ok((stream, _)) = listener.accept().await else { return };
        tokio::spawn(async move {
            let offered = async {
                let mut socket = accept_async(stream).await.map_err(|error| error.to_string())?;
                let (connection, channel) = build(served).await.map_err(|error| error.to_string())?;
                let offer = connection.offer().await.map_err(|error| error.to_string())?;
                socket.send(Message::Text(offer.into())).await.map_err(|error| error.to_string())?;
                let answer = text(&mut socket).await?;
                let answer = RTCSessionDescription::answer(answer).map_err(|error| error.to_string())?;
                connection.inner.set_remote_description(answer).await.map_err(|error| error.to_string())?;
                channel.run().await;
                drop(connection);
                Ok(())
            };
            tell(offered.await);
        });
    }
}

async fn answer(url: &str, served: Served) -> Result<(), String> {
    let (mut socket, _) = connect_async(url).await.map_err(|error| error.to_string())?;
    let (connection, channel) = build(served).await.map_err(|error| error.to_string())?;
    let offer = RTCSessionDescription::offer(text(&mut socket).await?).map_err(|error| error.to_string())?;
    let answer = connection.answer(offer).await.map_err(|error| error.to_string())?;
    socket.send(Message::Text(answer.into())).await.map_err(|error| error.to_string())?;
    channel.run().await;
    drop(connection);
    Ok(())
}

/// The next text that comes.
async fn text<S>(socket: &mut S) -> Result<String, String>
where
    S: StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text.to_string()),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err("the other side says nothing".to_owned()),
        }
    }
}

/// Signals when all candidates are there.
struct Gathering(Arc<Notify>);

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Gathering {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.0.notify_one();
        }
    }
}

struct Connected {
    inner: Arc<dyn PeerConnection>,
    gathered: Arc<Notify>,
}

struct Channel {
    inner: Arc<dyn DataChannel>,
    served: Served,
}

async fn build(served: Served) -> webrtc::error::Result<(Connected, Channel)> {
    let gathered = Arc::new(Notify::new());
    // Nobody here has a name of mDNS; and its sockets would only disturb each other.
    let settings = SettingEngineBuilder::new().with_multicast_dns_mode(MulticastDnsMode::Disabled).build();
    let connection = PeerConnectionBuilder::new()
        .with_configuration(RTCConfigurationBuilder::new().build())
        .with_setting_engine(settings)
        .with_handler(Arc::new(Gathering(gathered.clone())))
        .with_udp_addrs(vec!["0.0.0.0:0"])
        .build()
        .await?;
    let inner: Arc<dyn PeerConnection> = Arc::new(connection);
    let init = RTCDataChannelInit { ordered: true, negotiated: Some(0), ..RTCDataChannelInit::default() };
    let channel = inner.create_data_channel("reliable", Some(init)).await?;
    Ok((Connected { inner, gathered }, Channel { inner: channel, served }))
}

impl Connected {
    async fn offer(&self) -> webrtc::error::Result<String> {
        let offer = self.inner.create_offer(None).await?;
        self.inner.set_local_description(offer).await?;
        Ok(self.described().await)
    }

    async fn answer(&self, offer: RTCSessionDescription) -> webrtc::error::Result<String> {
        self.inner.set_remote_description(offer).await?;
        let answer = self.inner.create_answer(None).await?;
        self.inner.set_local_description(answer).await?;
        Ok(self.described().await)
    }

    /// The description with all candidates.
    async fn described(&self) -> String {
        self.gathered.notified().await;
        self.inner.local_description().await.map(|description| description.sdp).unwrap_or_default()
    }
}

impl Channel {
    /// Passes messages on until either end is gone.
    async fn run(mut self) {
        loop {
            tokio::select! {
                bytes = self.served.out.recv() => match bytes {
                    Some(bytes) => if self.inner.send(BytesMut::from(&bytes[..])).await.is_err() { break },
                    None => break,
                },
                event = self.inner.poll() => match event {
                    Some(DataChannelEvent::OnOpen) => self.served.opened(),
                    Some(DataChannelEvent::OnMessage(message)) => _ = self.served.came.send(message.data.freeze()),
                    Some(DataChannelEvent::OnClose) | None => break,
                    Some(_) => {}
                },
            }
        }
    }
}

//! The `webrtc` crate alone, awaited.

use bytes::{Bytes, BytesMut};
use coplay_bench_stacks::webrtc::{Connection, Kind, Tuning, answer, offer};
use coplay_proto::Lane;
use tokio::net::TcpListener;
use tokio_tungstenite::{accept_async, connect_async};
use webrtc::data_channel::DataChannelEvent;

use super::ready;
use crate::port::Port;

pub(super) struct Raw(Connection);

impl Raw {
    /// Side A listens at this address, and offers.
    pub(super) async fn meet(address: &str, leads: bool) -> Result<Self, String> {
        let kinds = [Kind::Unreliable, Kind::Reliable];
        let connection = if leads {
            let listener = TcpListener::bind(address).await.map_err(|error| format!("{address}: {error}"))?;
            ready();
            let (stream, _) = listener.accept().await.map_err(|error| error.to_string())?;
            let mut socket = accept_async(stream).await.map_err(|error| error.to_string())?;
            offer(&mut socket, Tuning::Tuned, &kinds).await?
        } else {
            let url = format!("ws://{address}/");
            let (mut socket, _) = connect_async(url).await.map_err(|error| error.to_string())?;
            answer(&mut socket, Tuning::Tuned, &kinds).await?
        };
        for channel in &connection.channels {
            loop {
                match channel.poll().await {
                    Some(DataChannelEvent::OnOpen) => break,
                    Some(_) => {}
                    None => return Err("a channel does not open".to_owned()),
                }
            }
        }
        Ok(Self(connection))
    }
}

impl Port for Raw {
    async fn next(&mut self) -> Result<(Lane, Bytes), String> {
        let [unreliable, reliable] = &self.0.channels[..] else { return Err("there are two channels".to_owned()) };
        loop {
            let (lane, event) = tokio::select! {
                event = unreliable.poll() => (Lane::Unreliable, event),
                event = reliable.poll() => (Lane::Reliable, event),
            };
            match event {
                Some(DataChannelEvent::OnMessage(message)) => return Ok((lane, message.data.freeze())),
                Some(DataChannelEvent::OnClose) | None => return Err("a channel is closed".to_owned()),
                Some(_) => {}
            }
        }
    }

    async fn send(&mut self, lane: Lane, bytes: Bytes) -> Result<(), String> {
        let number = usize::from(lane == Lane::Reliable);
        let channel = self.0.channels.get(number).ok_or("there is no such channel")?;
        channel.send(BytesMut::from(&bytes[..])).await.map_err(|error| error.to_string())
    }
}

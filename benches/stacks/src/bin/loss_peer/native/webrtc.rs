//! The `webrtc` crate alone: a reliable, ordered data channel, all else as the crate has it by default. Where bulk is sent
//! beside the messages, it has a reliable channel of its own, state has an unreliable one, and the crate is tuned.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use coplay_bench_stacks::webrtc::{Connection, Kind, Tuning, answer, offer};
use tokio::net::TcpListener;
use tokio_tungstenite::{accept_async, connect_async};
use webrtc::data_channel::{DataChannel, DataChannelEvent};

use super::piped::{Served, listen, pipe};
use crate::{
    Settings,
    game::{self, CHUNK, Way},
    say,
};

/// What the channels are, those for bulk last.
const KINDS: [Kind; 3] = [Kind::Reliable, Kind::Unreliable, Kind::Reliable];

#[derive(Clone, Copy)]
struct Setup {
    tuning: Tuning,
    kinds: &'static [Kind],
}

pub(super) fn connect(settings: &Settings) -> Result<Vec<Box<dyn game::Connection>>, String> {
    let (pipes, served): (Vec<_>, Vec<_>) = (0..settings.count).map(|_| pipe()).unzip();
    let address = settings.address.clone();
    let setup = match settings.bulk {
        true => Setup { tuning: Tuning::Tuned, kinds: &KINDS },
        false => Setup { tuning: Tuning::Default, kinds: &[Kind::Reliable] },
    };
    if settings.leads {
        tokio::spawn(serve(listen(&address)?, served, setup));
    } else {
        for served in served {
            let url = format!("ws://{address}/");
            tokio::spawn(async move {
                let answered = async {
                    let (mut socket, _) = connect_async(url).await.map_err(|error| error.to_string())?;
                    pass(answer(&mut socket, setup.tuning, setup.kinds).await?, served).await;
                    Ok(())
                };
                tell(answered.await);
            });
        }
    }
    Ok(pipes.into_iter().map(|piped| -> Box<dyn game::Connection> { Box::new(piped) }).collect())
}

fn tell(ended: Result<(), String>) {
    if let Err(reason) = ended {
        say(&serde_json::json!({ "event": "closed", "reason": reason }));
    }
}

async fn serve(listener: TcpListener, served: Vec<Served>, setup: Setup) {
    for served in served {
        let Ok((stream, _)) = listener.accept().await else { return };
        tokio::spawn(async move {
            let offered = async {
                let mut socket = accept_async(stream).await.map_err(|error| error.to_string())?;
                pass(offer(&mut socket, setup.tuning, setup.kinds).await?, served).await;
                Ok(())
            };
            tell(offered.await);
        });
    }
}

/// Passes messages on until either end is gone.
async fn pass(connection: Connection, mut served: Served) {
    let Some(messages) = connection.channels.first() else { return };
    let arrivals = served.arrivals();
    let mut opened = 0;
    let (state, bulk) = (connection.channels.get(1), connection.channels.get(2));
    loop {
        let (event, is_bulk) = tokio::select! {
            out = served.out.recv() => match out {
                Some((way, bytes)) => {
                    let channel = if way == Way::Reliably { Some(messages) } else { state };
                    if let Some(channel) = channel
                        && channel.send(BytesMut::from(&bytes[..])).await.is_err()
                    {
                        break;
                    }
                    continue;
                }
                None => break,
            },
            Some(bytes) = served.bulk.recv() => {
                if let Some(bulk) = bulk {
                    tokio::spawn(pour(bulk.clone(), bytes));
                }
                continue;
            },
            event = messages.poll() => (event, false),
            event = next(state) => (event, false),
            event = next(bulk) => (event, true),
        };
        match event {
            Some(DataChannelEvent::OnOpen) => {
                opened += 1;
                if opened == connection.channels.len() {
                    served.opened();
                }
            }
            Some(DataChannelEvent::OnMessage(message)) if is_bulk => arrivals.bulk_came(message.data.len()),
            Some(DataChannelEvent::OnMessage(message)) => arrivals.came(message.data.freeze()),
            Some(DataChannelEvent::OnClose) | None => break,
            Some(_) => {}
        }
    }
}

/// What a channel tells, if there is one.
async fn next(channel: Option<&Arc<dyn DataChannel>>) -> Option<DataChannelEvent> {
    match channel {
        Some(channel) => channel.poll().await,
        None => std::future::pending().await,
    }
}

/// Sends so many bytes, as fast as the channel takes them.
async fn pour(channel: Arc<dyn DataChannel>, bytes: u64) {
    let chunk = Bytes::from(vec![7; CHUNK]);
    let mut left = bytes;
    while left > 0 {
        let size = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        if channel.send(BytesMut::from(&chunk[..size])).await.is_err() {
            return;
        }
        left -= size as u64;
    }
}

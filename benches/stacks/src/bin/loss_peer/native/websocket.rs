//! What TCP gives a game: a WebSocket, without Nagle's algorithm. Side A is the server. Bulk goes between the messages, which are
//! first whenever there is a choice.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::mpsc::error::TryRecvError,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, accept_async, connect_async, tungstenite::Message};

use super::piped::{Served, listen, pipe};
use crate::{
    Settings,
    game::{CHUNK, Connection, is_bulk},
};

pub(super) fn connect(settings: &Settings) -> Result<Vec<Box<dyn Connection>>, String> {
    let (pipes, served): (Vec<_>, Vec<_>) = (0..settings.count).map(|_| pipe()).unzip();
    if settings.leads {
        tokio::spawn(serve(listen(&settings.address)?, served));
    } else {
        for served in served {
            let url = format!("ws://{}/", settings.address);
            tokio::spawn(async move {
                if let Ok((socket, _)) = connect_async(url).await {
                    if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
                        let _ = stream.set_nodelay(true);
                    }
                    pass(socket, served).await;
                }
            });
        }
    }
    Ok(pipes.into_iter().map(|piped| -> Box<dyn Connection> { Box::new(piped) }).collect())
}

/// Gives each that comes one of the connections.
async fn serve(listener: TcpListener, served: Vec<Served>) {
    for served in served {
        let Ok((stream, _)) = listener.accept().await else { return };
        tokio::spawn(accept(stream, served));
    }
}

async fn accept(stream: TcpStream, served: Served) {
    let _ = stream.set_nodelay(true);
    if let Ok(socket) = accept_async(stream).await {
        pass(socket, served).await;
    }
}

/// Passes messages on until either end is gone.
async fn pass<S: AsyncRead + AsyncWrite + Unpin>(socket: WebSocketStream<S>, mut served: Served) {
    served.opened();
    let (mut sink, mut stream) = socket.split();
    let arrivals = served.arrivals();
    let reading = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(bytes) if is_bulk(&bytes) => arrivals.bulk_came(bytes.len()),
                Message::Binary(bytes) => arrivals.came(bytes),
                _ => {}
            }
        }
    };
    let writing = async {
        let (chunk, mut left) = (Bytes::from(vec![7; CHUNK]), 0);
        loop {
            let bytes = match served.out.try_recv() {
                Ok((_, bytes)) => bytes,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) if left > 0 => {
                    let size = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
                    left -= size as u64;
                    chunk.slice(..size)
                }
                Err(TryRecvError::Empty) => tokio::select! {
                    out = served.out.recv() => match out {
                        Some((_, bytes)) => bytes,
                        None => break,
                    },
                    Some(more) = served.bulk.recv() => {
                        left += more;
                        continue;
                    }
                },
            };
            if sink.send(Message::Binary(bytes)).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}

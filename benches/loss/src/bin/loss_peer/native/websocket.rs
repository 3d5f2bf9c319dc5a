//! What TCP gives a game: a WebSocket, without Nagle's algorithm. Side A is the server.

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, accept_async, connect_async, tungstenite::Message};

use super::piped::{Served, listen, pipe};
use crate::{Settings, game::Connection};

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
    loop {
        tokio::select! {
            bytes = served.out.recv() => match bytes {
                Some(bytes) => if sink.send(Message::Binary(bytes)).await.is_err() { break },
                None => break,
            },
            message = stream.next() => match message {
                Some(Ok(Message::Binary(bytes))) => _ = served.came.send(bytes),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            },
        }
    }
}

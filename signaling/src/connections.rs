//! How do connections come in? Accepted one by one, counted, made TLS where that is spoken, and served as HTTP; none of
//! them holds up another.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, timeout},
};
use tower_service::Service;

use crate::{deadline::Deadline, guard::Guard, peer::Rules, tls::Tls};

/// The largest head of an HTTP request, in bytes; browsers send the cookies of every page of a host along.
const HTTP_BUFFER: usize = 16 * 1024;
/// Waited when no connection can be accepted because the process has no file descriptors left, say.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(100);
/// How often it is logged that connections cannot be accepted.
const ACCEPT_ERROR_LOG: Duration = Duration::from_secs(10);
/// TCP asks a silent peer whether it is there after so long, and so often, before it gives up: what the WebSocket's own
/// pings find out earlier, for connections that are none.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// The first byte of a TLS handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// What who speaks plain HTTP to a port of TLS is told.
const SPEAK_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
    this port speaks TLS: use https:// and wss://\n";

/// What every connection of one listener is served with.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    pub(crate) router: Router,
    pub(crate) rules: Arc<Rules>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) tls: Option<Tls>,
}

impl Connections {
    /// Takes connections, forever. They end with this, unless they have become a WebSocket each.
    pub(crate) async fn accept(self, listener: &TcpListener) {
        let (limits, metrics) = (self.rules.limits, &self.rules.metrics);
        let mut serving = JoinSet::new();
        let mut logged: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                Some(_) = serving.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                // That one connection broke before it was taken.
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    metrics.accept_errors.add(1);
                    if logged.is_none_or(|logged| logged.elapsed() >= ACCEPT_ERROR_LOG) {
                        logged = Some(Instant::now());
                        tracing::warn!(%error, "cannot accept connections: raise the limit of open files (ulimit -n)?");
                    }
                    tokio::time::sleep(AFTER_ACCEPT_ERROR).await;
                    continue;
                }
            };
            if open(&mut serving) >= limits.connections as usize {
                tracing::debug!(%from, "turned away: too many connections that are no WebSocket");
                metrics.connections_refused.add("all", 1);
                continue;
            }
            let counted = match self.guard.proxies.trusts(from.ip()) {
                true => None,
                false => match self.guard.addresses.connect(from.ip(), Instant::now()) {
                    Some(counted) => Some(counted),
                    None => {
                        tracing::debug!(%from, "turned away: too many connections of its address");
                        metrics.connections_refused.add("address", 1);
                        continue;
                    }
                },
            };
            prepare(&stream);
            let connections = self.clone();
            serving.spawn(async move {
                connections.serve(stream, from).await;
                drop(counted);
            });
        }
    }

    async fn serve(self, stream: TcpStream, from: SocketAddr) {
        let timing = self.rules.timing;
        let Some(tls) = &self.tls else { return self.http(stream, from).await };
        let handshake = async {
            let mut first = [0];
            if stream.peek(&mut first).await? == 1 && first != [TLS_HANDSHAKE] {
                let mut stream = stream;
                stream.write_all(SPEAK_TLS).await?;
                stream.shutdown().await?;
                // What is dropped with something unread is reset, and the answer with it.
                while stream.read(&mut [0; 1024]).await? > 0 {}
                return Err(io::Error::other("not TLS"));
            }
            tls.acceptor().accept(stream).await
        };
        match timeout(timing.request, handshake).await {
            Ok(Ok(stream)) => self.http(stream, from).await,
            failed => {
                self.rules.metrics.tls_failures.add(1);
                let error = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "it took too long".to_owned(),
                };
                tracing::debug!(%from, error, "no TLS");
            }
        }
    }

    /// Serves one connection. `axum::serve` would do, but sets no time for the head of a request.
    async fn http(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, from: SocketAddr) {
        let (router, timing) = (self.router.clone(), self.rules.timing);
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(from));
            router.clone().call(request.map(Body::new))
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(timing.request)
            .max_buf_size(HTTP_BUFFER)
            .serve_connection(TokioIo::new(Deadline::new(stream, timing.stuck)), service)
            .with_upgrades();
        if let Err(error) = serving.await {
            tracing::debug!(%from, %error, "a connection ended");
        }
    }
}

/// How many connections are open. Those that have ended count no more, whether that was noticed before or not.
fn open(serving: &mut JoinSet<()>) -> usize {
    while serving.try_join_next().is_some() {}
    serving.len()
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Small messages go at once, and a peer that is gone without a word is noticed.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE / 4);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keep_alive);
}

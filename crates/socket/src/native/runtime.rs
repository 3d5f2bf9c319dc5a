//! The runtime that webrtc runs on: tokio, with larger socket buffers, and a timer that keeps relayed packets moving.

use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use socket2::SockRef;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime, TokioRuntime,
};

/// webrtc 0.21 leaves its sockets at the system's default, often 208 KiB: a burst overflows it, and each datagram lost
/// from the end of a burst costs a reliable message a second. 8 times the reliable throughput on loopback.
const SOCKET_BUFFER: usize = 1024 * 1024;
/// How often webrtc's driver goes around once more for each thing that happens, where it may have a TURN server to talk to.
///
/// In each turn the driver of webrtc 0.21 sends what is for the TURN server *before* it wraps up for the TURN server what
/// is for the peer, and then waits for something else to happen: 5 ms on an idle path. The first turn more sends that; the
/// second is for the acks of what was received, which are written a turn later.
const TURNS: u8 = 2;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

tokio::task_local! {
    /// Set within the tasks of webrtc itself: the driver is the only one of them that sleeps.
    static OWED: Arc<AtomicU8>;
}

/// [`TokioRuntime`], but for the buffers and the timer. One for each connection.
#[derive(Debug)]
pub(super) struct PeerRuntime {
    /// Whether packets may go by a TURN server.
    relaying: Arc<AtomicBool>,
}

impl PeerRuntime {
    pub(super) fn new(relaying: Arc<AtomicBool>) -> Self {
        Self { relaying }
    }
}

impl Runtime for PeerRuntime {
    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let options = SockRef::from(&socket);
        // The system may give less, which is no reason to fail.
        let _ = options.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = options.set_send_buffer_size(SOCKET_BUFFER);
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn spawn(&self, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn(Box::pin(OWED.scope(Arc::default(), future)))
    }

    fn wrap_tcp_listener(&self, listener: TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        TokioRuntime.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(&'a self, address: SocketAddr) -> Boxed<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        TokioRuntime.connect_tcp(address)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        TokioRuntime.resolve_host(host)
    }

    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        let timer = TokioRuntime.sleep(duration);
        match OWED.try_with(Arc::clone) {
            Ok(owed) if self.relaying.load(Ordering::Relaxed) => match owed.load(Ordering::Relaxed) {
                0 => Box::pin(Rest { timer, owed }),
                turns => {
                    owed.store(turns - 1, Ordering::Relaxed);
                    Box::pin(std::future::ready(()))
                }
            },
            _ => timer,
        }
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }

    fn yield_now(&self) -> Boxed<'static, ()> {
        TokioRuntime.yield_now()
    }

    fn name(&self) -> &'static str {
        "coplay"
    }
}

/// The driver waits. When it does not any more, something has happened, and it owes [`TURNS`].
struct Rest {
    timer: Boxed<'static, ()>,
    owed: Arc<AtomicU8>,
}

impl Future for Rest {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.as_mut().poll(cx)
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.owed.store(TURNS, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    /// How often a driver goes around for one event.
    async fn turns(relaying: bool) -> usize {
        let runtime = Arc::new(PeerRuntime::new(Arc::new(AtomicBool::new(relaying))));
        let (event, mut events) = mpsc::channel(1);
        let (turn, mut turns) = mpsc::unbounded_channel();
        let driver = runtime.clone();
        runtime.spawn(Box::pin(async move {
            loop {
                turn.send(()).expect("somebody counts");
                tokio::select! {
                    Some(()) = events.recv() => (),
                    () = driver.sleep(Duration::from_secs(3600)) => (),
                    else => break,
                }
            }
        }));
        turns.recv().await.expect("it has begun");
        event.send(()).await.expect("it is there");
        // Time stands still but while everyone waits: this long nothing else happens.
        tokio::time::sleep(Duration::from_secs(1)).await;
        std::iter::from_fn(|| turns.try_recv().ok()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn the_driver_goes_around_again_only_where_packets_may_be_relayed() {
        assert_eq!(turns(false).await, 1);
        assert_eq!(turns(true).await, 1 + usize::from(TURNS));
    }
}

//! A network between peers and a signaling server that can break.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// Carries bytes between peers and the server until it is told to cut all of its connections, and not while it is shut.
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    cut: watch::Sender<u32>,
    shut: watch::Sender<bool>,
    _task: JoinSet<()>,
}

impl Wire {
    pub(crate) async fn to(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let cut = watch::Sender::new(0);
        let cutter = Arc::new(cut.clone());
        let (shut, is_shut) = watch::channel(false);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut carried = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let mut cut = cutter.subscribe();
                if *is_shut.borrow() {
                    continue;
                }
                carried.spawn(async move {
                    let Ok(mut far) = TcpStream::connect(server).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Ok(Self { address, cut, shut, _task: task })
    }

    /// Who connects is cut off at once, or not any more.
    #[allow(dead_code, reason = "not every test needs it")]
    pub(crate) fn shut(&self, shut: bool) {
        self.shut.send_replace(shut);
    }

    #[allow(dead_code, reason = "not every test needs it")]
    pub(crate) fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

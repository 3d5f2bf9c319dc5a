//! How is a public list kept up to date on native? By a thread that holds the connection, and shares the list.

use std::{
    future::pending,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::websocket::WebSocket;
use crate::{
    Signaller, SocketError, clock,
    lobbies::{Board, Input, Output},
};

/// How long the thread stays to close the connection orderly.
const CLOSING: Duration = Duration::from_secs(1);

/// The caller's end; the thread ends when it is dropped.
pub(crate) struct Running(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// There is something to do, or nothing any more.
    call: Notify,
}

struct State {
    board: Board,
    out: Vec<Output>,
    over: bool,
}

impl Running {
    pub(crate) fn start(url: String, board: impl FnOnce(Duration, u64) -> Board) -> Self {
        let call = Notify::new();
        // Which one of many this is, to spread them. The standard library has random keys for its maps.
        let seed = RandomState::new().build_hasher().finish();
        let state = State { board: board(clock::now(), seed), out: Vec::new(), over: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), call });
        let running = Self(shared.clone());
        let thread = std::thread::Builder::new().name("coplay-lobbies".into()).spawn(move || {
            match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
                Ok(runtime) => {
                    runtime.block_on(run(&shared, url));
                    runtime.shutdown_background();
                }
                Err(error) => shared.lock().board.fail(SocketError::Unavailable { reason: error.to_string() }),
            }
        });
        if let Err(error) = thread {
            let reason = format!("no thread can be started: {error}");
            running.0.lock().board.fail(SocketError::Unavailable { reason });
        }
        running
    }

    pub(crate) fn tell(&mut self, input: Input) {
        self.0.tell(input);
        self.0.call.notify_one();
    }

    pub(crate) fn with<T>(&mut self, act: impl FnOnce(&mut Board) -> T) -> T {
        act(&mut self.0.lock().board)
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&Board) -> T) -> T {
        look(&self.0.lock().board)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.call.notify_one();
    }
}

impl Shared {
    fn tell(&self, input: Input) {
        let mut state = self.lock();
        let outputs = state.board.handle(clock::now(), input);
        state.out.extend(outputs);
    }

    /// Held for a moment, never while waiting.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(shared: &Arc<Shared>, url: String) {
    let (mut socket, mut closed) = WebSocket::new(url);
    let caller = Arc::downgrade(shared);
    socket.set_waker(Arc::new(move || {
        if let Some(shared) = caller.upgrade() {
            shared.call.notify_one();
        }
    }));
    let mut input = Some(Input::Elapsed);
    loop {
        if let Some(input) = input.take() {
            shared.tell(input);
        }
        while let Some(event) = socket.poll() {
            shared.tell(Input::Signaller(event));
        }
        let (outputs, deadline) = {
            let mut state = shared.lock();
            if state.over {
                break;
            }
            (std::mem::take(&mut state.out), state.board.deadline())
        };
        for output in outputs {
            match output {
                Output::Dial(dial) => socket.dial(dial),
                Output::Send(message) => socket.send(message),
            }
        }
        let wait = deadline.map(|due| due.saturating_sub(clock::now()));
        tokio::select! {
            () = shared.call.notified() => {}
            () = async { match wait { Some(wait) => sleep(wait).await, None => pending().await } } => {
                input = Some(Input::Elapsed);
            }
        }
    }
    drop(socket);
    let _ = timeout(CLOSING, closed.recv()).await;
}

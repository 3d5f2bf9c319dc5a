//! How is a public list kept up to date in a browser? Whenever the game looks at it: a menu does so each frame.

use std::time::Duration;

use super::signaller::WebSocketSignaller;
use crate::{
    Signaller,
    clock::now,
    lobbies::{Board, Input, Output},
};

/// The list and its connection.
pub(crate) struct Running {
    board: Board,
    signaller: WebSocketSignaller,
}

impl Running {
    pub(crate) fn start(url: String, board: impl FnOnce(Duration, u64) -> Board) -> Self {
        let mut running =
            Self { board: board(now(), js_sys::Math::random().to_bits()), signaller: WebSocketSignaller::new(url) };
        running.tell(Input::Elapsed);
        running
    }

    pub(crate) fn tell(&mut self, input: Input) {
        for output in self.board.handle(now(), input) {
            match output {
                Output::Dial(dial) => self.signaller.dial(dial),
                Output::Send(message) => self.signaller.send(message),
            }
        }
    }

    pub(crate) fn with<T>(&mut self, act: impl FnOnce(&mut Board) -> T) -> T {
        while let Some(event) = self.signaller.poll() {
            self.tell(Input::Signaller(event));
        }
        if self.board.deadline().is_some_and(|deadline| deadline <= now()) {
            self.tell(Input::Elapsed);
        }
        act(&mut self.board)
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&Board) -> T) -> T {
        look(&self.board)
    }
}

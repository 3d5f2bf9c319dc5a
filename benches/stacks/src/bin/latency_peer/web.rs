//! Side B as a page.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use bytes::Bytes;
use coplay_bench_stacks::{
    channels::{self, Channels},
    program::{each_frame, failed, say, text},
};
use coplay_proto::Lane;
use js_sys::Uint8Array;
use serde_json::json;
use tokio::sync::Notify;
use wasm_bindgen_futures::spawn_local;
use web_sys::RtcDataChannelState;

use crate::{
    PROGRAM,
    events::{self, Events},
    port::{Port, echo},
    sockets::Sockets,
};

pub(crate) fn run() {
    spawn_local(async {
        if let Err(reason) = play().await {
            failed(PROGRAM, &reason);
        }
    });
}

async fn play() -> Result<(), String> {
    let address = text("address")?;
    let room = format!("ws://{address}/{}", text("room")?);
    match text("stack")?.as_str() {
        "coplay_socket" => {
            let port = Sockets::meet(&room).await?;
            opened();
            echo(port).await
        }
        "coplay_event_60hz" => {
            let (mut events, mut told) = (Events::meet(&room), false);
            each_frame(move || {
                if let Err(reason) = events::echo(&mut events) {
                    failed(PROGRAM, &reason);
                }
                if events.is_open() && !std::mem::replace(&mut told, events.is_open()) {
                    opened();
                }
            });
            Ok(())
        }
        "webrtc" => {
            let port = Raw::meet(&format!("ws://{address}/"))?;
            opened();
            echo(port).await
        }
        other => Err(format!("no browser has the stack {other:?}")),
    }
}

fn opened() {
    say(PROGRAM, &json!({ "event": "open" }));
}

/// The browser's channels alone.
struct Raw {
    channels: Channels,
    came: Rc<RefCell<VecDeque<(Lane, Bytes)>>>,
    woken: Rc<Notify>,
}

impl Raw {
    fn meet(url: &str) -> Result<Self, String> {
        let (came, woken) = (Rc::<RefCell<VecDeque<_>>>::default(), Rc::new(Notify::new()));
        let (queue, wakes) = (came.clone(), woken.clone());
        let heard = move |number: u16, bytes: Uint8Array| {
            let lane = if number == 0 { Lane::Unreliable } else { Lane::Reliable };
            queue.borrow_mut().push_back((lane, Bytes::from(bytes.to_vec())));
            wakes.notify_one();
        };
        let channels = channels::answer(url, &[false, true], heard, |reason| failed(PROGRAM, &reason))?;
        Ok(Self { channels, came, woken })
    }
}

impl Port for Raw {
    async fn next(&mut self) -> Result<(Lane, Bytes), String> {
        loop {
            if let Some(came) = self.came.borrow_mut().pop_front() {
                return Ok(came);
            }
            if self.channels.channels.iter().any(|channel| channel.ready_state() == RtcDataChannelState::Closed) {
                return Err("a channel is closed".to_owned());
            }
            self.woken.notified().await;
        }
    }

    async fn send(&mut self, lane: Lane, bytes: Bytes) -> Result<(), String> {
        let number = usize::from(lane == Lane::Reliable);
        let channel = self.channels.channels.get(number).ok_or("there is no such channel")?;
        channel.send_with_u8_array(&bytes).map_err(|error| format!("{error:?}"))
    }
}

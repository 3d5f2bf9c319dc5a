//! How a peer talks with the desk: it posts what it has reached, and gets its next order in answer.

use std::sync::{Arc, Mutex, PoisonError};

use bevy_ecs::resource::Resource;
use coplay_tests::crossplay::{Order, Reached, parameter};

#[cfg(not(target_arch = "wasm32"))]
use self::native as platform;
#[cfg(target_arch = "wasm32")]
use self::web as platform;

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod web;

pub(crate) use platform::{monotonic_millis, wall_millis, when_told_to_join};

/// Who this peer is, and where it goes.
#[derive(Resource, Clone, Debug)]
pub(crate) struct Parameters {
    pub(crate) name: String,
    /// `HOST:PORT`. A page has no need of it: it came from there.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) desk: String,
    pub(crate) signaling: String,
    pub(crate) room: String,
    pub(crate) host: bool,
    /// Whether `matchbox_socket` makes the connections.
    pub(crate) matchbox: bool,
    pub(crate) peers: usize,
}

impl Parameters {
    fn read(value: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let needed = |name: &str| value(name).ok_or_else(|| format!("the parameter `{name}` is missing"));
        Ok(Self {
            name: needed(parameter::NAME)?,
            #[cfg(not(target_arch = "wasm32"))]
            desk: needed(parameter::DESK)?,
            signaling: needed(parameter::SIGNALING)?,
            room: needed(parameter::ROOM)?,
            host: needed(parameter::TOPOLOGY)? == "host",
            matchbox: needed(parameter::TRANSPORT)? == "matchbox",
            peers: needed(parameter::PEERS)?.parse().map_err(|_| "`peers` is a number".to_owned())?,
        })
    }

    fn path(&self) -> String {
        format!("/reached/{}", self.name)
    }
}

/// The order that is to come, once the desk has given it.
#[derive(Resource, Clone, Debug, Default)]
pub(crate) struct Mailbox(Arc<Mutex<Option<Result<Order, String>>>>);

impl Mailbox {
    /// Posts that this peer has reached a stage; the answer comes into the mailbox.
    pub(crate) fn post(&self, parameters: &Parameters, reached: &Reached) {
        let mailbox = self.clone();
        let answered = move |answer| *mailbox.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        match serde_json::to_string(reached) {
            Ok(body) => platform::post(parameters.clone(), body, answered),
            Err(error) => answered(Err(error.to_string())),
        }
    }

    /// The answer, once.
    pub(crate) fn take(&self) -> Option<Result<Order, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn order(answer: &str) -> Result<Order, String> {
    serde_json::from_str(answer).map_err(|error| format!("the desk answered {answer:?}: {error}"))
}

//! What happens on the WebSocket of somebody who looks at the public list?

use std::{sync::Arc, time::Duration};

use axum::extract::ws::Utf8Bytes;
use coplay_proto::signal::{ClientMessage, ServerMessage, SignalError};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{Lobbies, Watcher};
use crate::{
    budget::Budget,
    peer::{End, line::Line},
    wire,
};

/// How long a watcher is told nothing after it was told something: so a lobby comes twice a second at the most.
const PAUSE: Duration = Duration::from_millis(500);
/// How many questions may be asked at once, and how often then.
const QUESTIONS: (u32, Duration) = (20, Duration::from_millis(200));

/// Answers and tells what is new, until one of the two ends it.
pub(crate) async fn serve(mut line: Line, lobbies: Arc<Lobbies>) {
    let end = match exchange(&mut line, &lobbies).await {
        Ok(never) => match never {},
        Err(end) => end,
    };
    line.end(end).await;
}

async fn exchange(line: &mut Line, lobbies: &Lobbies) -> Result<std::convert::Infallible, End> {
    let mut changes = lobbies.changes();
    let mut questions = Budget::new(QUESTIONS.0, QUESTIONS.1, Instant::now());
    let mut watcher: Option<Watcher> = None;
    let mut news = false;
    let mut next_news = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = sleep_until(next_news), if news => {
                news = false;
                changes.mark_unchanged();
                let messages = watcher.as_mut().map(|watcher| watcher.news(lobbies)).unwrap_or_default();
                if !messages.is_empty() {
                    next_news = Instant::now() + PAUSE;
                }
                for message in messages {
                    line.say(&ServerMessage::News(message)).await?;
                }
            }
            () = changed(&mut changes), if watcher.is_some() && !news => news = true,
            heard = line.hear() => if let Some(text) = heard? {
                match read(&text)? {
                    ClientMessage::KeepAlive => (),
                    _ if !questions.take(Instant::now()) => return Err(End::Refused(SignalError::TooMuch)),
                    ClientMessage::Watch(filter) => (watcher, news) = (Some(Watcher::new(filter)), true),
                    ClientMessage::List(query) => line.say(&ServerMessage::Page(lobbies.page(&query))).await?,
                    _ => return Err(End::Refused(wire::malformed("this is no room: say Watch or List here"))),
                }
            },
        }
    }
}

fn read(text: &Utf8Bytes) -> Result<ClientMessage, End> {
    serde_json::from_str(text).map_err(|error| End::Refused(wire::malformed(error)))
}

/// Comes when there is a change. The sender is there as long as the list.
async fn changed(changes: &mut watch::Receiver<u64>) {
    if changes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

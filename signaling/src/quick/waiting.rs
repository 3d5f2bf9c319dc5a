//! What happens on the WebSocket of a peer that waits for a quick match?

use std::{sync::Arc, time::Duration};

use coplay_proto::signal::{ClientMessage, ServerMessage};

use super::{Ticket, Told};
use crate::{
    peer::{self, End, Rules, line::Line},
    room::Entry,
    shares::Share,
    wire::{self, close},
};

/// Who was heard in so short a time is there, and need not answer a ping.
const JUST_HEARD: Duration = Duration::from_secs(2);

/// Waits, and goes on in the room that comes of it.
pub(crate) async fn serve(mut line: Line, mut ticket: Ticket, rules: Arc<Rules>, share: Share) {
    tracing::debug!("waits for a quick match");
    let outcome = wait(&mut line, &mut ticket).await;
    drop((ticket, share));
    match outcome {
        Ok(entry) => peer::serve(line.into_socket(), Box::new(entry), true, rules),
        Err(end) => line.end(end).await,
    }
}

async fn wait(line: &mut Line, ticket: &mut Ticket) -> Result<Entry, End> {
    ticket.enter();
    let mut before = Told::default();
    // The trial for which a ping is on its way.
    let mut owed = None;
    loop {
        tokio::select! {
            biased;
            answer = &mut ticket.answer => return match answer {
                Ok(Ok(entry)) => Ok(entry),
                Ok(Err(error)) => Err(End::Refused(error)),
                Err(_) => Err(End::Closed(close::SILENT, "the peer did not prove in time that it is there")),
            },
            // Once the queue has let go of the ticket, the answer is all that comes.
            Ok(()) = ticket.told.changed() => {
                let told = *ticket.told.borrow_and_update();
                if told.trial != before.trial {
                    if line.heard_within(JUST_HEARD) {
                        ticket.alive(told.trial);
                    } else {
                        owed = Some(told.trial);
                        line.ping().await?;
                    }
                }
                if let Some(status) = told.status.filter(|_| told.status != before.status) {
                    line.say(&ServerMessage::Waiting(status)).await?;
                }
                before = told;
            }
            heard = line.hear() => {
                let text = heard?;
                if let Some(trial) = owed.take() {
                    ticket.alive(trial);
                }
                match text.map(|text| serde_json::from_str(&text)) {
                    None | Some(Ok(ClientMessage::KeepAlive)) => (),
                    Some(Ok(ClientMessage::Cancel)) => return Err(End::Closed(close::NORMAL, "cancelled")),
                    Some(Ok(_)) => return Err(End::Refused(wire::malformed("there is no room yet: wait, or say Cancel"))),
                    Some(Err(error)) => return Err(End::Refused(wire::malformed(error))),
                }
            }
        }
    }
}

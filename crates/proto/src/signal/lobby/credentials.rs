//! What does a peer show to signaling that must not be in a URL? WebSocket subprotocols that it offers besides ours.

use super::{MAX_PASSWORD, MAX_TICKET, Password, Ticket, TooLong};
use crate::{
    Term,
    signal::{SUBPROTOCOL, relay},
};

/// The WebSocket subprotocols to offer: ours, and what must not be in a URL, where proxies write it down. The server
/// selects ours and answers with none of the others.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The room's password: asked for where there is one, and set where the room is made.
    pub password: Option<Password>,
    /// What a server that asks for tickets is shown.
    pub ticket: Option<Ticket>,
    /// Whether the seat is to be kept when the connection is lost.
    pub resumable: bool,
    /// The token of the seat to come back to.
    pub resume: Option<String>,
    /// What proves which id the peer had, [`Welcome::secret`](crate::signal::Welcome::secret): it gets that one again, also
    /// where the seat is gone, and from a server that was started anew.
    pub secret: Option<String>,
    /// The peer led the room in this term, before the server was started anew. Counts with [`Self::secret`] only.
    pub led: Option<Term>,
    /// Whether the peer takes [relayed frames](relay).
    pub relays: bool,
}

/// Before the password, in hex digits of its UTF-8.
const PASSWORD: &str = "coplay.password.";
/// Before the ticket, in hex digits as well.
const TICKET: &str = "coplay.ticket.";
/// Says that the seat is to be kept. With a dot and the token behind: which seat to come back to.
const RESUME: &str = "coplay.resume";
/// Before the secret of an id.
const ID: &str = "coplay.id.";
/// Before the term in which the peer led.
const LED: &str = "coplay.led.";

impl Credentials {
    /// What to offer, ours first.
    pub fn subprotocols(&self) -> Vec<String> {
        let mut offers = vec![SUBPROTOCOL.to_owned()];
        if let Some(password) = &self.password {
            offers.push(format!("{PASSWORD}{}", hex(password.expose())));
        }
        if let Some(ticket) = &self.ticket {
            offers.push(format!("{TICKET}{}", hex(ticket.expose())));
        }
        match &self.resume {
            Some(token) => offers.push(format!("{RESUME}.{token}")),
            None if self.resumable => offers.push(RESUME.to_owned()),
            None => {}
        }
        if let Some(secret) = &self.secret {
            offers.push(format!("{ID}{secret}"));
        }
        if let Some(Term(term)) = self.led {
            offers.push(format!("{LED}{term}"));
        }
        if self.relays {
            offers.push(relay::OFFER.to_owned());
        }
        offers
    }

    /// What was offered.
    ///
    /// # Errors
    /// The password or the ticket is none.
    pub fn read<'a>(offers: impl IntoIterator<Item = &'a str>) -> Result<Self, TooLong> {
        let mut credentials = Self::default();
        for offer in offers {
            if let Some(hex) = offer.strip_prefix(PASSWORD) {
                credentials.password = Some(unhex(hex, MAX_PASSWORD).ok_or(TooLong::Password)?.into());
            } else if let Some(hex) = offer.strip_prefix(TICKET) {
                credentials.ticket = Some(unhex(hex, MAX_TICKET).ok_or(TooLong::Ticket)?.into());
            } else if offer == relay::OFFER {
                credentials.relays = true;
            } else if offer == RESUME {
                credentials.resumable = true;
            } else if let Some(token) = offer.strip_prefix(RESUME).and_then(|rest| rest.strip_prefix('.')) {
                credentials.resumable = true;
                credentials.resume = Some(token.to_owned());
            } else if let Some(secret) = offer.strip_prefix(ID) {
                credentials.secret = Some(secret.to_owned());
            } else if let Some(term) = offer.strip_prefix(LED) {
                credentials.led = term.parse().ok().map(Term);
            }
        }
        Ok(credentials)
    }
}

impl core::fmt::Debug for Credentials {
    /// Without the secrets.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Credentials")
            .field("password", &self.password.is_some())
            .field("ticket", &self.ticket.is_some())
            .field("resumable", &self.resumable)
            .field("resume", &self.resume.is_some())
            .field("secret", &self.secret.is_some())
            .field("led", &self.led)
            .field("relays", &self.relays)
            .finish()
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// What the digits stand for: 1 to `most` bytes of UTF-8.
fn unhex(hex: &str, most: usize) -> Option<String> {
    let fits = (2..=2 * most).contains(&hex.len()) && hex.len().is_multiple_of(2);
    if !fits || !hex.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let digits = hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok());
    String::from_utf8(digits.collect::<Option<_>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_is_read_again_and_is_made_of_token_characters() {
        let credentials = Credentials {
            password: Some("pässword, \"x\"".into()),
            ticket: Some("1000-ab, \"x\"".into()),
            resumable: true,
            resume: Some("a-b_c".into()),
            secret: Some("d-e_f".into()),
            led: Some(Term(7)),
            relays: true,
        };
        let offers = credentials.subprotocols();
        assert_eq!(offers.first().map(String::as_str), Some("coplay.v1"));
        // RFC 9110, section 5.6.2.
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        assert!(offers.iter().all(|offer| offer.chars().all(token)), "{offers:?}");
        assert_eq!(Credentials::read(offers.iter().map(String::as_str)), Ok(credentials.clone()));
        assert!(!format!("{credentials:?}").contains("ssword, "), "{credentials:?}");
        assert!(!format!("{credentials:?} {:?}", credentials.ticket).contains("1000"), "{credentials:?}");
        assert!(!format!("{credentials:?}").contains("d-e_f"), "{credentials:?}");
        assert_eq!(Credentials::read(["coplay.led.x", "coplay.led.-1"]), Ok(Credentials::default()), "no terms");
        let first = Credentials { resumable: true, ..Credentials::default() };
        assert_eq!(first.subprotocols(), ["coplay.v1", "coplay.resume"]);
        assert_eq!(Credentials::read(["coplay.v1", "coplay.resume", "other"]), Ok(first));
        assert_eq!(Credentials::default().subprotocols(), ["coplay.v1"]);
        for bad in ["", "0", "zz", "ff", "€€", &"61".repeat(MAX_PASSWORD + 1)] {
            assert_eq!(Credentials::read([format!("{PASSWORD}{bad}").as_str()]), Err(TooLong::Password), "{bad}");
            assert_eq!(Credentials::read([format!("{TICKET}{bad}").as_str()]), Err(TooLong::Ticket), "{bad}");
        }
    }
}

//! Who is let in by a server that asks for tickets? Whoever the game's own server signed one for.
//!
//! A ticket is `EXPIRY-MAC`: seconds since 1970 until which it holds, and the HMAC-SHA256 (RFC 2104) of `EXPIRY:ROOM`
//! under the shared secret in hexadecimal digits. `ROOM` is the room's name, or `*` for any room.

use std::{
    fmt::Write,
    time::{Duration, SystemTime},
};

use coplay_proto::signal::SignalError;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::Secret;

/// The shortest secret, in bytes: guessing it is as hard as guessing a code of 16 letters and digits.
pub const MIN_TICKET_SECRET: usize = 16;

/// Stands for any room: no room has that name.
const ANY: &str = "*";

/// A ticket that lets in whoever shows it ([`Credentials::ticket`](coplay_proto::signal::lobby::Credentials::ticket), or
/// `?ticket=..`) until `expiry`: into `room`; or, if that is `None`, into any, quick matches and the public list.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// let until = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
/// let ticket = coplay_signaling::ticket(&"a secret of sixteen or more".into(), Some("lobby"), until);
/// assert!(ticket.starts_with("2000000000-"));
/// ```
pub fn ticket(secret: &Secret, room: Option<&str>, expiry: SystemTime) -> String {
    let expiry = expiry.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
    let mut ticket = format!("{expiry}-");
    for byte in signer(secret, &expiry, room.unwrap_or(ANY)).finalize().into_bytes() {
        let _ = write!(ticket, "{byte:02x}");
    }
    ticket
}

/// Whether `ticket` lets in to `room` (`None`: one that is to be made) at `now`. It takes as long for every wrong one.
pub(crate) fn check(
    secret: &Secret,
    ticket: Option<&str>,
    room: Option<&str>,
    now: SystemTime,
) -> Result<(), SignalError> {
    let refused = |detail: &str| Err(SignalError::TicketRefused { detail: detail.into() });
    let Some(ticket) = ticket else {
        return refused(
            "get one from the game's server, and show it as the setting `ticket`, or as ?ticket=.. in the URL",
        );
    };
    let Some((expiry, mac)) = ticket.split_once('-') else {
        return refused("a ticket is EXPIRY-MAC");
    };
    let (Ok(until), Some(mac)) = (expiry.parse::<u64>(), bytes(mac)) else {
        return refused("a ticket is EXPIRY-MAC");
    };
    let fits = |room: &str| signer(secret, expiry, room).verify_slice(&mac).is_ok();
    // Both, always.
    let (here, anywhere) = (room.is_some_and(fits), fits(ANY));
    if !here && !anywhere {
        return refused("this one is not for this room, or was not made with this server's secret");
    }
    // What was signed is known to be ours only now.
    match SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(until)) {
        Some(until) if until > now => Ok(()),
        _ => refused("this one has expired: get a new one"),
    }
}

fn signer(secret: &Secret, expiry: &str, room: &str) -> Hmac<Sha256> {
    // HMAC takes keys of any length.
    let mut signer = <Hmac<Sha256> as Mac>::new_from_slice(secret.expose().as_bytes())
        .unwrap_or_else(|_| <Hmac<Sha256> as Mac>::new(&Default::default()));
    signer.update(expiry.as_bytes());
    signer.update(b":");
    signer.update(room.as_bytes());
    signer
}

/// The 32 bytes that 64 hexadecimal digits stand for.
fn bytes(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digits.len() != 64 || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn secret() -> Secret {
        "north by northwest".into()
    }

    #[test]
    fn a_ticket_holds_for_its_room_until_it_expires() {
        let lobby = ticket(&secret(), Some("lobby"), at(1000));
        let any = ticket(&secret(), None, at(1000));
        let check = |ticket: &str, room, now| check(&secret(), Some(ticket), room, at(now)).is_ok();
        assert!(check(&lobby, Some("lobby"), 999) && !check(&lobby, Some("lobby"), 1000));
        assert!(!check(&lobby, Some("lobbx"), 999) && !check(&lobby, None, 999), "another room");
        assert!(check(&any, Some("lobby"), 999) && check(&any, None, 999) && !check(&any, None, 1000));
        let other = ticket(&"south by southeast".into(), None, at(1000));
        assert!(!check(&other, None, 999), "another secret");
        let later = lobby.replacen("1000", "9000", 1);
        assert!(!check(&later, Some("lobby"), 999), "the time is signed as well");
    }

    #[test]
    fn anyone_with_openssl_can_make_one() {
        // printf %s '1000:lobby' | openssl dgst -sha256 -hmac 'north by northwest' -hex
        let mac = "fc6350249c0ec9574da8d5b3bfd1f083c0c4ac13978090ba279368d4ac1d22d1";
        assert_eq!(ticket(&secret(), Some("lobby"), at(1000)), format!("1000-{mac}"));
    }

    #[test]
    fn what_is_no_ticket_is_refused_with_what_to_do() {
        for no_ticket in ["", "-", "1000", "1000-", "1000-zz", "x-00", "99999999999999999999999-00"] {
            let error = check(&secret(), Some(no_ticket), None, at(0)).unwrap_err();
            assert!(error.to_string().contains("EXPIRY-MAC"), "{no_ticket}: {error}");
        }
        assert!(check(&secret(), None, None, at(0)).unwrap_err().to_string().contains("?ticket="));
        let odd = format!("1000-{}", "ä".repeat(32));
        assert!(check(&secret(), Some(&odd), None, at(0)).is_err());
    }
}

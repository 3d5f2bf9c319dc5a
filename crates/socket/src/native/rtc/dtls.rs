//! Is this the peer, and does nobody else hear or change what is said? DTLS 1.2 (RFC 6347, RFC 8827), by `rtc-dtls`.
//!
//! A peer is who holds the key of the certificate that its description names by a digest; anybody else is refused. `flights`
//! stands before the machine, and when a flight is sent again is decided here: after a round trip or so, and not after a
//! second (RFC 6347, section 4.2.4.1, lets one choose), and at once when the peer repeats itself.

use std::{
    collections::VecDeque,
    fmt,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rtc_dtls::{
    config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType},
    crypto::Certificate,
    endpoint::{Endpoint, EndpointEvent},
    extension::extension_use_srtp::SrtpProtectionProfile,
};
use rtc_ice::crypto::{RTCCryptoProvider, default_provider};
use rtc_shared::{TransportProtocol, error::Error};
use sha2::{Digest, Sha256};

use super::flights::{ALERT, APPLICATION_DATA, Flights, HANDSHAKE, records};

/// The endpoint knows its peer by an address; here there is one, whichever way its packets go.
const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));
/// How often a flight is sent again: one less would be the end for `rtc-dtls` (7).
const MOST_REPEATS: u32 = 7;
/// The bounds of the wait before a flight is sent again for the first time, and of the later ones; how long it is where the
/// round trip is not known, and what the peer may need to reckon.
const FIRST_WAIT: (Duration, Duration) = (Duration::from_millis(80), Duration::from_secs(1));
const LONGEST_WAIT: Duration = Duration::from_millis(1500);
const UNKNOWN: Duration = Duration::from_millis(60);
const RECKONING: Duration = Duration::from_millis(40);
/// What the machine takes for its own timer: less than any wait above.
const TICK: Duration = Duration::from_millis(1);
/// The least time between two answers to a peer that repeats itself.
const LEAST_REPEAT: Duration = Duration::from_millis(30);
/// Records in one datagram: the least MTU of IPv6 less its headers and a relay's.
const MTU: usize = 1200;
/// Browsers may offer keys for media, and a server that knows none of their profiles has to refuse.
const PROFILES: [SrtpProtectionProfile; 2] =
    [SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm, SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80];

/// The certificate by which a socket is known to its peers: one for all of them, made anew with each socket.
pub(in crate::native) struct Identity {
    certificate: Certificate,
    fingerprint: Fingerprint,
    crypto: Arc<dyn RTCCryptoProvider>,
}

/// The SHA-256 of a certificate (RFC 8122, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::native) struct Fingerprint([u8; 32]);

/// Why there is no secure connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DtlsError {
    #[error("who answers has another certificate than the peer's description names")]
    NotThePeer,
    #[error("the DTLS handshake failed: {0}")]
    Handshake(Error),
}

/// What came of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The peer is who it is to be; data can be sent.
    Secure,
    Data(BytesMut),
    /// The peer has ended it.
    Closed,
}

impl Identity {
    /// A new key (ECDSA, P-256) and certificate.
    pub(in crate::native) fn new() -> Result<Self, String> {
        let crypto = default_provider().map_err(|error| error.to_string())?;
        let certificate = Certificate::generate_self_signed(vec!["coplay".to_owned()], crypto.crypto())
            .map_err(|error| error.to_string())?;
        let fingerprint = certificate.certificate.first().map(|der| Fingerprint::of(der));
        let fingerprint = fingerprint.ok_or_else(|| "no certificate could be made".to_owned())?;
        Ok(Self { certificate, fingerprint, crypto })
    }

    pub(in crate::native) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(in crate::native) fn crypto(&self) -> Arc<dyn RTCCryptoProvider> {
        self.crypto.clone()
    }
}

impl Fingerprint {
    /// Of a certificate (DER).
    pub(in crate::native) fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    /// Reads the attribute's value; `None` if it is of another hash, or malformed.
    pub(super) fn read(value: &str) -> Option<Self> {
        let (hash, digest) = value.split_once(' ')?;
        if !hash.eq_ignore_ascii_case("sha-256") {
            return None;
        }
        let mut bytes = [0; 32];
        let mut pairs = digest.trim().split(':');
        for byte in &mut bytes {
            let pair = pairs.next().filter(|pair| pair.len() == 2 && pair.bytes().all(|it| it.is_ascii_hexdigit()))?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        pairs.next().is_none().then_some(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(at, byte)| {
            let colon = if at > 0 { ":" } else { "" };
            write!(f, "{colon}{byte:02X}")
        })
    }
}

/// One side of it.
pub(super) struct Dtls {
    endpoint: Endpoint,
    flights: Flights,
    peer: Arc<[Fingerprint]>,
    secure: bool,
    /// When the last flight is sent again, how often it was, and when it was sent.
    due: Option<Instant>,
    repeats: u32,
    sent: Instant,
    wait: Duration,
    out: VecDeque<BytesMut>,
}

impl Dtls {
    /// Begins as client, which speaks first, or waits as server. `round_trip` is that of the path, if it is known.
    pub(super) fn new(
        now: Instant,
        identity: &Identity,
        client: bool,
        peer: Arc<[Fingerprint]>,
        round_trip: Option<Duration>,
    ) -> Result<Self, DtlsError> {
        let known = peer.clone();
        let config = ConfigBuilder::default()
            .with_crypto_provider(identity.crypto())
            .with_certificates(vec![identity.certificate.clone()])
            .with_srtp_protection_profiles(PROFILES.to_vec())
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            // No authority vouches for a peer, its description does.
            .with_insecure_skip_verify(true)
            .with_verify_peer_certificate(Some(Arc::new(move |certificates: &[Vec<u8>], _: &[_]| {
                if is_one_of(certificates, &known) { Ok(()) } else { Err(Error::ErrNoMatchingCertificateFingerprint) }
            })))
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .with_flight_interval(TICK)
            .with_mtu(MTU)
            .build(client, None)
            .map_err(DtlsError::Handshake)?;
        let config = Arc::new(config);
        let server = (!client).then(|| config.clone());
        let mut dtls = Self {
            endpoint: Endpoint::new(PEER, TransportProtocol::UDP, server),
            flights: Flights::new(client),
            peer,
            secure: false,
            due: None,
            repeats: 0,
            sent: now,
            wait: (round_trip.unwrap_or(UNKNOWN) * 3 / 2 + RECKONING).clamp(FIRST_WAIT.0, FIRST_WAIT.1),
            out: VecDeque::new(),
        };
        if client {
            dtls.endpoint.connect(now, PEER, config, None).map_err(DtlsError::Handshake)?;
            dtls.flush(now);
        }
        Ok(dtls)
    }

    /// Takes in a datagram.
    pub(super) fn handle_input(&mut self, now: Instant, datagram: &[u8]) -> Result<Vec<Heard>, DtlsError> {
        let mut heard = Vec::new();
        if self.secure && !records(datagram).any(|record| record.content == HANDSHAKE) {
            // The machine ends the connection over what it cannot read, so it gets only what it can, or what has the keys.
            let data = |content| matches!(content, APPLICATION_DATA | ALERT);
            for record in records(datagram).filter(|record| record.epoch > 0 && data(record.content)) {
                self.read(now, record.bytes, &mut heard)?;
            }
            return Ok(heard);
        }
        let verdict = self.flights.take(datagram);
        if self.secure && now.saturating_duration_since(self.sent) < LEAST_REPEAT {
            return Ok(heard);
        }
        for datagram in &verdict.datagrams {
            self.read(now, datagram, &mut heard)?;
        }
        if verdict.repeats
            && verdict.datagrams.is_empty()
            && !self.secure
            && now.saturating_duration_since(self.sent) >= LEAST_REPEAT
        {
            self.repeat(now)?;
        }
        self.flush(now);
        Ok(heard)
    }

    /// Sends data, if the connection is secure.
    pub(super) fn send(&mut self, now: Instant, data: &[u8]) {
        if self.secure && self.endpoint.write(now, PEER, data).is_ok() {
            self.drain();
        }
    }

    /// Says goodbye.
    pub(super) fn close(&mut self, now: Instant) {
        let _ = self.endpoint.close(now);
        self.drain();
    }

    pub(super) fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.out.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsError> {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            self.repeat(now)?;
        }
        Ok(())
    }

    fn read(&mut self, now: Instant, datagram: &[u8], heard: &mut Vec<Heard>) -> Result<(), DtlsError> {
        let events = match self.endpoint.read(now, PEER, None, BytesMut::from(datagram)) {
            Ok(events) => events,
            // An alert, or what only who has the keys can have sent.
            Err(_) if self.secure => {
                heard.push(Heard::Closed);
                return Ok(());
            }
            Err(Error::ErrNoMatchingCertificateFingerprint) => return self.refuse(DtlsError::NotThePeer),
            Err(error) => return self.refuse(DtlsError::Handshake(error)),
        };
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => self.complete(now, heard)?,
                EndpointEvent::ApplicationData(data) => heard.push(Heard::Data(data)),
                EndpointEvent::PeerClosed => heard.push(Heard::Closed),
                _ => {}
            }
        }
        Ok(())
    }

    /// The handshake is over. Whatever it let pass: without the certificate that is expected there is no connection.
    fn complete(&mut self, now: Instant, heard: &mut Vec<Heard>) -> Result<(), DtlsError> {
        let state = self.endpoint.get_connection_state(PEER);
        if !state.is_some_and(|state| is_one_of(&state.peer_certificates, &self.peer)) {
            return self.refuse(DtlsError::NotThePeer);
        }
        self.secure = true;
        self.due = None;
        heard.push(Heard::Secure);
        // What goes before it in the order of things: our last flight, if it is ours.
        self.drain();
        self.sent = now;
        for early in self.flights.finish() {
            self.read(now, &early, heard)?;
        }
        Ok(())
    }

    /// What the machine says to it, an alert, still goes out.
    fn refuse(&mut self, why: DtlsError) -> Result<(), DtlsError> {
        self.drain();
        Err(why)
    }

    /// Sends the last flight again.
    fn repeat(&mut self, now: Instant) -> Result<(), DtlsError> {
        let Some(armed) = self.endpoint.poll_timeout(&PEER) else { return Ok(()) };
        if self.repeats >= MOST_REPEATS {
            return Ok(());
        }
        self.repeats += 1;
        self.endpoint.handle_timeout(PEER, armed.max(now)).map_err(DtlsError::Handshake)?;
        self.drain();
        self.arm(now);
        Ok(())
    }

    /// Takes what the machine has to say; if it is a flight, it is sent again later.
    fn flush(&mut self, now: Instant) {
        if self.drain() {
            self.repeats = 0;
            self.arm(now);
        }
    }

    fn drain(&mut self) -> bool {
        let before = self.out.len();
        while let Some(transmit) = self.endpoint.poll_transmit() {
            self.out.push_back(transmit.message);
        }
        self.out.len() > before
    }

    fn arm(&mut self, now: Instant) {
        self.sent = now;
        let grown = (0..self.repeats).fold(self.wait, |wait, _| wait * 3 / 2);
        self.due = (!self.secure).then(|| now + grown.min(LONGEST_WAIT));
    }
}

/// Whether the first certificate, which is the peer's own, is one that is expected.
fn is_one_of(certificates: &[Vec<u8>], expected: &[Fingerprint]) -> bool {
    certificates.first().is_some_and(|certificate| expected.contains(&Fingerprint::of(certificate)))
}

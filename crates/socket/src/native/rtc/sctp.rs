//! How do messages of both lanes share one path? By SCTP (RFC 9260, RFC 8831), by `dcsctp`.
//!
//! How much state is sent is decided by coplay's links, which measure the path; a window of SCTP's own that falls to one packet
//! with each loss would only hold datagrams back. So it is large, and datagrams that cannot go at once are given up.

use std::time::{Duration, Instant};

use bytes::Bytes;
use coplay_proto::Lane;
use dcsctp::api::{
    DcSctpSocket, Message, Options, PpId, SendOptions, Socket, SocketEvent, SocketTime, StreamId,
    ZERO_CHECKSUM_ALTERNATE_ERROR_DETECTION_METHOD_LOWER_LAYER_DTLS,
};

use super::description::SCTP_PORT;

/// The kinds of messages (RFC 8831, section 8), by their payload protocol identifier. SCTP has no empty ones.
const STRING: PpId = PpId(51);
const BINARY: PpId = PpId(53);
const EMPTY_STRING: PpId = PpId(56);
const EMPTY_BINARY: PpId = PpId(57);

/// What is received and not taken: the peer's window. Once it is full behind a gap, dcsctp 0.1 takes nothing any more, not even what
/// fills the gap, and it does not say when there is room again. So it is far more than a peer has on its way.
const RECEIVE_WINDOW: usize = 4 * 1024 * 1024;
/// The most packets of data that are on their way or wait: less than half of a MiB, so that no peer's window is ever full for
/// another reason than that it takes nothing. Some 10 MB/s over a round trip of 50 ms.
const IN_FLIGHT: usize = 512;
/// The most bytes of reliable messages that wait to be sent for the first time; the queue before it fills up then.
const RELIABLE_QUEUED: usize = 128 * 1024;
/// The most bytes of datagrams that wait, which they do only while the window is full. What comes on top is lost here and now: a
/// state that is older than the next one is worth nothing.
const UNRELIABLE_QUEUED: usize = 32 * 1024;
/// The bounds of how long they may wait: a round trip and a quarter, in which a full window opens if nothing is lost.
const UNRELIABLE_LIFETIME: (Duration, Duration) = (Duration::from_millis(40), Duration::from_millis(120));
/// The congestion window, in packets, at first and after a loss. Loss says little of a path (wireless ones lose without being
/// full); coplay's own pace and bulk's own window, both by delay, keep it from being too much.
const WINDOW: usize = 32;
/// Below this window, in packets, each packet is acked at once (RFC 7053): all but bulk on a fast path. That keeps the
/// retransmission timer short also with browsers, which otherwise ack after 200 ms.
const ACKED_AT_ONCE: usize = 64;
/// How long a peer of ours waits to ack, else: for data to go along.
const ACK_DELAY: Duration = Duration::from_millis(20);
/// The bounds of the retransmission timer, and what it has on top of the round trip at least: 4 / 8 of the last. When it goes off,
/// the window is one packet and all is sent again, so it is longer than three packets take to tell of a loss, and than browsers
/// may take to ack. Events and state do not wait for it: their links know sooner what is lost.
const LEAST_TIMEOUT: Duration = Duration::from_millis(220);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3);
const LEAST_VARIANCE: Duration = Duration::from_millis(80);
/// The least time until a connection that is not answered is asked for again.
const FIRST_TIMEOUT: Duration = Duration::from_millis(80);
/// The retransmission timer at first, where the round trip is not known, and how long it becomes by backing off: on a path that
/// loses, the next try is as likely to get through as the one before.
const UNKNOWN: Duration = Duration::from_millis(150);
const BACKED_OFF: Duration = Duration::from_millis(500);
/// Their share of what is sent (RFC 8260, section 3.6), so that a datagram waits for one packet of bulk at the most.
const PRIORITIES: [(Lane, u16); 2] = [(Lane::Unreliable, 4096), (Lane::Reliable, 64)];

/// What it has to say.
#[derive(Debug)]
pub(super) enum Said {
    Packet(Vec<u8>),
    /// The peer closed it, or one of its channels.
    Closed,
}

/// One side of it.
pub(super) struct Sctp {
    socket: Socket,
    /// Where its time begins.
    epoch: Instant,
    /// How long a datagram may wait.
    lifetime: Duration,
}

impl Sctp {
    /// Begins to connect; so does the other side (RFC 8841, section 9.3). `round_trip` is that of the path, if it is known.
    pub(super) fn connect(now: Instant, remote_port: u16, round_trip: Option<Duration>) -> Self {
        let first = round_trip.map_or(UNKNOWN, |rtt| (rtt * 3 / 2 + ACK_DELAY).clamp(FIRST_TIMEOUT, LONGEST_TIMEOUT));
        let options = Options {
            local_port: SCTP_PORT,
            remote_port,
            // Each stream that a peer uses costs memory: two of them are ours.
            announced_maximum_incoming_streams: 16,
            announced_maximum_outgoing_streams: 16,
            max_message_size: 256 * 1024,
            max_receiver_window_buffer_size: RECEIVE_WINDOW,
            max_send_buffer_size: 4 * RELIABLE_QUEUED,
            per_stream_send_queue_limit: 2 * RELIABLE_QUEUED,
            rto_initial: first.max(LEAST_TIMEOUT),
            rto_min: LEAST_TIMEOUT,
            rto_max: LONGEST_TIMEOUT,
            t1_init_timeout: first,
            t1_cookie_timeout: first,
            max_timer_backoff_duration: Some(BACKED_OFF.max(first * 3)),
            // ICE says whether the peer is there.
            heartbeat_interval: Duration::ZERO,
            max_retransmissions: None,
            max_init_retransmits: None,
            delayed_ack_max_timeout: ACK_DELAY,
            min_rtt_variance: LEAST_VARIANCE,
            cwnd_mtus_initial: WINDOW,
            cwnd_mtus_min: WINDOW,
            immediate_sack_under_cwnd_mtus: ACKED_AT_ONCE,
            max_burst: 16,
            enable_message_interleaving: true,
            // DTLS has seen to it that nothing was changed (RFC 9653).
            zero_checksum_alternate_error_detection_method:
                ZERO_CHECKSUM_ALTERNATE_ERROR_DETECTION_METHOD_LOWER_LAYER_DTLS,
            ..Options::default()
        };
        let mut socket = Socket::new("", &options);
        for (lane, priority) in PRIORITIES {
            socket.set_stream_priority(stream(lane), priority);
        }
        socket.connect();
        let (least, most) = UNRELIABLE_LIFETIME;
        Self { socket, epoch: now, lifetime: (round_trip.unwrap_or_default() * 5 / 4).clamp(least, most) }
    }

    pub(super) fn handle_input(&mut self, now: Instant, packet: &[u8]) {
        self.advance(now);
        self.socket.handle_input(packet);
    }

    /// Sends a message, if need be as soon as the peer can take it; what there is no room for is lost: see [`Self::has_room`].
    pub(super) fn send(&mut self, now: Instant, lane: Lane, bytes: &Bytes) {
        self.advance(now);
        if lane == Lane::Unreliable && self.socket.buffered_amount(stream(lane)) >= UNRELIABLE_QUEUED {
            return;
        }
        let (ppid, payload) = if bytes.is_empty() { (EMPTY_BINARY, vec![0]) } else { (BINARY, bytes.to_vec()) };
        let options = match lane {
            Lane::Unreliable => SendOptions {
                unordered: true,
                lifetime: Some(self.lifetime),
                max_retransmissions: Some(0),
                lifecycle_id: None,
            },
            Lane::Reliable => SendOptions::default(),
        };
        let _ = self.socket.send(Message::new(stream(lane), ppid, payload), &options);
    }

    /// Whether another reliable message may be sent.
    pub(super) fn has_room(&self) -> bool {
        let unacked = || self.socket.get_metrics().map_or(0, |metrics| metrics.unack_data_count);
        self.socket.buffered_amount(stream(Lane::Reliable)) < RELIABLE_QUEUED && unacked() < IN_FLIGHT
    }

    /// Whether all that was sent has arrived.
    pub(super) fn is_idle(&self) -> bool {
        let waits = PRIORITIES.iter().any(|(lane, _)| self.socket.buffered_amount(stream(*lane)) > 0);
        !waits && self.socket.get_metrics().is_none_or(|metrics| metrics.unack_data_count == 0)
    }

    /// The next message that came.
    pub(super) fn receive(&mut self) -> Option<(Lane, Bytes)> {
        loop {
            let message = self.socket.get_next_message()?;
            let lane = match message.stream_id {
                StreamId(0) => Lane::Unreliable,
                StreamId(1) => Lane::Reliable,
                _ => continue,
            };
            match message.ppid {
                BINARY | STRING => return Some((lane, message.payload.into())),
                EMPTY_BINARY | EMPTY_STRING => return Some((lane, Bytes::new())),
                // Such as a wish to open a channel: there are two, and they are open.
                _ => {}
            }
        }
    }

    pub(super) fn poll(&mut self) -> Option<Said> {
        loop {
            return Some(match self.socket.poll_event()? {
                SocketEvent::SendPacket(packet) => Said::Packet(packet),
                SocketEvent::OnClosed() | SocketEvent::OnAborted(..) => Said::Closed,
                SocketEvent::OnIncomingStreamReset(streams)
                    if streams.is_empty() || streams.iter().any(|stream| stream.0 <= 1) =>
                {
                    Said::Closed
                }
                _ => continue,
            });
        }
    }

    /// Ends it at once; the peer is told.
    pub(super) fn close(&mut self) {
        self.socket.close();
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = self.socket.poll_timeout();
        (due < SocketTime::infinite_future()).then(|| self.epoch + (due - SocketTime::zero()))
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    fn advance(&mut self, now: Instant) {
        self.socket.advance_time(SocketTime::zero() + now.saturating_duration_since(self.epoch));
    }
}

fn stream(lane: Lane) -> StreamId {
    match lane {
        Lane::Unreliable => StreamId(0),
        Lane::Reliable => StreamId(1),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn what_is_on_its_way_stays_well_below_the_window_however_fast_the_path_is() {
        const COUNT: usize = 160;
        const SIZE: usize = 16 * 1024;
        let start = Instant::now();
        let mut now = start;
        let mut sides = [(); 2].map(|()| Sctp::connect(now, SCTP_PORT, Some(Duration::from_millis(50))));
        let mut wire = VecDeque::<(Instant, usize, Vec<u8>)>::new();
        let (mut sent, mut came, mut most) = (0, 0, 0);
        while came < COUNT {
            assert!(now < start + Duration::from_secs(10), "{came} of {sent} came");
            while sent < COUNT && sides[0].has_room() {
                sides[0].send(now, Lane::Reliable, &vec![7; SIZE].into());
                sent += 1;
            }
            for (number, side) in sides.iter_mut().enumerate() {
                while let Some(said) = side.poll() {
                    let Said::Packet(packet) = said else { panic!("{said:?}") };
                    wire.push_back((now + Duration::from_millis(25), 1 - number, packet));
                }
                while side.receive().is_some() {
                    came += 1;
                }
            }
            most = most.max((sent - came) * SIZE);
            now += Duration::from_millis(1);
            while let Some((_, to, packet)) = wire.pop_front_if(|(at, ..)| *at <= now) {
                sides[to].handle_input(now, &packet);
            }
            sides.iter_mut().for_each(|side| side.handle_timeout(now));
        }
        // What has come and is not known to have come counts as well.
        assert!((256 * 1024..RECEIVE_WINDOW / 4).contains(&most), "{most}");
    }
}

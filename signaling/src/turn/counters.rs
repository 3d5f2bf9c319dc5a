//! What has the embedded TURN server done so far? For a page of metrics, and for tests.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counted since the start; nothing here is exact to the packet at any moment, and nothing waits for it.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Binding requests (STUN) that were answered.
    pub(crate) bindings: AtomicU64,
    /// Requests without credentials, which were told what to sign.
    pub(crate) challenges: AtomicU64,
    /// Allocations that were made.
    pub(crate) allocated: AtomicU64,
    /// Requests with credentials that are wrong, expired or revoked.
    pub(crate) refused_credentials: AtomicU64,
    /// Allocations beyond a quota, and for want of a port.
    pub(crate) refused_quota: AtomicU64,
    /// Permissions, channels and datagrams to or from addresses that are not relayed to.
    pub(crate) refused_address: AtomicU64,
    /// Packets of clients without an allocation that were more than such may send.
    pub(crate) dropped_strangers: AtomicU64,
    /// Datagrams beyond the rate of their allocation.
    pub(crate) dropped_rate: AtomicU64,
    /// Packets that are neither STUN nor `ChannelData`, or make no sense.
    pub(crate) dropped_malformed: AtomicU64,
    /// Payload passed on from clients.
    pub(crate) bytes_from_clients: AtomicU64,
    /// Payload passed on to clients.
    pub(crate) bytes_to_clients: AtomicU64,
    /// Packets that made the `turn` crate panic. Each is a bug there; all but the packet went well.
    pub(crate) panics: AtomicU64,
}

/// Counts one more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// Counts so much more.
pub(crate) fn count_bytes(counter: &AtomicU64, bytes: usize) {
    counter.fetch_add(bytes as u64, Relaxed);
}

/// What the embedded TURN server has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayStats {
    /// Allocations there are now.
    pub allocations: u64,
    /// Allocations that were made.
    pub allocated: u64,
    /// Binding requests (STUN) that were answered.
    pub bindings: u64,
    /// Requests without credentials, which were told what to sign.
    pub challenges: u64,
    /// Requests with credentials that are wrong, expired or revoked.
    pub refused_credentials: u64,
    /// Allocations beyond a quota, and for want of a port.
    pub refused_quota: u64,
    /// Permissions, channels and datagrams to or from addresses that are not relayed to.
    pub refused_address: u64,
    /// Packets of clients without an allocation that were more than such may send.
    pub dropped_strangers: u64,
    /// Datagrams beyond the rate of their allocation.
    pub dropped_rate: u64,
    /// Packets that are neither STUN nor `ChannelData`, or make no sense.
    pub dropped_malformed: u64,
    /// Payload passed on from clients, in bytes.
    pub bytes_from_clients: u64,
    /// Payload passed on to clients, in bytes.
    pub bytes_to_clients: u64,
    /// Packets that made the TURN library panic, and harmed nothing else.
    pub panics: u64,
}

impl Counters {
    pub(crate) fn read(&self, allocations: usize) -> RelayStats {
        let value = |counter: &AtomicU64| counter.load(Relaxed);
        RelayStats {
            allocations: allocations as u64,
            allocated: value(&self.allocated),
            bindings: value(&self.bindings),
            challenges: value(&self.challenges),
            refused_credentials: value(&self.refused_credentials),
            refused_quota: value(&self.refused_quota),
            refused_address: value(&self.refused_address),
            dropped_strangers: value(&self.dropped_strangers),
            dropped_rate: value(&self.dropped_rate),
            dropped_malformed: value(&self.dropped_malformed),
            bytes_from_clients: value(&self.bytes_from_clients),
            bytes_to_clients: value(&self.bytes_to_clients),
            panics: value(&self.panics),
        }
    }
}

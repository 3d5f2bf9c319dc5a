//! How is the network doing? Bevy diagnostics, over all peers that this one is connected with.

use bevy_app::{App, Plugin, PreUpdate};
use bevy_diagnostic::{Diagnostic, DiagnosticPath, Diagnostics, RegisterDiagnostic};
use bevy_ecs::{
    schedule::IntoScheduleConfigs,
    system::{Local, Query, Res},
};
use bevy_time::{Real, Time};

use crate::{event_counts::EventCounts, peers::PeerPath, schedule::NetSystems};

/// Measures [`Self::RTT`], [`Self::JITTER`], [`Self::LOSS`], [`Self::LOSS_RECEIVED`], [`Self::QUEUEING`], [`Self::BYTES_IN`] and
/// [`Self::BYTES_OUT`], and shows the [`EventCounts`]: [`Self::EVENTS_UNSENT`], [`Self::EVENTS_EARLY`] and
/// [`Self::EVENTS_UNSEEN`].
#[derive(Clone, Copy, Debug, Default)]
pub struct NetDiagnosticsPlugin;

impl NetDiagnosticsPlugin {
    /// The mean round trip, in milliseconds.
    pub const RTT: DiagnosticPath = DiagnosticPath::const_new("net/rtt");
    /// The mean deviation of a round trip, in milliseconds.
    pub const JITTER: DiagnosticPath = DiagnosticPath::const_new("net/jitter");
    /// The mean share of our datagrams that are lost, in percent.
    pub const LOSS: DiagnosticPath = DiagnosticPath::const_new("net/loss");
    /// The mean share of the others' datagrams that are lost, in percent.
    pub const LOSS_RECEIVED: DiagnosticPath = DiagnosticPath::const_new("net/loss_received");
    /// How long datagrams wait on the fullest path, in milliseconds.
    pub const QUEUEING: DiagnosticPath = DiagnosticPath::const_new("net/queueing");
    /// Bytes received a second.
    pub const BYTES_IN: DiagnosticPath = DiagnosticPath::const_new("net/bytes_in");
    /// Bytes sent a second.
    pub const BYTES_OUT: DiagnosticPath = DiagnosticPath::const_new("net/bytes_out");
    /// [`EventCounts::unsent`](field@EventCounts::unsent).
    pub const EVENTS_UNSENT: DiagnosticPath = DiagnosticPath::const_new("net/events_unsent");
    /// [`EventCounts::early`].
    pub const EVENTS_EARLY: DiagnosticPath = DiagnosticPath::const_new("net/events_early");
    /// [`EventCounts::unseen`].
    pub const EVENTS_UNSEEN: DiagnosticPath = DiagnosticPath::const_new("net/events_unseen");
}

impl Plugin for NetDiagnosticsPlugin {
    fn build(&self, app: &mut App) {
        app.register_diagnostic(Diagnostic::new(Self::RTT).with_suffix(" ms"))
            .register_diagnostic(Diagnostic::new(Self::JITTER).with_suffix(" ms"))
            .register_diagnostic(Diagnostic::new(Self::LOSS).with_suffix(" %"))
            .register_diagnostic(Diagnostic::new(Self::LOSS_RECEIVED).with_suffix(" %"))
            .register_diagnostic(Diagnostic::new(Self::QUEUEING).with_suffix(" ms"))
            .register_diagnostic(Diagnostic::new(Self::BYTES_IN).with_suffix(" B/s"))
            .register_diagnostic(Diagnostic::new(Self::BYTES_OUT).with_suffix(" B/s"))
            .register_diagnostic(Diagnostic::new(Self::EVENTS_UNSENT))
            .register_diagnostic(Diagnostic::new(Self::EVENTS_EARLY))
            .register_diagnostic(Diagnostic::new(Self::EVENTS_UNSEEN))
            .init_resource::<EventCounts>()
            .add_systems(PreUpdate, measure.after(NetSystems::Apply));
    }
}

/// Links tell what they measured about four times a second, so there is nothing new in between.
const PERIOD: f64 = 0.25;

/// Bytes in and out so far, and when that was counted, in seconds.
#[derive(Default)]
struct Before {
    seconds: f64,
    received: u64,
    sent: u64,
}

fn measure(
    paths: Query<&PeerPath>,
    events: Res<EventCounts>,
    time: Res<Time<Real>>,
    mut before: Local<Before>,
    mut diagnostics: Diagnostics,
) {
    let seconds = time.elapsed_secs_f64();
    let passed = seconds - before.seconds;
    if passed < PERIOD {
        return;
    }
    let direct = || paths.iter().filter(|path| path.kind.is_some());
    let (mut rtt, mut jitter, mut loss, mut loss_received, mut queueing) = (0.0, 0.0, 0.0, 0.0, 0.0_f64);
    let (mut received, mut sent) = (0, 0);
    for path in direct() {
        rtt += path.rtt.as_secs_f64();
        jitter += path.jitter.as_secs_f64();
        loss += f64::from(path.loss);
        loss_received += f64::from(path.loss_received);
        queueing = queueing.max(path.queueing.as_secs_f64());
        received += path.bytes_received;
        sent += path.bytes_sent;
    }
    let peers = direct().count() as f64;
    if peers > 0.0 {
        diagnostics.add_measurement(&NetDiagnosticsPlugin::RTT, || rtt / peers * 1000.0);
        diagnostics.add_measurement(&NetDiagnosticsPlugin::JITTER, || jitter / peers * 1000.0);
        diagnostics.add_measurement(&NetDiagnosticsPlugin::LOSS, || loss / peers * 100.0);
        diagnostics.add_measurement(&NetDiagnosticsPlugin::LOSS_RECEIVED, || loss_received / peers * 100.0);
        diagnostics.add_measurement(&NetDiagnosticsPlugin::QUEUEING, || queueing * 1000.0);
    }
    diagnostics.add_measurement(&NetDiagnosticsPlugin::EVENTS_UNSENT, || events.unsent as f64);
    diagnostics.add_measurement(&NetDiagnosticsPlugin::EVENTS_EARLY, || events.early as f64);
    diagnostics.add_measurement(&NetDiagnosticsPlugin::EVENTS_UNSEEN, || events.unseen as f64);
    // Who leaves takes its bytes along.
    let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / passed;
    diagnostics.add_measurement(&NetDiagnosticsPlugin::BYTES_IN, || rate(received, before.received));
    diagnostics.add_measurement(&NetDiagnosticsPlugin::BYTES_OUT, || rate(sent, before.sent));
    *before = Before { seconds, received, sent };
}

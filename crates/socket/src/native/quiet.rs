//! What do the libraries below log? Every packet, some of them, at the level of what a player should know. So it is not
//! passed on, unless who looks for a fault asks: `RUST_LOG=coplay_socket=trace`.

use tracing::{Dispatch, Level, dispatcher::DefaultGuard};

/// Until this is dropped nothing that this thread logs is heard, by `tracing` or by `log` that goes there. Not to be held
/// while waiting.
#[must_use]
pub(super) fn quiet() -> Option<DefaultGuard> {
    (!tracing::enabled!(Level::TRACE)).then(|| tracing::dispatcher::set_default(&Dispatch::none()))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tracing::{Event, Metadata, Subscriber, span};

    use super::*;

    /// Counts the events that reach it, of a level or above.
    struct Count(Arc<AtomicUsize>, Level);

    impl Subscriber for Count {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.level() <= &self.1
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, _: &Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    /// How much is heard of what is logged while it is quiet, and after it.
    fn heard(level: Level) -> [usize; 2] {
        let count = Arc::new(AtomicUsize::new(0));
        tracing::subscriber::with_default(Count(count.clone(), level), || {
            let guard = quiet();
            tracing::error!("a packet of 28 bytes");
            drop(guard);
            let before = count.load(Ordering::Relaxed);
            tracing::error!("the game's own");
            [before, count.load(Ordering::Relaxed) - before]
        })
    }

    #[test]
    fn what_lies_below_is_heard_by_who_asks_for_it_alone() {
        assert_eq!(heard(Level::INFO), [0, 1]);
        assert_eq!(heard(Level::TRACE), [1, 1]);
    }
}

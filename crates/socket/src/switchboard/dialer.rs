//! Signaling is not there: when is it dialled again, and in which dialect?

use std::time::Duration;

use coplay_proto::signal::SignalError;

use crate::{Dialect, Down};

/// Delay before the second attempt; it doubles from one to the next.
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// The longest delay.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// What to do about it.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// Dial again now, in the dialect that is now the one.
    AtOnce,
    /// Dial again later; why.
    After(Duration, String),
    /// Give up: refused, or not reached.
    Never(Result<SignalError, String>),
}

/// The memory of one socket's dialling.
#[derive(Debug)]
pub(crate) struct Dialer {
    /// The dialect that is certain: given, or spoken once.
    certain: Option<Dialect>,
    dialect: Dialect,
    attempts: u32,
    failures: u32,
    entered: bool,
    random: u64,
}

impl Dialer {
    pub(crate) fn new(certain: Option<Dialect>, attempts: u32, seed: u64) -> Self {
        let dialect = certain.unwrap_or(Dialect::Coplay);
        Self { certain, dialect, attempts: attempts.max(1), failures: 0, entered: false, random: seed | 1 }
    }

    /// The one to dial.
    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The server spoke the dialect.
    pub(crate) fn entered(&mut self) {
        self.entered = true;
        self.failures = 0;
        self.certain = Some(self.dialect);
    }

    pub(crate) fn down(&mut self, down: Down) -> Next {
        let other_dialect = matches!(down, Down::WrongDialect | Down::Unknown(_));
        if other_dialect && self.certain.is_none() && self.dialect == Dialect::Coplay {
            self.dialect = Dialect::Matchbox;
            return Next::AtOnce;
        }
        let reason = match down {
            // These pass by themselves.
            Down::Refused(error @ (SignalError::TooMuch | SignalError::ServerFull | SignalError::Stopping)) => {
                error.to_string()
            }
            Down::Refused(error) => return Next::Never(Ok(error)),
            Down::WrongDialect => "it does not speak coplay's dialect".into(),
            Down::Lost(reason) | Down::Unknown(reason) => reason,
        };
        self.failures += 1;
        self.dialect = self.certain.unwrap_or(Dialect::Coplay);
        if !self.entered && self.failures >= self.attempts {
            return Next::Never(Err(reason));
        }
        Next::After(self.delay(), reason)
    }

    /// Doubled each time, and spread over half of it: the peers of a lost server do not come back all at once.
    fn delay(&mut self) -> Duration {
        let doubled = FIRST_DELAY * 2u32.pow(self.failures.saturating_sub(1).min(16));
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let share = 512 + u32::try_from(self.random % 512).unwrap_or(0);
        doubled.min(LONGEST_DELAY) * share / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> Down {
        Down::Lost("refused".into())
    }

    #[test]
    fn a_server_without_our_dialect_is_dialled_again_at_once_in_the_other() {
        let mut dialer = Dialer::new(None, 3, 7);
        assert_eq!(dialer.dialect(), Dialect::Coplay);
        assert_eq!(dialer.down(Down::WrongDialect), Next::AtOnce);
        assert_eq!(dialer.dialect(), Dialect::Matchbox);
        dialer.entered();
        assert!(matches!(dialer.down(lost()), Next::After(..)));
        assert_eq!(dialer.dialect(), Dialect::Matchbox, "what was spoken once is remembered");
    }

    #[test]
    fn a_browser_that_cannot_tell_tries_both_dialects_before_it_waits() {
        let mut dialer = Dialer::new(None, 3, 7);
        assert_eq!(dialer.down(Down::Unknown(String::new())), Next::AtOnce);
        assert!(matches!(dialer.down(Down::Unknown(String::new())), Next::After(..)));
        assert_eq!(dialer.dialect(), Dialect::Coplay);
    }

    #[test]
    fn delays_grow_to_a_limit_and_the_first_entry_has_a_last_attempt() {
        let mut dialer = Dialer::new(Some(Dialect::Coplay), 20, 7);
        let mut delays = Vec::new();
        let end = loop {
            match dialer.down(lost()) {
                Next::After(delay, _) => delays.push(delay),
                end => break end,
            }
        };
        assert_eq!(end, Next::Never(Err("refused".into())));
        assert_eq!(delays.len(), 19);
        assert!(delays[0] >= FIRST_DELAY / 2 && delays[0] <= FIRST_DELAY, "{delays:?}");
        assert!(delays[18] >= LONGEST_DELAY / 2 && delays[18] <= LONGEST_DELAY, "{delays:?}");
    }

    #[test]
    fn once_entered_it_never_gives_up_unless_refused() {
        let mut dialer = Dialer::new(None, 1, 7);
        dialer.entered();
        for _ in 0..100 {
            assert!(matches!(dialer.down(lost()), Next::After(..)));
        }
        for passes in [SignalError::ServerFull, SignalError::Stopping, SignalError::TooMuch] {
            assert!(matches!(dialer.down(Down::Refused(passes)), Next::After(..)));
        }
        let full = SignalError::RoomFull { max: 4 };
        assert_eq!(dialer.down(Down::Refused(full.clone())), Next::Never(Ok(full)));
    }
}

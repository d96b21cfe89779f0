//! When to stop. Nothing else here knows a clock, and without the feature `clock` there is none: time stands still.

use std::time::Duration;

/// A moment to stop at, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Duration>);

impl Deadline {
    /// Whatever takes as long as it takes.
    pub const NONE: Self = Self(None);

    /// So much time from now; without the feature `clock`, never.
    pub fn after(time: Duration) -> Self {
        Self(now().and_then(|now| now.checked_add(time)))
    }

    /// Whether it is past.
    pub fn is_past(self) -> bool {
        self.left() == Some(Duration::ZERO)
    }

    /// How much time is left, if there is a deadline.
    pub fn left(self) -> Option<Duration> {
        Some(self.0?.saturating_sub(now()?))
    }
}

/// Time since a moment that is the same for the whole process.
#[cfg(feature = "clock")]
fn now() -> Option<Duration> {
    use std::sync::OnceLock;
    use std::time::Instant;

    static BEGAN: OnceLock<Instant> = OnceLock::new();
    Some(BEGAN.get_or_init(Instant::now).elapsed())
}

#[cfg(not(feature = "clock"))]
fn now() -> Option<Duration> {
    None
}

#[cfg(all(test, feature = "clock"))]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_past_when_its_time_is_up() {
        assert!(Deadline::after(Duration::ZERO).is_past());
        let later = Deadline::after(Duration::from_secs(1000));
        assert!(!later.is_past() && later.left() <= Some(Duration::from_secs(1000)));
        assert_eq!(Deadline::after(Duration::MAX), Deadline::NONE);
        assert!(!Deadline::NONE.is_past() && Deadline::NONE.left().is_none());
    }
}

//! Memory that runs share which train at the same time.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex, PoisonError};

/// Memory that runs share.
pub(super) struct SharedMemory {
    all: u64,
    held: Mutex<u64>,
    given_back: Condvar,
}

impl SharedMemory {
    pub(super) fn new(all: u64) -> Self {
        Self { all, held: Mutex::new(0), given_back: Condvar::new() }
    }

    /// Does something that needs so much, once there is so much, or nothing else that holds any.
    pub(super) fn hold(&self, needs: u64, work: impl FnOnce()) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |held: &mut u64| *held > 0 && held.saturating_add(needs) > self.all;
        *self.given_back.wait_while(held, fits).unwrap_or_else(PoisonError::into_inner) += needs;
        let ended = catch_unwind(AssertUnwindSafe(work));
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) -= needs;
        self.given_back.notify_all();
        ended.unwrap_or_else(|panic| resume_unwind(panic));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn memory_is_shared_by_what_fits_and_what_never_fits_runs_alone() {
        let memory = SharedMemory::new(10);
        let most = AtomicUsize::new(0);
        let running = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for needs in [6, 4, 5, 20, 6] {
                let (memory, most, running) = (&memory, &most, &running);
                scope.spawn(move || {
                    memory.hold(needs, || {
                        let now = running.fetch_add(needs as usize, Ordering::SeqCst) + needs as usize;
                        most.fetch_max(if now == 20 { 0 } else { now }, Ordering::SeqCst);
                        std::thread::yield_now();
                        running.fetch_sub(needs as usize, Ordering::SeqCst);
                    });
                });
            }
        });
        assert!(most.into_inner() <= 10);
        assert_eq!(*memory.held.lock().unwrap(), 0);
    }
}

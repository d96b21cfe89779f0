//! A budget of memory and time for foreign programs: chat templates, and the rules of a tokenizer, which may double a
//! text over and over.
//!
//! An engine that offers no hook into its own values is bounded from outside. The work runs on a thread of its own,
//! and [`Metered`], the allocator of the `ftk` command, counts what that thread asks for. Whoever asks for more than
//! its budget gets no answer: the thread is stopped where it stands, for good, and its caller gets an error. What it
//! held is not given back, which is at most the budget. Without [`Metered`] as the program's allocator only time is
//! bounded.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use ftk_adapters::blocks::LargeBlocks;

/// What a piece of work may use up.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Bytes asked for in all, those given back included: bounds memory, and the work of filling it.
    pub bytes: u64,
    /// Wall time.
    pub time: Duration,
}

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// [`Budget::bytes`] are used up.
    #[error("takes more bytes of memory than {0}")]
    Bytes(u64),
    /// [`Budget::time`] is used up.
    #[error("takes more seconds than {}", .0.as_secs())]
    Time(Duration),
    /// The work panicked: whoever wrote what does it had not thought of this.
    #[error("is more than what runs it can take")]
    Panic,
}

const RUNNING: u8 = 0;
const ENDED: u8 = 1;
const OVER_BYTES: u8 = 2;
const OVER_TIME: u8 = 3;

/// What the work and its caller tell each other.
struct Progress {
    state: AtomicU8,
    caller: Thread,
}

impl Progress {
    /// Leaves `RUNNING` for another state, once.
    fn leave(&self, state: u8) {
        let _ = self.state.compare_exchange(RUNNING, state, Ordering::AcqRel, Ordering::Acquire);
        self.caller.unpark();
    }
}

/// What a thread at work has left, and whom to tell when it is used up; null on every other thread.
#[derive(Clone, Copy)]
struct Meter {
    left: u64,
    progress: *const Progress,
}

const UNMETERED: Meter = Meter { left: 0, progress: std::ptr::null() };

thread_local! {
    static METER: Cell<Meter> = const { Cell::new(UNMETERED) };
}

/// Does some work within a budget.
///
/// # Errors
/// What was used up; a panic of the work.
///
/// # Panics
/// If no thread can be had.
pub fn within<T: Send + 'static>(budget: Budget, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Exceeded> {
    let progress = Arc::new(Progress { state: AtomicU8::new(RUNNING), caller: thread::current() });
    let end = Instant::now() + budget.time;
    let worker = {
        let progress = Arc::clone(&progress);
        thread::spawn(move || {
            /// Says that the work has ended, by a panic too.
            struct LeaveAtEnd(Arc<Progress>);
            impl Drop for LeaveAtEnd {
                fn drop(&mut self) {
                    METER.set(UNMETERED);
                    self.0.leave(ENDED);
                }
            }
            let end = LeaveAtEnd(progress);
            METER.set(Meter { left: budget.bytes, progress: Arc::as_ptr(&end.0) });
            work()
        })
    };
    loop {
        match progress.state.load(Ordering::Acquire) {
            RUNNING => match end.checked_duration_since(Instant::now()) {
                Some(left) => thread::park_timeout(left),
                None => progress.leave(OVER_TIME),
            },
            ENDED => return worker.join().map_err(|_| Exceeded::Panic),
            OVER_BYTES => return Err(Exceeded::Bytes(budget.bytes)),
            _ => return Err(Exceeded::Time(budget.time)),
        }
    }
}

/// [`LargeBlocks`], with an eye on threads that [`within`] started.
#[derive(Debug)]
pub struct Metered;

impl Metered {
    fn count(bytes: usize) {
        // A thread that is being taken down has no meter any more, and is not at work.
        let _ = METER.try_with(|meter| {
            let Meter { left, progress } = meter.get();
            // SAFETY: null, or the progress of the work on this thread, which lives until `End` has reset the meter.
            let Some(progress) = (unsafe { progress.as_ref() }) else { return };
            let stopped = progress.state.load(Ordering::Relaxed) != RUNNING;
            match left.checked_sub(bytes as u64) {
                Some(left) if !stopped => meter.set(Meter { left, progress }),
                // A panic is written down under locks that everybody needs.
                _ if thread::panicking() => {}
                _ => {
                    // Parking may allocate.
                    meter.set(UNMETERED);
                    progress.leave(OVER_BYTES);
                    loop {
                        thread::park();
                    }
                }
            }
        });
    }
}

// SAFETY: the other allocator does all of it; counting neither allocates on a metered thread nor unwinds.
unsafe impl GlobalAlloc for Metered {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size());
        // SAFETY: the caller's obligations are that allocator's.
        unsafe { LargeBlocks.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size());
        // SAFETY: as above.
        unsafe { LargeBlocks.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count(size);
        // SAFETY: as above.
        unsafe { LargeBlocks.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { LargeBlocks.dealloc(pointer, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: Metered = Metered;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn work_within_its_budget_gives_its_result() {
        let budget = Budget { bytes: 1 << 20, time: 60 * SECOND };
        assert_eq!(within(budget, || vec![1u8; 1 << 19].len()), Ok(1 << 19));
    }

    #[test]
    fn memory_given_back_counts_too() {
        let budget = Budget { bytes: 1 << 20, time: 60 * SECOND };
        let halves = |count: usize| (0..count).map(|_| vec![1u8; 1 << 19].len()).sum::<usize>();
        assert_eq!(within(budget, move || halves(1)), Ok(1 << 19));
        assert_eq!(within(budget, move || halves(3)), Err(Exceeded::Bytes(1 << 20)));
    }

    #[test]
    fn a_text_that_doubles_stops_before_the_memory_does() {
        let doubled = || {
            let mut text = "a".to_owned();
            while text.len() < 1 << 40 {
                text = format!("{text}{text}");
            }
            text
        };
        assert_eq!(within(Budget { bytes: 1 << 24, time: 60 * SECOND }, doubled), Err(Exceeded::Bytes(1 << 24)));
    }

    #[test]
    fn endless_work_is_left_behind() {
        let budget = Budget { bytes: u64::MAX, time: SECOND / 100 };
        let endless = || {
            loop {
                std::hint::black_box(Box::new(1));
            }
        };
        assert_eq!(within::<()>(budget, endless), Err(Exceeded::Time(SECOND / 100)));
    }

    #[test]
    fn a_panic_is_an_error() {
        let budget = Budget { bytes: 1 << 20, time: 60 * SECOND };
        assert_eq!(within::<()>(budget, || panic!("as a test wants it")), Err(Exceeded::Panic));
    }
}

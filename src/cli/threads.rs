//! The threads that share the work: rayon's.

use std::num::NonZero;
use std::thread::available_parallelism;

/// Makes the main thread one of them. It would otherwise hand over every loop and wait for it, which in small models takes
/// longer than the loop. A single thread stays beside it: what the main thread waits for may want somebody to compute.
pub(super) fn join() {
    let threads = count();
    if threads > 1 {
        // It fails where there is a pool already, which then stays as it is.
        rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build_global().ok();
    }
}

/// As many as rayon itself would take.
fn count() -> usize {
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|threads| threads.parse().ok());
    asked.filter(|&threads| threads > 0).unwrap_or_else(|| available_parallelism().map_or(1, NonZero::get))
}

//! The threads that share the work: rayon's.

use std::num::NonZero;
use std::thread::available_parallelism;

use crate::commands::Advice;

/// Makes the main thread one of them. It would otherwise hand over every loop and wait for it, which in small models takes
/// longer than the loop. With one thread it stays beside the pool: another thread may need that one while the main one
/// waits.
///
/// # Errors
/// Threads that the system does not give.
pub(super) fn join() -> Result<(), Advice> {
    let threads = count();
    if threads == 1 {
        return Ok(());
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build_global().map_err(|error| Advice {
        message: format!("cannot start {threads} threads: {error}"),
        hint: "set RAYON_NUM_THREADS to as many as this machine has to spare".to_owned(),
    })
}

/// As many as rayon takes by itself.
fn count() -> usize {
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|threads| threads.parse().ok());
    asked.filter(|&threads| threads > 0).unwrap_or_else(|| available_parallelism().map_or(1, NonZero::get))
}

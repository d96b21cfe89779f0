//! Independent pieces of work, one core each.
//!
//! halo2's multi-exponentiation shares one sum between threads by doubling each window on its own, which for our many
//! small columns is most of the work. One thread per proof costs about half as much in total.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use rayon::ThreadPoolBuilder;

/// Most pieces in work at a time; each proof takes up to half a gigabyte.
const MAX_WORKERS: usize = 4;

/// Runs `work` on `0..count`, in any order, and returns the results in order; in it, rayon has a single thread.
///
/// `progress` is called on this thread with (pieces done, pieces) before the first and after each.
pub(crate) fn map<T: Send>(
    count: usize,
    work: impl Fn(usize) -> T + Sync,
    progress: &mut dyn FnMut(usize, usize),
) -> Vec<T> {
    if cfg!(target_family = "wasm") {
        return in_place(count, work, progress);
    }
    let workers = rayon::current_num_threads().min(MAX_WORKERS).min(count);
    let next = AtomicUsize::new(0);
    let mut results: Vec<Option<T>> = (0..count).map(|_| None).collect();
    progress(0, count);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..workers {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                let pool = ThreadPoolBuilder::new().num_threads(1).build().expect("a thread can be started");
                pool.install(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= count || sender.send((index, work(index))).is_err() {
                            break;
                        }
                    }
                });
            });
        }
        drop(sender);
        for (done, (index, result)) in receiver.iter().enumerate() {
            results[index] = Some(result);
            progress(done + 1, count);
        }
    });
    results.into_iter().map(|result| result.expect("every index was taken by a worker")).collect()
}

/// The same on this thread, where there is no other.
fn in_place<T>(count: usize, work: impl Fn(usize) -> T, progress: &mut dyn FnMut(usize, usize)) -> Vec<T> {
    progress(0, count);
    let piece = |index: usize| {
        let result = work(index);
        progress(index + 1, count);
        result
    };
    (0..count).map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_progress_ends_at_the_count() {
        let mut seen = Vec::new();
        let results = map(7, |index| (index * index, rayon::current_num_threads()), &mut |done, _| seen.push(done));
        assert_eq!(results, (0..7).map(|index| (index * index, 1)).collect::<Vec<_>>());
        assert_eq!(seen, (0..=7).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_done_in_place_is_the_same() {
        let mut seen = Vec::new();
        let results = in_place(5, |index| index * index, &mut |done, all| seen.push((done, all)));
        assert_eq!(results, [0, 1, 4, 9, 16]);
        assert_eq!(seen, (0..=5).map(|done| (done, 5)).collect::<Vec<_>>());
    }

    #[test]
    fn no_work_is_no_result() {
        assert_eq!(map(0, |index| index, &mut |_, _| {}), Vec::<usize>::new());
    }
}

//! Products in bf16 on processors that have AVX512-BF16: by tiles of AMX where these may be used, too, otherwise by
//! `vdpbf16ps`. Both factors are put together for the kernel in words of two terms, group by group. Of a product with
//! weights, the left factor is put together once for all entries, the weights for the rows of each task.

mod ahead;
mod dots;
mod few;
mod kernel;
mod tiles;
mod words;

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use self::ahead::fetching;
pub(super) use self::dots::Dots;
pub(super) use self::few::{FEW, product as product_of_few, product_onto as product_of_few_onto};
use self::kernel::{Bf16Block, Bf16Kernel, WIDTH, WORDS, finish};
pub(super) use self::tiles::Tiles;
use self::words::{put_columns, put_pairs};
use super::super::product::{MatrixView, Onto};
use super::matrix::{Bf16Matrix, Bf16Side, GROUP};

/// Rows for which weights are put together anew: enough that doing it does not count. Whole strips of any kernel.
const TASK: usize = 1536;
/// Most rows of a strip.
const MOST_ROWS: usize = 32;
/// Tasks for each thread: none waits long for the last one, and the left factor, which all read, is not read often.
const TASKS: usize = 2;

thread_local! {
    /// What a thread has put together of the weights, and of the left factor of a product that it asked for.
    static ENTRIES: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    static LEFT: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// The result of all tasks.
#[derive(Clone, Copy)]
struct Bf16Target(*mut f32);

// SAFETY: tasks write to rows and columns of their own only.
unsafe impl Send for Bf16Target {}
// SAFETY: as above.
unsafe impl Sync for Bf16Target {}

/// As [`super::product`].
pub(super) fn product<K: Bf16Kernel>(kernel: K, x: &[f32], weight: Bf16Matrix<'_>, side: Bf16Side) -> Vec<f32> {
    const { assert!(TASK.is_multiple_of(K::ROWS) && K::ROWS <= MOST_ROWS) }
    let (terms, entries) = weight.sides(side);
    let (rows, groups) = (x.len() / terms, terms.div_ceil(GROUP));
    let x = MatrixView::new(x, terms);
    let mut result = Vec::with_capacity(rows * entries);
    // Kept between calls, and taken out while it is used: another product may run on this thread meanwhile.
    let mut left = LEFT.take();
    let strip = K::ROWS * groups * WORDS;
    let words = aligned(&mut left, rows.div_ceil(K::ROWS) * strip);
    let worth = rows * terms * entries > K::WORTH_A_THREAD;
    let put = |(index, to): (usize, &mut [u32])| {
        let first = index * K::ROWS;
        kernel.put_strip(to, x.rows(first, K::ROWS.min(rows - first)));
    };
    if worth {
        words.par_chunks_exact_mut(strip).enumerate().for_each(put);
    } else {
        words.chunks_exact_mut(strip).enumerate().for_each(put);
    }
    let words = &*words;
    let target = Bf16Target(result.as_mut_ptr());
    let shares = shares(entries.div_ceil(WIDTH), K::PANELS, if worth { rayon::current_num_threads() } else { 1 });
    let tasks = (0..rows).step_by(TASK).flat_map(|row| shares.iter().map(move |share| (row, share)));
    let one = |(row, share): (usize, &Range<usize>)| {
        let (rows, entry) = (row..rows.min(row + TASK), share.start * WIDTH);
        let width = entries.min(share.end * WIDTH) - entry;
        let task = Bf16Task { left: words, rows, groups, weight, side, entry, width, target, entries };
        // SAFETY: rows and entries lie in the result, which has room for all, and are this task's.
        kernel.during(|| unsafe { task.run(kernel) });
    };
    if worth {
        tasks.collect::<Vec<_>>().into_par_iter().for_each(one);
    } else {
        tasks.for_each(one);
    }
    LEFT.set(left);
    // SAFETY: there is room, and the tasks have written all rows and entries.
    unsafe { result.set_len(rows * entries) };
    result
}

/// So many panels in shares of at most `most`, of which two differ by one panel at most: as many shares for each thread, if
/// there are so many panels.
fn shares(panels: usize, most: usize, threads: usize) -> Vec<Range<usize>> {
    let least = if threads > 1 { TASKS * threads } else { 1 };
    let count = panels.div_ceil(most).max(least).next_multiple_of(threads).min(panels);
    (0..count).map(|index| index * panels / count..(index + 1) * panels / count).collect()
}

/// So many words, the first at the beginning of a line of the caches. What they are is not defined.
fn aligned(words: &mut Vec<u32>, count: usize) -> &mut [u32] {
    const LINE: usize = 64;
    let room = count + LINE / size_of::<u32>();
    if words.len() < room {
        words.resize(room, 0);
    }
    let first = words.as_ptr().align_offset(LINE);
    &mut words[first..][..count]
}

/// Puts a panel of weights together, from a term on: `width` entries from `entry` on, in so many groups as there is room.
fn put_panel<K: Bf16Kernel>(
    _: K,
    to: &mut [[u32; WIDTH]],
    (weight, side): (Bf16Matrix<'_>, Bf16Side),
    (entry, width): (usize, usize),
    first: usize,
) {
    // SAFETY: there is a kernel, which has found the instructions.
    unsafe {
        match side {
            Bf16Side::Inputs => put_columns::<K>(to, weight, (entry, width), first),
            Bf16Side::Outputs => put_pairs::<K>(to, weight, (entry, width), first),
        }
    }
}

/// Some rows times some panels of entries.
struct Bf16Task<'a> {
    left: &'a [u32],
    rows: Range<usize>,
    groups: usize,
    weight: Bf16Matrix<'a>,
    side: Bf16Side,
    entry: usize,
    width: usize,
    target: Bf16Target,
    entries: usize,
}

impl Bf16Task<'_> {
    /// Computes it, slice by slice.
    ///
    /// # Safety
    /// The result must have `entries` a row, the task's among them, and nobody else may use those; the caller is called by
    /// [`Bf16Kernel::during`].
    unsafe fn run<K: Bf16Kernel>(self, kernel: K) {
        let Self { left, rows, groups, weight, side, entry, width, target, entries } = self;
        let slice = groups.div_ceil(groups.div_ceil(K::SLICE));
        let mut right = ENTRIES.take();
        let panels = width.div_ceil(WIDTH);
        let (lanes, _) = aligned(&mut right, panels * slice * WORDS * WIDTH).as_chunks_mut::<WIDTH>();
        let blocks = rows.len().div_ceil(K::ROWS) * panels;
        for first in (0..groups).step_by(slice) {
            let count = slice.min(groups - first);
            // What is put together after this: the next slice, or the first one of the next task.
            let (then, at) = if first + count < groups { (first + count, entry) } else { (0, entry + width) };
            let next = weight.part(side, then * GROUP..(then + slice) * GROUP, at..at + width);
            let mut fetch = fetching(next, blocks);
            let panel = |index: usize| (entry + index * WIDTH, WIDTH.min(width - index * WIDTH));
            for (index, right) in lanes.chunks_exact_mut(slice * WORDS).enumerate() {
                put_panel(kernel, &mut right[..count * WORDS], (weight, side), panel(index), first * GROUP);
            }
            for row in rows.clone().step_by(K::ROWS) {
                let left = &left[(row * groups + first * K::ROWS) * WORDS..][..count * K::ROWS * WORDS];
                let rows = K::ROWS.min(rows.end - row);
                for (index, right) in lanes.chunks_exact(slice * WORDS).enumerate() {
                    let (entry, width) = panel(index);
                    let at = target.0.wrapping_add(row * entries + entry);
                    let block = Bf16Block { at, stride: entries, rows, width, add: first > 0 };
                    fetch();
                    // SAFETY: as the caller promises.
                    unsafe { kernel.sums(left, &right[..count * WORDS], block) };
                }
            }
        }
        ENTRIES.set(right);
    }
}

/// Weights put together for more products than one.
pub(super) struct WordPanels<K> {
    kernel: K,
    words: Vec<u32>,
    groups: usize,
}

impl<K: Bf16Kernel> WordPanels<K> {
    pub(super) fn new(kernel: K, weight: Bf16Matrix<'_>, side: Bf16Side) -> Self {
        let (terms, entries) = weight.sides(side);
        let groups = terms.div_ceil(GROUP);
        let mut words = Vec::new();
        let (lanes, _) = aligned(&mut words, entries.div_ceil(WIDTH) * groups * WORDS * WIDTH).as_chunks_mut::<WIDTH>();
        for (index, panel) in lanes.chunks_exact_mut((groups * WORDS).max(1)).enumerate() {
            let first = index * WIDTH;
            put_panel(kernel, panel, (weight, side), (first, WIDTH.min(entries - first)), 0);
        }
        Self { kernel, words, groups }
    }

    /// As [`super::Bf16Panels::product`].
    pub(super) fn product(
        &self,
        (result, stride): (&mut [f32], usize),
        onto: Onto,
        scale: f32,
        a: MatrixView<'_>,
        columns: usize,
    ) {
        let Self { kernel, words, groups } = self;
        let used = a.columns.div_ceil(GROUP);
        let first = words.as_ptr().align_offset(64);
        let (lanes, _) = words[first..].as_chunks::<WIDTH>();
        let mut left = LEFT.take();
        let strip = aligned(&mut left, K::ROWS * used * WORDS);
        // What there is of a block while it is not where it belongs.
        let mut sums = [[0.0f32; WIDTH]; MOST_ROWS];
        kernel.during(|| {
            for row in (0..a.rows).step_by(K::ROWS) {
                let rows = K::ROWS.min(a.rows - row);
                kernel.put_strip(strip, a.rows(row, rows));
                for (panel, entry) in lanes.chunks_exact(groups * WORDS).zip((0..columns).step_by(WIDTH)) {
                    let right = &panel[..used * WORDS];
                    let width = WIDTH.min(columns - entry);
                    let result = &mut result[row * stride + entry..][..(rows - 1) * stride + width];
                    if onto == Onto::Nothing && scale == 1.0 {
                        let block = Bf16Block { at: result.as_mut_ptr(), stride, rows, width, add: false };
                        // SAFETY: so many rows and entries lie in the slice.
                        unsafe { kernel.sums(strip, right, block) };
                        continue;
                    }
                    let block =
                        Bf16Block { at: sums.as_flattened_mut().as_mut_ptr(), stride: WIDTH, rows, width, add: false };
                    // SAFETY: a strip has no more rows than there are, and a panel as many entries.
                    unsafe { kernel.sums(strip, right, block) };
                    finish((result, stride), onto, scale, sums[..rows].iter().map(|sums| &sums[..]), width);
                }
            }
        });
        LEFT.set(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_all_panels_once_and_even() {
        for (panels, most, threads) in (1..70).flat_map(|panels| [(panels, 1, 1), (panels, 8, 1), (panels, 4, 3)]) {
            let shares = shares(panels, most, threads);
            assert!(shares.iter().cloned().flatten().eq(0..panels), "{shares:?}");
            let [least, largest] = [panels / shares.len(), panels.div_ceil(shares.len())];
            assert!(
                largest <= most && shares.iter().all(|share| (least..=largest).contains(&share.len())),
                "{shares:?}"
            );
            assert!(shares.len().is_multiple_of(threads) || shares.len() == panels, "{shares:?}");
        }
    }
}

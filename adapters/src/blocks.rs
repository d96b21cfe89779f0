//! Memory of large values, kept when it is given back and handed out again. A step of training makes the same values as the
//! one before: without this, the system would take their pages back and clear them anew each time, and what weights leave
//! behind when they are narrowed would lie in pieces that fit nothing.
//!
//! What is free lies in ranges, of which two that touch are one. A value takes the beginning of the smallest range that
//! holds it. Where none does, more memory is asked for, and before that as much of what is free is given back. So a process
//! takes no more than what it had in use at once, rounded up to large pages.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::{Mutex, PoisonError};

/// Bytes from which a block is large.
const LARGE: usize = 1 << 16;
/// Blocks are so many bytes, or a multiple: the largest pages that systems give and take.
const GRAIN: usize = 1 << 16;
/// The largest alignment of a block: that of the smallest pages.
const ALIGN: usize = 4096;
/// What is asked of the system at a time is a multiple of this: that of large pages, which take one fault instead of 512.
const CHUNK: usize = 1 << 21;
/// Most free ranges that are kept apart.
const KEPT: usize = 4096;

/// The system's allocator, but for large blocks.
#[derive(Debug)]
pub struct LargeBlocks;

/// Free bytes: their address and how many they are.
#[derive(Clone, Copy)]
struct FreeRange {
    at: usize,
    size: usize,
}

/// Free ranges in the order of addresses, none of which touch.
struct FreeRanges {
    ranges: [FreeRange; KEPT],
    count: usize,
}

static FREE: Mutex<FreeRanges> = Mutex::new(FreeRanges { ranges: [FreeRange { at: 0, size: 0 }; KEPT], count: 0 });

impl FreeRanges {
    fn all(&self) -> &[FreeRange] {
        &self.ranges[..self.count]
    }

    /// Takes so many bytes out of the smallest range that has them.
    fn take(&mut self, size: usize) -> Option<usize> {
        let fit = self.all().iter().enumerate().filter(|(_, range)| range.size >= size);
        let (place, _) = fit.min_by_key(|(_, range)| range.size)?;
        Some(self.cut(place, size))
    }

    /// Takes the first bytes of a range out.
    fn cut(&mut self, place: usize, size: usize) -> usize {
        let range = &mut self.ranges[place];
        let at = range.at;
        (range.at, range.size) = (at + size, range.size - size);
        if range.size == 0 {
            self.remove(place);
        }
        at
    }

    fn remove(&mut self, place: usize) {
        self.ranges.copy_within(place + 1..self.count, place);
        self.count -= 1;
    }

    /// Keeps bytes, as one range with those that they touch; `false` where there is no room for another range.
    fn keep(&mut self, at: usize, size: usize) -> bool {
        let place = self.all().partition_point(|range| range.at < at);
        let behind = place.checked_sub(1).filter(|&before| self.ranges[before].at + self.ranges[before].size == at);
        let touched = self.all().get(place).filter(|after| at + size == after.at).map(|after| after.size);
        match (behind, touched) {
            (Some(before), Some(after)) => {
                self.ranges[before].size += size + after;
                self.remove(place);
            }
            (Some(before), None) => self.ranges[before].size += size,
            (None, Some(after)) => self.ranges[place] = FreeRange { at, size: size + after },
            (None, None) if self.count == KEPT => return false,
            (None, None) => {
                self.ranges.copy_within(place..self.count, place + 1);
                self.ranges[place] = FreeRange { at, size };
                self.count += 1;
            }
        }
        true
    }

    /// Gives so many bytes back to the system, as far as there are any: of the largest ranges.
    fn give_back(&mut self, bytes: usize) {
        let mut left = bytes;
        while let Some((place, largest)) = self.all().iter().enumerate().max_by_key(|(_, range)| range.size) {
            let size = largest.size.min(left);
            if size == 0 {
                return;
            }
            pages::give_back(self.cut(place, size) as *mut u8, size);
            left -= size;
        }
    }
}

fn free_ranges() -> std::sync::MutexGuard<'static, FreeRanges> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The size of the block for so many bytes, if they make a large one.
fn size_of_block(layout: Layout) -> Option<usize> {
    let large = cfg!(unix) && layout.size() >= LARGE && layout.align() <= ALIGN;
    large.then(|| layout.size().checked_next_multiple_of(GRAIN)).flatten()
}

/// A block, and whether it is all zeros.
fn block(size: usize) -> (*mut u8, bool) {
    let mut free = free_ranges();
    if let Some(at) = free.take(size) {
        return (at as *mut u8, false);
    }
    let Some(bytes) = size.checked_next_multiple_of(CHUNK) else {
        return (std::ptr::null_mut(), false);
    };
    free.give_back(bytes);
    let at = pages::get(bytes);
    if !at.is_null() && bytes > size {
        keep_or_give_back(&mut free, at as usize + size, bytes - size);
    }
    (at, true)
}

/// Keeps bytes, or gives them back where there is no room for another range.
fn keep_or_give_back(free: &mut FreeRanges, at: usize, size: usize) {
    if !free.keep(at, size) {
        pages::give_back(at as *mut u8, size);
    }
}

// SAFETY: a block belongs to one owner at a time, is as large and as aligned as was asked, and its size follows from the
// layout alone, with which it comes back. Everything else is the system allocator's.
unsafe impl GlobalAlloc for LargeBlocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match size_of_block(layout) {
            Some(size) => block(size).0,
            // SAFETY: the caller's obligations are the system allocator's.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(size) = size_of_block(layout) else {
            // SAFETY: as above.
            return unsafe { System.alloc_zeroed(layout) };
        };
        let (at, zeros) = block(size);
        if !zeros && !at.is_null() {
            // SAFETY: the block has at least so many bytes.
            unsafe { at.write_bytes(0, layout.size()) };
        }
        at
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let Some(size) = size_of_block(layout) else {
            // SAFETY: as above.
            return unsafe { System.dealloc(at, layout) };
        };
        keep_or_give_back(&mut free_ranges(), at as usize, size);
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller sees to it that the size does not overflow with this alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(bytes, layout.align()) };
        let (before, after) = (size_of_block(layout), size_of_block(wanted));
        if before.is_some() && before == after {
            return at;
        }
        if before.is_none() && after.is_none() {
            // SAFETY: as above.
            return unsafe { System.realloc(at, layout, bytes) };
        }
        // SAFETY: the old one holds its bytes, the new one at least the lesser number, and they are two.
        unsafe {
            let new = self.alloc(wanted);
            if !new.is_null() {
                new.copy_from_nonoverlapping(at, layout.size().min(bytes));
                self.dealloc(at, layout);
            }
            new
        }
    }
}

/// Pages of the system, all zeros, in large pieces where it has such.
#[cfg(unix)]
mod pages {
    use std::ptr::null_mut;

    pub(super) fn get(size: usize) -> *mut u8 {
        // SAFETY: new pages, of nobody else.
        let at = unsafe {
            libc::mmap(null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON, -1, 0)
        };
        if at == libc::MAP_FAILED {
            return null_mut();
        }
        // SAFETY: a wish, about the pages above; whether it is heard does not matter.
        #[cfg(target_os = "linux")]
        unsafe {
            libc::madvise(at, size, libc::MADV_HUGEPAGE);
        }
        at.cast()
    }

    pub(super) fn give_back(at: *mut u8, size: usize) {
        // SAFETY: whole pages that `get` gave, of which nobody has the address any more.
        let result = unsafe { libc::munmap(at.cast(), size) };
        debug_assert_eq!(result, 0, "whole pages are given back");
    }
}

/// Where ranges of pages cannot be given back in parts, no block is large.
#[cfg(not(unix))]
mod pages {
    pub(super) fn get(_: usize) -> *mut u8 {
        std::ptr::null_mut()
    }

    pub(super) fn give_back(_: *mut u8, _: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 64).unwrap()
    }

    #[test]
    fn the_smallest_range_that_fits_is_taken_and_those_that_touch_are_one() {
        let mut free = FreeRanges { ranges: [FreeRange { at: 0, size: 0 }; KEPT], count: 0 };
        let all = |free: &FreeRanges| free.all().iter().map(|range| (range.at, range.size)).collect::<Vec<_>>();
        for (at, size) in [(100, 10), (40, 20), (70, 5)] {
            assert!(free.keep(at, size));
        }
        assert_eq!(all(&free), [(40, 20), (70, 5), (100, 10)]);
        assert_eq!((free.take(21), free.take(8), free.take(2)), (None, Some(100), Some(108)));
        assert_eq!(all(&free), [(40, 20), (70, 5)]);
        // Behind one, before one, between two.
        assert!(free.keep(75, 5) && free.keep(30, 10) && all(&free) == [(30, 30), (70, 10)]);
        assert!(free.keep(60, 10) && all(&free) == [(30, 50)]);
        for at in 0..KEPT - 1 {
            assert!(free.keep(1000 + 2 * at, 1));
        }
        assert!(!free.keep(90, 1) && free.keep(80, 1) && free.count == KEPT);
        assert_eq!(free.take(51), Some(30));
    }

    /// One test, since what is kept is the whole process's.
    #[cfg(unix)]
    #[test]
    fn blocks_are_kept_cleared_and_given_back() {
        assert_eq!(size_of_block(layout(LARGE - 1)), None);
        assert_eq!(size_of_block(layout(LARGE)), Some(LARGE));
        assert_eq!(size_of_block(layout(LARGE + 1)), Some(LARGE + GRAIN));
        assert_eq!(size_of_block(Layout::from_size_align(LARGE, 2 * ALIGN).unwrap()), None);
        let kept = || free_ranges().all().iter().map(|range| range.size).sum::<usize>();
        // SAFETY: each block is written within its size, given back once, and not looked at afterwards.
        unsafe {
            let first = LargeBlocks.alloc(layout(LARGE + 5));
            // The rest of the chunk.
            assert_eq!(kept(), CHUNK - LARGE - GRAIN);
            first.write_bytes(7, LARGE + 5);
            // The same block has room.
            assert_eq!(LargeBlocks.realloc(first, layout(LARGE + 5), LARGE + 100), first);
            LargeBlocks.dealloc(first, layout(LARGE + 100));
            assert_eq!((kept(), free_ranges().count), (CHUNK, 1));
            let again = LargeBlocks.alloc_zeroed(layout(LARGE + 9));
            assert_eq!(again, first);
            assert!(std::slice::from_raw_parts(again, LARGE + 9).iter().all(|&byte| byte == 0));
            // From one kind to the other and back, with what is in it.
            again.write_bytes(9, LARGE + 9);
            let small = LargeBlocks.realloc(again, layout(LARGE + 9), 100);
            let large = LargeBlocks.realloc(small, layout(100), 2 * LARGE);
            assert!(std::slice::from_raw_parts(large, 100).iter().all(|&byte| byte == 9));
            // What is kept makes room for what does not fit it: as much as is wanted, and not all.
            let others = [CHUNK + 1, 2 * CHUNK].map(|bytes| LargeBlocks.alloc(layout(bytes)));
            LargeBlocks.dealloc(others[0], layout(CHUNK + 1));
            LargeBlocks.dealloc(others[1], layout(2 * CHUNK));
            LargeBlocks.dealloc(large, layout(2 * LARGE));
            let before = kept();
            let largest = free_ranges().all().iter().map(|range| range.size).max().unwrap();
            let other = LargeBlocks.alloc(layout(largest + 1));
            assert!(kept() < before && before <= kept() + (largest + 1).next_multiple_of(CHUNK));
            LargeBlocks.dealloc(other, layout(largest + 1));
            assert!(kept() <= before + CHUNK);
        }
    }
}

//! Memory of large values, kept when it is given back and handed out again. A step of training makes the same values as the
//! one before: without this, the system would take their pages back and clear them anew each time, and what weights leave
//! behind when they are narrowed would lie in pieces that fit nothing.
//!
//! What is kept is what is in use less: before more memory is asked for, as much of what is kept is given back. So a
//! process takes no more than what it had in use at once, rounded up to one of eight sizes between powers of two.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::{Mutex, PoisonError};

/// Bytes from which a block is large.
const LARGE: usize = 1 << 18;
/// The largest alignment of a block: that of a page.
const ALIGN: usize = 4096;
/// Most blocks that are kept; of a step of a network with many layers.
const KEPT: usize = 4096;

/// The system's allocator, but for large blocks.
#[derive(Debug)]
pub struct LargeBlocks;

/// A free block: its address and its size.
#[derive(Clone, Copy)]
struct FreeBlock {
    at: usize,
    size: usize,
}

/// Free blocks, the longest kept first.
struct FreeList {
    blocks: [FreeBlock; KEPT],
    count: usize,
}

static FREE: Mutex<FreeList> = Mutex::new(FreeList { blocks: [FreeBlock { at: 0, size: 0 }; KEPT], count: 0 });

impl FreeList {
    /// Takes the block out that was kept last of those of a size.
    fn take(&mut self, size: usize) -> Option<FreeBlock> {
        let at = self.blocks[..self.count].iter().rposition(|block| block.size == size)?;
        Some(self.remove(at))
    }

    fn remove(&mut self, at: usize) -> FreeBlock {
        let block = self.blocks[at];
        self.blocks.copy_within(at + 1..self.count, at);
        self.count -= 1;
        block
    }

    /// Keeps a block; gives back the one that was kept longest where there is no room.
    fn keep(&mut self, block: FreeBlock) -> Option<FreeBlock> {
        let full = (self.count == KEPT).then(|| self.remove(0));
        self.blocks[self.count] = block;
        self.count += 1;
        full
    }
}

fn free_list() -> std::sync::MutexGuard<'static, FreeList> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The size of the block for so many bytes, if they make a large one.
fn size_of_block(layout: Layout) -> Option<usize> {
    let bytes = layout.size();
    if bytes < LARGE || layout.align() > ALIGN {
        return None;
    }
    // Within an eighth of what is needed, so that values of about one size find each other's memory.
    bytes.checked_next_multiple_of(1 << (bytes.ilog2() - 3))
}

/// A block, and whether it is all zeros.
fn block(size: usize) -> (*mut u8, bool) {
    let found = free_list().take(size);
    if let Some(FreeBlock { at, .. }) = found {
        return (at as *mut u8, false);
    }
    let mut given = 0;
    while given < size {
        let mut free = free_list();
        if free.count == 0 {
            break;
        }
        let block = free.remove(0);
        drop(free);
        given += block.size;
        pages::give_back(block.at as *mut u8, block.size);
    }
    (pages::get(size), true)
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
        let full = free_list().keep(FreeBlock { at: at as usize, size });
        if let Some(FreeBlock { at, size }) = full {
            pages::give_back(at as *mut u8, size);
        }
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
        // SAFETY: pages that `get` gave, of which nobody has the address any more.
        let result = unsafe { libc::munmap(at.cast(), size) };
        debug_assert_eq!(result, 0, "whole blocks are given back");
    }
}

/// Pages of the system's allocator.
#[cfg(not(unix))]
mod pages {
    use std::alloc::{GlobalAlloc, Layout, System};

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, super::ALIGN).expect("a block is smaller than memory")
    }

    pub(super) fn get(size: usize) -> *mut u8 {
        // SAFETY: a block is not empty.
        unsafe { System.alloc_zeroed(layout(size)) }
    }

    pub(super) fn give_back(at: *mut u8, size: usize) {
        // SAFETY: a block that `get` gave.
        unsafe { System.dealloc(at, layout(size)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 64).unwrap()
    }

    /// One test, since what is kept is the whole process's.
    #[test]
    fn blocks_are_kept_cleared_and_given_back() {
        assert_eq!(size_of_block(layout(LARGE - 1)), None);
        assert_eq!(size_of_block(layout(LARGE)), Some(LARGE));
        assert_eq!(size_of_block(layout(LARGE + 1)), Some(LARGE + LARGE / 8));
        assert_eq!(size_of_block(Layout::from_size_align(LARGE, 2 * ALIGN).unwrap()), None);
        // SAFETY: each block is written within its size, given back once, and not looked at afterwards.
        unsafe {
            let first = LargeBlocks.alloc(layout(LARGE + 5));
            first.write_bytes(7, LARGE + 5);
            // The same block has room.
            assert_eq!(LargeBlocks.realloc(first, layout(LARGE + 5), LARGE + 100), first);
            LargeBlocks.dealloc(first, layout(LARGE + 100));
            let again = LargeBlocks.alloc_zeroed(layout(LARGE + 9));
            assert_eq!(again, first);
            assert!(std::slice::from_raw_parts(again, LARGE + 9).iter().all(|&byte| byte == 0));
            // From one kind to the other and back, with what is in it.
            again.write_bytes(9, LARGE + 9);
            let small = LargeBlocks.realloc(again, layout(LARGE + 9), 100);
            let large = LargeBlocks.realloc(small, layout(100), 2 * LARGE);
            assert!(std::slice::from_raw_parts(large, 100).iter().all(|&byte| byte == 9));
            // What was kept has made room for what does not fit it: as much as was wanted, and not all.
            assert_eq!(free_list().count, 0);
            let others = [3, 5].map(|times| LargeBlocks.alloc(layout(times * LARGE)));
            LargeBlocks.dealloc(others[0], layout(3 * LARGE));
            LargeBlocks.dealloc(large, layout(2 * LARGE));
            LargeBlocks.dealloc(others[1], layout(5 * LARGE));
            assert_eq!(free_list().count, 3);
            let other = LargeBlocks.alloc(layout(4 * LARGE));
            assert_eq!(free_list().count, 1);
            LargeBlocks.dealloc(other, layout(4 * LARGE));
        }
    }
}

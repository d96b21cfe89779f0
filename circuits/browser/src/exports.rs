//! How a page calls the verifier: plain functions over the module's memory. The page allocates as much as its request takes,
//! writes it there, and gets the place of an answer, whose first four bytes are its length (little-endian).

use std::panic;
use std::sync::{Mutex, PoisonError};

use crate::answer::answer;

/// What the verifier said last before it ended in the middle of its work, for want of memory or by a mistake of ours.
static LAST_WORDS: Mutex<String> = Mutex::new(String::new());

/// Room for a request of so many bytes.
#[unsafe(no_mangle)]
pub extern "C" fn ftk_allocate(length: usize) -> *mut u8 {
    Box::into_raw(vec![0u8; length].into_boxed_slice()).cast()
}

/// Judges the request at a place that [`ftk_allocate`] gave for this length, which is no longer the caller's. The answer
/// stays until [`ftk_release`] is told so.
///
/// # Safety
/// The place must come from [`ftk_allocate`], with its length, and be used no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftk_judge(request: *mut u8, length: usize) -> *mut u8 {
    panic::set_hook(Box::new(|info| *LAST_WORDS.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string()));
    // SAFETY: the caller gives back what `ftk_allocate` made of a boxed slice of this length.
    let request = unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(request, length)) };
    let said = answer(&request);
    drop(request);
    placed(&said)
}

/// What was said last before a call of [`ftk_judge`] trapped, in the place of an answer.
#[unsafe(no_mangle)]
pub extern "C" fn ftk_last_words() -> *mut u8 {
    placed(LAST_WORDS.lock().unwrap_or_else(PoisonError::into_inner).as_bytes())
}

/// Bytes behind their length, for the caller to give back.
fn placed(bytes: &[u8]) -> *mut u8 {
    let length = u32::try_from(bytes.len()).expect("it is in the memory of a page");
    Box::into_raw([&length.to_le_bytes()[..], bytes].concat().into_boxed_slice()).cast()
}

/// Gives back an answer.
///
/// # Safety
/// The place must come from [`ftk_judge`] or [`ftk_last_words`], and be used no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftk_release(answer: *mut u8) {
    // SAFETY: an answer begins with four bytes that say how many follow.
    unsafe {
        let length = u32::from_le_bytes(answer.cast::<[u8; 4]>().read()) as usize;
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(answer, 4 + length)));
    }
}

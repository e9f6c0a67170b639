//! The system's allocator, which asks for huge pages for what is large.
//!
//! Memory that is new to a process is given page by page as it is first written: by pages of 4 KiB, a million faults for the
//! weights of 4 GB. Where a machine gives huge pages only on request (`madvise` in
//! `/sys/kernel/mm/transparent_hugepage/enabled`, as many do), this is the request; elsewhere it changes nothing. Measured: a
//! merge of 0.25 G parameters to a folder took 0.9 to 1.2 s after 1.25, loading 1.2 G into float32 5.5 s after 7.4.

#![expect(unsafe_code, reason = "an allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};

/// From this many bytes on, huge pages are asked for: twice the usual size of one.
#[cfg(any(target_os = "linux", test))]
const LARGE: usize = 4 << 20;

/// The system's allocator, with huge pages for large allocations.
pub struct HugePages;

// SAFETY: every call goes to the system's allocator with the arguments as they came, and what it gives is returned as it is; advice about
// memory does not change what is in it.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        advised(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        advised(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        advised(unsafe { System.realloc(pointer, layout, size) }, size)
    }
}

/// Asks for huge pages for the whole pages of an allocation. That they are not given is no failure.
fn advised(pointer: *mut u8, size: usize) -> *mut u8 {
    #[cfg(target_os = "linux")]
    if size >= LARGE && !pointer.is_null() {
        let page = rustix::param::page_size();
        let skipped = pointer.align_offset(page);
        if let Some(whole) = size.checked_sub(skipped) {
            let advice = rustix::mm::Advice::LinuxHugepage;
            // SAFETY: the range lies within the allocation, and the advice changes nothing in it.
            let _ = unsafe { rustix::mm::madvise(pointer.add(skipped).cast(), whole / page * page, advice) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = size;
    pointer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_large_is_given_like_what_is_small() {
        for size in [1, LARGE - 1, LARGE, 3 * LARGE + 5] {
            let layout = Layout::from_size_align(size, 64).unwrap();
            // SAFETY: the layout has a size; what is given is looked at within it, and given back once, as it was asked for last.
            unsafe {
                let zeroed = HugePages.alloc_zeroed(layout);
                assert!(!zeroed.is_null() && (zeroed as usize).is_multiple_of(64));
                assert!((0..size).step_by(4096).all(|i| *zeroed.add(i) == 0));
                zeroed.add(size - 1).write(7);
                let grown = HugePages.realloc(zeroed, layout, size + LARGE);
                assert_eq!(*grown.add(size - 1), 7);
                grown.add(size + LARGE - 1).write(1);
                HugePages.dealloc(grown, Layout::from_size_align(size + LARGE, 64).unwrap());
                let plain = HugePages.alloc(layout);
                plain.write_bytes(3, size);
                HugePages.dealloc(plain, layout);
            }
        }
    }
}

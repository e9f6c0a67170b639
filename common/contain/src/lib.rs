//! Libraries that panic where they should refuse: around a call of one, a panic is an answer like any other.
//!
//! For readers of strangers' files alone, whose values are dropped when they fail. What a panic says may quote the file or a
//! report, so that it is neither printed nor passed on. Nothing here helps against memory that runs out or a call that does
//! not end: these are for limits before the call.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// The library panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the file is malformed in a way that its reader does not expect")]
pub struct Panicked;

/// Calls a library. What it was given must not be used again where it panicked, unless it was only read.
///
/// # Errors
/// [`Panicked`], with nothing printed.
pub fn contained<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !INSIDE.get() {
                before(panic);
            }
        }));
    });
    let outer = INSIDE.replace(true);
    let done = catch_unwind(AssertUnwindSafe(call));
    INSIDE.set(outer);
    done.map_err(|_| Panicked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_answer_and_the_next_call_is_a_call_like_any_other() {
        assert_eq!(contained(|| 1), Ok(1));
        let nothing: Vec<u8> = Vec::new();
        assert_eq!(contained(|| nothing[0]), Err(Panicked));
        assert_eq!(contained(|| contained(|| nothing[0]).is_err()), Ok(true));
        assert!(!INSIDE.get());
    }
}

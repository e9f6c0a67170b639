//! What a panic may tell: its place, and nothing else.
//!
//! A panic's message quotes values: that of a string cut within a character quotes the string, which here may be a report
//! or a patient's name. Logs and failures leave the node, so only file and line are said. Programs call [`install`] first.

use std::cell::RefCell;
use std::io::Write;
use std::panic::PanicHookInfo;

thread_local! {
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on panics of this process are told by thread and place on standard error, without their message.
pub fn install() {
    std::panic::set_hook(Box::new(hook));
}

/// Where this thread panicked last, as `file:line`, told once; `None` where it did not, or no hook was installed.
pub fn place() -> Option<String> {
    PLACE.take()
}

fn hook(info: &PanicHookInfo<'_>) {
    let place = info.location().map(|l| format!("{}:{}", l.file(), l.line()));
    let thread = std::thread::current();
    // The stream may be closed, and a panic within a panic ends the process.
    let _ = writeln!(
        std::io::stderr(),
        "thread {} panicked at {}; what it says is left out, since it may quote a report",
        thread.name().unwrap_or("without a name"),
        place.as_deref().unwrap_or("an unknown place")
    );
    let _ = PLACE.try_with(|held| *held.borrow_mut() = place);
}

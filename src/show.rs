//! What people see on standard output: tables of a whole translation, and lines about what changed.
//!
//! Documents and statuses go in, text comes out. Nothing is decided here.

pub mod board;
pub mod checkpoint;
pub mod overview;
pub mod table;

/// Prints text to standard output. A reader that went away (`| head`) is no failure.
pub fn print(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        eprintln!("error: cannot print the result: {error}");
    }
}

//! What the user asked for: the command line and environment as written, then checked.
//!
//! [`args`] is the raw reading, by `clap`, and holds the help texts; [`settings`] turns it into values that cannot be wrong
//! any more, or into errors that say what to do. Nothing here opens a file or a connection.

pub mod args;
pub mod settings;

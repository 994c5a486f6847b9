//! What the user asked for: the command line and environment as written, then checked.
//!
//! [`args`] is the raw reading, by `clap`, and holds the help texts; [`settings`] turns it into values that cannot be wrong
//! any more, or into errors that say what to do; [`apisix`] reads APISIX's own configuration, which may say what no flag
//! does. No other file is opened here, and no connection.

pub mod apisix;
pub mod args;
pub mod settings;

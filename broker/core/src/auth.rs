//! Who may connect, and what they may do.

pub mod settings;

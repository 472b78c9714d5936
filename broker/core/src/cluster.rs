//! The mesh of servers that routes make.

pub mod settings;

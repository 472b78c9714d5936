//! The mesh of servers that routes make.

pub mod interest;
pub mod login;
pub mod mesh;
pub mod settings;

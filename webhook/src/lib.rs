//! Stanchion's webhook: mutating admission, the issuer of certificates, and the same injection offline.
//!
//! `inject`, `review`, `annotations` and `policy` are pure; everything that talks to somebody is around them.

pub mod annotations;
pub mod config;
pub mod documents;
pub mod facts;
pub mod inject;
pub mod names;
pub mod offline;
pub mod policy;
pub mod review;

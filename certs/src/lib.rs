//! X.509 for the three programs: an authority and the leaves it grants, inspection, lifetime
//! arithmetic, and TLS configurations that follow the files they were read from.
//!
//! The library opens no socket and, but for `reload`'s `watch`, reads no clock: `now` is an argument.
//! Who may have which certificate is decided by its users.

pub mod algorithms;
pub mod authority;
pub mod causes;
pub mod csr;
pub mod inspect;
pub mod key;
pub mod leaf;
pub mod names;
mod pem;
mod pins;
pub mod profile;
mod provider;
pub mod reload;
pub mod settings;
pub mod validity;

//! The streaming engine inside the broker: carries its effects out on the bus, the store and the
//! clock, and reports back what came of them. The bus is the embedded core or a connection to another NATS
//! server ([`crate::external`]).
//!
//! Everything here lives on worker 0, on one thread: the engine, the store with its sockets, and the
//! tasks that wait for either. The life of an activation:
//!
//! ```text
//!           +--------- deposed, or store lost <---------+
//!           v                                           |
//!   store.activate --standby--> wait, try again         |
//!           |                                           |
//!           +--active--> Engine::new --> serve ---------+--> stop: flush, close the store
//! ```

mod driver;
mod figures;
mod host;
mod ownership;
mod probe;
mod query;

pub(crate) use self::{
    driver::{Shared, StreamingService},
    figures::BrokerFigures,
    host::Host,
    ownership::{Ownership, supervise},
    query::{QueryDesk, QueryHandle, query},
};

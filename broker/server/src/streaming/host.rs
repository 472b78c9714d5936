//! What the engine stands on: the core in this process, or NATS servers elsewhere.

use std::rc::Rc;

use crate::{
    external::External,
    internal::{Bus, Internal},
    worker::WorkerHandle,
};

/// See the module documentation. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) enum Host {
    Embedded(WorkerHandle),
    External(Rc<External>),
}

impl Host {
    /// Runs a closure with the engine's service and the bus; `None` if the service is not in place.
    pub(super) fn with_internal<R>(
        &self,
        act: impl FnOnce(&mut dyn Internal, &mut dyn Bus) -> R,
    ) -> Option<R> {
        match self {
            Self::Embedded(worker) => worker.with_internal(act),
            Self::External(external) => external.with_internal(act),
        }
    }

    /// Routes to other servers are dialled, which takes its time after a start.
    pub(super) fn dials_routes(&self) -> bool {
        match self {
            Self::Embedded(worker) => worker.with(|worker| {
                let cluster = worker.exchange.settings.config.cluster.as_ref();
                cluster.is_some_and(|cluster| !cluster.settings.routes.is_empty())
            }),
            Self::External(_) => false,
        }
    }

    /// Waits until everybody who may send to us can reach what was subscribed to. Cancel-safe.
    pub(super) async fn settled(&self) {
        match self {
            Self::Embedded(_) => {}
            Self::External(external) => external.settled().await,
        }
    }

    /// Writes what is left, at the end. The embedded core outlives the engine and does it by itself.
    pub(crate) async fn finish(&self) {
        match self {
            Self::Embedded(_) => {}
            Self::External(external) => external.finish().await,
        }
    }
}

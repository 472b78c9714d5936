//! The suite on the memory store, whose data live as long as the value.

use std::rc::Rc;

use broker_core::durable::{ChannelId, Sequence};
use broker_store::{MemoryStore, Store, conformance::StoreFactory, store_conformance_suite};
use futures_util::future::{FutureExt, LocalBoxFuture};

struct Memory(Rc<MemoryStore>);

impl StoreFactory for Memory {
    fn open(&self) -> Rc<dyn Store> {
        Rc::clone(&self.0) as Rc<dyn Store>
    }

    fn has_lock(&self) -> bool {
        false
    }

    fn depose(&self) -> LocalBoxFuture<'_, ()> {
        async {}.boxed_local()
    }

    fn intrude<'a>(&'a self, _: ChannelId, _: Sequence, _: &'a [u8]) -> LocalBoxFuture<'a, ()> {
        async {}.boxed_local()
    }
}

store_conformance_suite!(Memory(Rc::new(MemoryStore::new())));

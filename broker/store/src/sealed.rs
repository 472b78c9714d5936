//! Encryption at rest: payloads are sealed on their way into another store and opened on their way
//! back, in the stored form of NATS Streaming, so that either server reads what the other one wrote.
//!
//! Subjects, times and the state of subscriptions stay readable. The engine serves live subscriptions
//! out of the batch that it made, so a message is sealed once and opened only when it is read back.

mod key;

use std::{cell::RefCell, collections::HashMap, fmt, rc::Rc, sync::Arc};

use broker_core::durable::{
    Batch, Change, ChannelId, CorruptRow, FlushOutcome, Recovered, Row, Sequence, StoredMessage,
    StoredRange, Totals,
};
use broker_proto::streaming::MsgParts;
use bytes::BytesMut;
use futures_util::future::{FutureExt, LocalBoxFuture};

use self::key::{ChannelSeal, MasterKey, OpenError};
pub use self::key::{Cipher, UnknownCipher};
use crate::{Activation, Store, StoreError};

/// So many channels are asked at activation whether the key fits.
const CHANNELS_TRIED: usize = 8;

/// A store that keeps no payload in the clear.
pub struct SealedStore {
    inner: Rc<dyn Store>,
    master: MasterKey,
    cipher: Cipher,
    channels: RefCell<HashMap<ChannelId, ChannelSeal>>,
    /// What each lane flushed last: the same batch again must give the same bytes, or the store would
    /// take it for another writer's.
    last: Vec<RefCell<Option<SealedBatch>>>,
}

struct SealedBatch {
    given: Arc<Batch>,
    sealed: Arc<Batch>,
}

impl fmt::Debug for SealedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedStore")
            .field("inner", &self.inner)
            .field("cipher", &self.cipher)
            .finish_non_exhaustive()
    }
}

impl SealedStore {
    /// Puts encryption before a store. `key` is the configured one, of any length.
    #[must_use]
    pub fn new(inner: Rc<dyn Store>, key: &[u8], cipher: Cipher) -> Self {
        Self {
            last: (0..inner.lanes()).map(|_| RefCell::new(None)).collect(),
            inner,
            master: MasterKey::new(key),
            cipher,
            channels: RefCell::default(),
        }
    }

    fn add_channel(&self, id: ChannelId, name: &str, last: Sequence) -> Result<(), StoreError> {
        let seal = self.master.for_channel(name, self.cipher, last.0);
        let seal = seal.map_err(|source| StoreError::Unavailable {
            context: "cannot make a nonce".to_owned(),
            source: Box::new(source),
        })?;
        self.channels.borrow_mut().insert(id, seal);
        Ok(())
    }

    /// Fails if no message that is asked for can be opened: better no start than one that stops at every
    /// stored message.
    async fn try_key(&self, recovered: &Recovered) -> Result<(), StoreError> {
        let filled = recovered.channels.iter().filter(|one| one.messages > 0);
        let mut failure = None;
        for channel in filled.take(CHANNELS_TRIED) {
            match self.read(channel.id, channel.last, 1, 1).await {
                Ok(found) if found.corrupt.is_empty() => return Ok(()),
                Ok(found) => failure = found.corrupt.into_iter().next().map(|row| (channel, row)),
                Err(error) => return Err(error),
            }
        }
        failure.map_or(Ok(()), |(channel, row)| {
            let CorruptRow {
                sequence, reason, ..
            } = row;
            Err(StoreError::Config(format!(
                "the encryption key does not fit what is stored: message {sequence} of channel {:?}: {reason}",
                channel.name
            )))
        })
    }

    fn seal(&self, lane: usize, batch: &Arc<Batch>) -> Result<Arc<Batch>, String> {
        self.learn_channels(batch)?;
        if batch.rows.is_empty() {
            return Ok(Arc::clone(batch));
        }
        if let Some(SealedBatch { given, sealed }) = &*self.last[lane].borrow()
            && (Arc::ptr_eq(given, batch) || (given.rows == batch.rows && given.data == batch.data))
        {
            return Ok(Arc::clone(sealed));
        }
        let sealed = Arc::new(self.seal_rows(batch)?);
        *self.last[lane].borrow_mut() = Some(SealedBatch {
            given: Arc::clone(batch),
            sealed: Arc::clone(&sealed),
        });
        Ok(sealed)
    }

    fn learn_channels(&self, batch: &Batch) -> Result<(), String> {
        for change in &batch.changes {
            if let Change::PutChannel { id, name, .. } = change
                && !self.channels.borrow().contains_key(id)
            {
                self.add_channel(*id, name, Sequence(0))
                    .map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    fn seal_rows(&self, batch: &Batch) -> Result<Batch, String> {
        let mut channels = self.channels.borrow_mut();
        let mut data = BytesMut::with_capacity(batch.data.len() + batch.rows.len() * key::OVERHEAD);
        let mut rows = Vec::with_capacity(batch.rows.len());
        for row in &batch.rows {
            let message = &batch.data[row.start..row.end];
            let parts = MsgParts::cut(message).ok_or("a row is no message")?;
            let seal = channels.get_mut(&row.channel);
            let seal = seal.ok_or_else(|| format!("unknown channel {}", row.channel.0))?;
            let start = data.len();
            if parts.data.is_empty() {
                data.extend_from_slice(message);
            } else {
                parts.put_before(&mut data, parts.data.len() + key::OVERHEAD);
                seal.put_sealed(&mut data, parts.data);
                data.extend_from_slice(parts.after);
            }
            let end = data.len();
            rows.push(Row { start, end, ..*row });
        }
        Ok(Batch {
            changes: batch.changes.clone(),
            rows,
            data: data.freeze(),
            trims: batch.trims.clone(),
        })
    }

    fn open_all(&self, channel: ChannelId, mut range: StoredRange) -> StoredRange {
        let channels = self.channels.borrow();
        let Some(seal) = channels.get(&channel) else {
            return range;
        };
        range.set_apart(|message| open(seal, message).err());
        range
    }
}

/// Puts the opened payload in the place of the sealed one; `Err` with what is wrong with the message.
fn open(seal: &ChannelSeal, message: &mut StoredMessage) -> Result<(), String> {
    let parts = MsgParts::cut(&message.data).ok_or("it is not decodable")?;
    let payload = match seal.open(parts.data) {
        Ok(payload) => payload,
        Err(OpenError::Plain) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let mut data = BytesMut::new();
    parts.put_before(&mut data, payload.len());
    data.extend_from_slice(&payload);
    data.extend_from_slice(parts.after);
    message.data = data.freeze();
    Ok(())
}

impl Store for SealedStore {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn lanes(&self) -> usize {
        self.inner.lanes()
    }

    fn owner(&self) -> String {
        self.inner.owner()
    }

    fn activate(&self) -> LocalBoxFuture<'_, Result<Activation, StoreError>> {
        async {
            let activation = self.inner.activate().await?;
            if let Activation::Active(recovered) = &activation {
                self.channels.borrow_mut().clear();
                for lane in &self.last {
                    lane.take();
                }
                for channel in &recovered.channels {
                    self.add_channel(channel.id, &channel.name, channel.last)?;
                }
                self.try_key(recovered).await?;
            }
            Ok(activation)
        }
        .boxed_local()
    }

    fn flush(&self, lane: usize, batch: Arc<Batch>) -> LocalBoxFuture<'_, FlushOutcome> {
        match self.seal(lane, &batch) {
            Ok(sealed) => self.inner.flush(lane, sealed),
            Err(reason) => {
                let reason = format!("cannot encrypt: {reason}");
                async { FlushOutcome::Refused { reason } }.boxed_local()
            }
        }
    }

    fn read(
        &self,
        channel: ChannelId,
        from: Sequence,
        max_rows: usize,
        max_bytes: usize,
    ) -> LocalBoxFuture<'_, Result<StoredRange, StoreError>> {
        let read = self.inner.read(channel, from, max_rows, max_bytes);
        async move { Ok(self.open_all(channel, read.await?)) }.boxed_local()
    }

    fn sequence_at(
        &self,
        channel: ChannelId,
        timestamp: i64,
    ) -> LocalBoxFuture<'_, Result<Option<Sequence>, StoreError>> {
        self.inner.sequence_at(channel, timestamp)
    }

    fn count(
        &self,
        channel: ChannelId,
        up_to: Sequence,
    ) -> LocalBoxFuture<'_, Result<Totals, StoreError>> {
        self.inner.count(channel, up_to)
    }

    fn deposed(&self) -> LocalBoxFuture<'_, ()> {
        self.inner.deposed()
    }

    fn close(&self) -> LocalBoxFuture<'_, ()> {
        self.inner.close()
    }
}

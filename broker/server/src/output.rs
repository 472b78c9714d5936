//! What waits to be written to a connection: a list of pooled 64 KiB chunks, which go back to the
//! worker that allocated them as soon as they are empty. An idle connection holds none.

use std::{collections::VecDeque, io::IoSlice};

use broker_proto::encode::Sink;

/// Measured: larger gains nothing, and this fits the second-level cache beside the read buffer.
pub(crate) const CHUNK_BYTES: usize = 64 << 10;
/// Empty chunks kept a worker (4 MiB); more are given back to the allocator.
const MAX_POOLED: usize = 64;
/// A chunk handed over with less than this in it is copied behind what waits already, or a slow
/// consumer of small messages would hold many times its pending bytes in memory.
const COPY_BELOW: usize = CHUNK_BYTES / 4;
/// Most pieces of one vectored write.
pub(crate) const MAX_SLICES: usize = 64;

/// A piece of output; never grows beyond its first capacity.
#[derive(Debug)]
pub(crate) struct Chunk {
    bytes: Vec<u8>,
    /// Index of the worker that allocated it.
    home: usize,
}

impl Chunk {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn room(&self) -> usize {
        CHUNK_BYTES - self.bytes.len()
    }
}

/// The free chunks of one worker, and those of others that it has emptied.
#[derive(Debug)]
pub(crate) struct ChunkPool {
    worker: usize,
    free: Vec<Chunk>,
    /// To be sent home, by worker.
    foreign: Vec<Vec<Chunk>>,
}

impl ChunkPool {
    pub(crate) fn new(worker: usize, workers: usize) -> Self {
        Self {
            worker,
            free: Vec::new(),
            foreign: (0..workers).map(|_| Vec::new()).collect(),
        }
    }

    fn take(&mut self) -> Chunk {
        self.free.pop().unwrap_or_else(|| Chunk {
            bytes: Vec::with_capacity(CHUNK_BYTES),
            home: self.worker,
        })
    }

    /// Takes back a chunk that is no longer needed.
    pub(crate) fn give(&mut self, mut chunk: Chunk) {
        chunk.bytes.clear();
        let home = if chunk.home == self.worker {
            &mut self.free
        } else {
            &mut self.foreign[chunk.home]
        };
        if home.len() < MAX_POOLED {
            home.push(chunk);
        }
    }

    /// The chunks of another worker that have become empty here.
    pub(crate) fn homebound(&mut self, worker: usize) -> Vec<Chunk> {
        std::mem::take(&mut self.foreign[worker])
    }
}

/// Bytes in order, waiting for a socket.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// None of them empty.
    chunks: VecDeque<Chunk>,
    /// Bytes at the start of the first chunk that have been written.
    written: usize,
    pending: usize,
}

impl Output {
    /// Bytes that wait.
    pub(crate) fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// Bytes that wait.
    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending == 0
    }

    /// Appends through a [`Sink`].
    pub(crate) fn writer<'a>(&'a mut self, pool: &'a mut ChunkPool) -> Writer<'a> {
        Writer { output: self, pool }
    }

    /// Appends chunks that another worker filled.
    pub(crate) fn append(&mut self, chunks: Vec<Chunk>, pool: &mut ChunkPool) {
        for chunk in chunks {
            let last_room = self.chunks.back().map_or(0, Chunk::room);
            if chunk.len() <= last_room.min(COPY_BELOW) {
                self.writer(pool).put(&chunk.bytes);
                pool.give(chunk);
            } else {
                self.pending += chunk.len();
                self.chunks.push_back(chunk);
            }
        }
    }

    /// The first pieces that wait; returns how many were set.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let mut skip = self.written;
        let pieces = self.chunks.iter().take(MAX_SLICES);
        pieces.zip(slices).fold(0, |count, (chunk, slice)| {
            *slice = IoSlice::new(&chunk.bytes[std::mem::take(&mut skip)..]);
            count + 1
        })
    }

    /// Drops bytes that have been written.
    pub(crate) fn advance(&mut self, bytes: usize, pool: &mut ChunkPool) {
        assert!(
            bytes <= self.pending,
            "{bytes} of {} bytes were written",
            self.pending
        );
        self.pending -= bytes;
        self.written += bytes;
        while let Some(first) = self.chunks.front()
            && self.written >= first.len()
        {
            self.written -= first.len();
            let first = self.chunks.pop_front().expect("it was there");
            pool.give(first);
        }
    }

    /// Drops everything that waits.
    pub(crate) fn clear(&mut self, pool: &mut ChunkPool) {
        self.chunks.drain(..).for_each(|chunk| pool.give(chunk));
        self.written = 0;
        self.pending = 0;
    }

    /// Takes all chunks, to hand them over. Nothing of them may have been written.
    pub(crate) fn into_chunks(self) -> Vec<Chunk> {
        assert_eq!(self.written, 0, "partly written chunks stay where they are");
        self.chunks.into()
    }
}

/// Appends to an [`Output`] with chunks from a pool.
pub(crate) struct Writer<'a> {
    output: &'a mut Output,
    pool: &'a mut ChunkPool,
}

impl Sink for Writer<'_> {
    #[inline]
    fn put(&mut self, mut bytes: &[u8]) {
        self.output.pending += bytes.len();
        loop {
            if let Some(last) = self.output.chunks.back_mut() {
                let fitting = bytes.len().min(last.room());
                let (now, later) = bytes.split_at(fitting);
                last.bytes.extend_from_slice(now);
                bytes = later;
            }
            if bytes.is_empty() {
                return;
            }
            let chunk = self.pool.take();
            self.output.chunks.push_back(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(output: &Output) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = output.slices(&mut slices);
        slices[..count]
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect()
    }

    #[test]
    fn bytes_come_out_in_order_however_they_are_written() {
        let mut pool = ChunkPool::new(0, 1);
        let mut output = Output::default();
        let all: Vec<u8> = (0..3 * CHUNK_BYTES + 17)
            .map(|number| number as u8)
            .collect();
        for part in all.chunks(1000) {
            output.writer(&mut pool).put(part);
        }
        assert_eq!(output.pending(), all.len());
        let mut at = 0;
        for step in [1, CHUNK_BYTES - 1, 5, CHUNK_BYTES, 100, 2 * CHUNK_BYTES] {
            assert_eq!(bytes(&output), all[at..]);
            let step = step.min(output.pending());
            output.advance(step, &mut pool);
            at += step;
        }
        assert!(output.is_empty() && output.chunks.is_empty());
        assert_eq!(pool.free.len(), 4);
    }

    #[test]
    fn emptied_chunks_go_back_to_where_they_came_from() {
        let (mut here, mut there) = (ChunkPool::new(0, 2), ChunkPool::new(1, 2));
        let mut filled = Output::default();
        filled.writer(&mut there).put(&[1; 20_000]);
        let mut output = Output::default();
        output.append(filled.into_chunks(), &mut here);
        output.advance(20_000, &mut here);
        assert_eq!((here.free.len(), here.homebound(1).len()), (0, 1));
    }

    #[test]
    fn small_pieces_from_elsewhere_are_gathered() {
        let (mut here, mut there) = (ChunkPool::new(0, 2), ChunkPool::new(1, 2));
        let mut output = Output::default();
        for number in 0..100u8 {
            let mut filled = Output::default();
            filled.writer(&mut there).put(&[number; 100]);
            output.append(filled.into_chunks(), &mut here);
        }
        assert_eq!((output.chunks.len(), output.pending()), (1, 10_000));
        assert_eq!(bytes(&output)[9_900..], [99; 100]);
    }
}

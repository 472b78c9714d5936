//! Reading of protocol buffer fields from a slice, borrowing. Strict where the reference is:
//! truncation, wrong wire types, stray end-group tags and field number 0 are errors (`None`).

/// Field number and wire type.
#[derive(Clone, Copy)]
pub(super) struct Tag {
    pub(super) field: u32,
    wire_type: u8,
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH_DELIMITED: u8 = 2;
const START_GROUP: u8 = 3;
const END_GROUP: u8 = 4;
const FIXED32: u8 = 5;

/// Groups within groups beyond this are refused, so that input cannot exhaust the stack.
const MAX_GROUP_DEPTH: u32 = 100;

pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    /// Bytes not read yet.
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next field's tag; `Some(None)` at the end.
    pub(super) fn tag(&mut self) -> Option<Option<Tag>> {
        if self.rest.is_empty() {
            return Some(None);
        }
        let key = u32::try_from(self.varint()?).ok()?;
        let tag = Tag {
            field: key >> 3,
            wire_type: (key & 7) as u8,
        };
        (tag.field != 0).then_some(Some(tag))
    }

    /// The value of a string or bytes field.
    pub(super) fn bytes(&mut self, tag: Tag) -> Option<&'a [u8]> {
        if tag.wire_type != LENGTH_DELIMITED {
            return None;
        }
        let length = usize::try_from(self.varint()?).ok()?;
        self.take(length)
    }

    /// The value of an integer field.
    pub(super) fn integer(&mut self, tag: Tag) -> Option<u64> {
        if tag.wire_type == VARINT {
            self.varint()
        } else {
            None
        }
    }

    /// Steps over a field that is not known.
    pub(super) fn skip(&mut self, tag: Tag) -> Option<()> {
        self.skip_nested(tag, MAX_GROUP_DEPTH)
    }

    fn skip_nested(&mut self, tag: Tag, depth: u32) -> Option<()> {
        match tag.wire_type {
            VARINT => drop(self.varint()?),
            FIXED64 => drop(self.take(8)?),
            LENGTH_DELIMITED => drop(self.bytes(tag)?),
            FIXED32 => drop(self.take(4)?),
            START_GROUP => loop {
                let inner = self.tag()??;
                if inner.wire_type == END_GROUP {
                    return (inner.field == tag.field).then_some(());
                }
                self.skip_nested(inner, depth.checked_sub(1)?)?;
            },
            _ => return None,
        }
        Some(())
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for (index, byte) in self.rest.iter().take(10).enumerate() {
            // The tenth byte holds one bit.
            if index == 9 && *byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Some(value);
            }
        }
        None
    }
}

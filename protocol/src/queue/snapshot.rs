//! What a queue must not forget, in few bytes.

use bytes::{BufMut, BytesMut};

use crate::limits::{INTEGER_MAX, QUEUE_WINDOW_MAX};
use crate::position::Epoch;

/// The first byte: the form of what follows.
const FORM: u8 = 1;

/// What a queue must not forget. Bounded: nothing in it is further above the floor than [`QUEUE_WINDOW_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The log's incarnation; what else stands here is of this one only.
    pub epoch: Epoch,
    /// Every offset up to here is done.
    pub floor: u64,
    /// Offsets above it that are done: first and last of each run, in order.
    pub done: Vec<(u64, u64)>,
    /// How often the others were dispatched, as far as they were, in order.
    pub tries: Vec<(u64, u32)>,
}

/// The bytes are no snapshot: of another form, or damaged. Do not go on without it: that would deliver what was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no snapshot of a queue")]
pub struct InvalidSnapshot;

impl Snapshot {
    /// Appends it: numbers of seven bits per byte, each as its distance from the one before.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u8(FORM);
        for number in [self.epoch.0, self.floor, self.done.len() as u64] {
            put(number, out);
        }
        let mut last = self.floor;
        for (from, until) in &self.done {
            put(from - last, out);
            put(until - from, out);
            last = *until;
        }
        put(self.tries.len() as u64, out);
        last = self.floor;
        for (offset, tries) in &self.tries {
            put(offset - last, out);
            put(u64::from(*tries), out);
            last = *offset;
        }
    }

    /// Reads it back.
    ///
    /// # Errors
    /// [`InvalidSnapshot`].
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidSnapshot> {
        let Some((&FORM, mut rest)) = bytes.split_first() else { return Err(InvalidSnapshot) };
        let rest = &mut rest;
        let (epoch, floor) = (Epoch(take(rest)?), take(rest)?);
        let within = |offset: u64| {
            if offset - floor > QUEUE_WINDOW_MAX { Err(InvalidSnapshot) } else { Ok(offset) }
        };
        let mut snapshot = Self { epoch, floor, ..Self::default() };
        let mut last = floor;
        for _ in 0..take(rest)? {
            let from = within(last + take_distance(rest)?)?;
            let until = within(from + take(rest)?)?;
            snapshot.done.push((from, until));
            last = until;
        }
        last = floor;
        for _ in 0..take(rest)? {
            last = within(last + take_distance(rest)?)?;
            let tries = u32::try_from(take(rest)?).map_err(|_| InvalidSnapshot)?;
            snapshot.tries.push((last, tries));
        }
        if rest.is_empty() { Ok(snapshot) } else { Err(InvalidSnapshot) }
    }
}

fn put(mut number: u64, out: &mut BytesMut) {
    while number >= 0x80 {
        out.put_u8((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

/// A number of at most 53 bits, so that sums of two of them fit.
fn take(rest: &mut &[u8]) -> Result<u64, InvalidSnapshot> {
    let mut number = 0_u64;
    for shift in (0..56).step_by(7) {
        let (byte, after) = rest.split_first().ok_or(InvalidSnapshot)?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return if number > INTEGER_MAX { Err(InvalidSnapshot) } else { Ok(number) };
        }
    }
    Err(InvalidSnapshot)
}

/// A distance to the number before, which is another one.
fn take_distance(rest: &mut &[u8]) -> Result<u64, InvalidSnapshot> {
    take(rest).and_then(|distance| if distance == 0 { Err(InvalidSnapshot) } else { Ok(distance) })
}

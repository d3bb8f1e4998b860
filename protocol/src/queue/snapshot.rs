//! What all nodes know of a queue, in few bytes.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::state::{Holder, Open, State};
use crate::limits::{INTEGER_MAX, QUEUE_WINDOW_MAX};
use crate::position::Epoch;

/// The first byte: the form of what follows.
const FORM: u8 = 1;

/// In the number behind an offset: it came back from somebody.
const IS_AGAIN: u64 = 1;

/// In the number behind an offset: it is for the dead-letter topic.
const IS_DEAD: u64 = 2;

/// Bits of that number below the holder's place in the list of holders, which counts from 1; 0 is nobody.
const FLAG_BITS: u32 = 2;

/// The bytes are no state of a queue: of another form, or damaged. Do not go on without it: that would deliver what was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no state of a queue")]
pub struct InvalidState;

impl State {
    /// Appends it: numbers of seven bits per byte, each offset as its distance from the one before.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u8(FORM);
        put(self.epoch.0, out);
        put(self.floor, out);
        let holders: Vec<Holder> = self.holders().into_iter().collect();
        put(holders.len() as u64, out);
        for holder in &holders {
            put(holder.0.len() as u64, out);
            out.put_slice(holder.0.as_bytes());
        }
        put(self.done.len() as u64, out);
        let mut last = self.floor;
        for (from, until) in &self.done {
            put(from - last, out);
            put(until - from, out);
            last = *until;
        }
        put(self.open.len() as u64, out);
        last = self.floor;
        for (offset, open) in &self.open {
            let place = open.holder.as_ref().and_then(|holder| holders.binary_search(holder).ok());
            let place = place.map_or(0, |place| place as u64 + 1) << FLAG_BITS;
            let is_again = if open.is_again { IS_AGAIN } else { 0 };
            let is_dead = if open.is_dead { IS_DEAD } else { 0 };
            put(offset - last, out);
            put(u64::from(open.tries), out);
            put(place | is_again | is_dead, out);
            last = *offset;
        }
    }

    /// Reads it back.
    ///
    /// # Errors
    /// [`InvalidState`].
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidState> {
        let Some((&FORM, mut rest)) = bytes.split_first() else { return Err(InvalidState) };
        let rest = &mut rest;
        let (epoch, floor) = (Epoch(take(rest)?), take(rest)?);
        let mut state = Self::starting(epoch, floor);
        let mut holders: Vec<Holder> = Vec::new();
        for _ in 0..take(rest)? {
            holders.push(take_holder(rest)?);
        }
        let within = |offset: u64| {
            if offset - floor > QUEUE_WINDOW_MAX { Err(InvalidState) } else { Ok(offset) }
        };
        let mut last = floor;
        for _ in 0..take(rest)? {
            let from = within(last + take_distance(rest)?)?;
            let until = within(from + take(rest)?)?;
            state.done.insert(from, until);
            last = until;
        }
        last = floor;
        for _ in 0..take(rest)? {
            last = within(last + take_distance(rest)?)?;
            if state.is_done(last) {
                return Err(InvalidState);
            }
            let tries = u32::try_from(take(rest)?).map_err(|_| InvalidState)?;
            let flags = take(rest)?;
            let holder = match flags >> FLAG_BITS {
                0 => None,
                place => {
                    let place = usize::try_from(place - 1).map_err(|_| InvalidState)?;
                    Some(holders.get(place).ok_or(InvalidState)?.clone())
                }
            };
            let (is_again, is_dead) = (flags & IS_AGAIN != 0, flags & IS_DEAD != 0);
            state.open.insert(last, Open { tries, is_again, is_dead, holder });
        }
        // A hole would be a message that nobody ever gets.
        let n_done: u64 = state.done.iter().map(|(from, until)| until - from + 1).sum();
        let newest = state.open.last_key_value().map_or(floor, |(offset, _)| *offset);
        let newest = newest.max(state.done.last_key_value().map_or(floor, |(_, until)| *until));
        let is_whole = newest - floor == n_done + state.open.len() as u64;
        if rest.is_empty() && is_whole && !state.done.contains_key(&(floor + 1)) {
            Ok(state)
        } else {
            Err(InvalidState)
        }
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
fn take(rest: &mut &[u8]) -> Result<u64, InvalidState> {
    let mut number = 0_u64;
    for shift in (0..56).step_by(7) {
        let (byte, after) = rest.split_first().ok_or(InvalidState)?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return if number > INTEGER_MAX { Err(InvalidState) } else { Ok(number) };
        }
    }
    Err(InvalidState)
}

/// A distance to the number before, which is another one.
fn take_distance(rest: &mut &[u8]) -> Result<u64, InvalidState> {
    take(rest).and_then(|distance| if distance == 0 { Err(InvalidState) } else { Ok(distance) })
}

fn take_holder(rest: &mut &[u8]) -> Result<Holder, InvalidState> {
    let length = usize::try_from(take(rest)?).map_err(|_| InvalidState)?;
    let (name, after) = rest.split_at_checked(length).ok_or(InvalidState)?;
    *rest = after;
    Ok(Holder(Arc::from(std::str::from_utf8(name).map_err(|_| InvalidState)?)))
}

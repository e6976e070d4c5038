//! The streams of one connection: by the id its user holds, and by their number on the wire.
//!
//! A stream leaves the wire when both sides have ended it, and the table when its user has closed it. A few that have left
//! the wire are remembered by number, because a frame that was under way is no fault and one that was not is.

use std::collections::{HashMap, VecDeque};

use evenkeel_model::limits;

use crate::flow::{ReceiveWindow, SendWindow};
use crate::stream::{Inbox, Stream, StreamId};

/// How a stream ended that is no longer on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Both,
    ByUs,
    ByThem,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    slots: slab::Slab<Stream>,
    /// Streams that frames can concern, by their number on the wire.
    wires: HashMap<u32, u32>,
    /// Inboxes of finished streams, for the next ones.
    spare: Vec<Inbox>,
    ended: VecDeque<(u32, Ending)>,
    serial: u32,
}

/// Finished streams whose buffers are kept. A busy connection takes them again at once; more would only lie about.
const SPARE: usize = 4;

impl Table {
    pub(crate) fn new_stream(&mut self, receive: ReceiveWindow, send: SendWindow) -> Stream {
        self.serial += 1;
        Stream::new(self.serial, receive, send, self.spare.pop().unwrap_or_default())
    }

    pub(crate) fn insert(&mut self, stream: Stream) -> StreamId {
        let serial = stream.serial;
        let slot = self.slots.insert(stream) as u32;
        StreamId { slot, serial }
    }

    pub(crate) fn get(&self, id: StreamId) -> Option<&Stream> {
        self.slots.get(id.slot as usize).filter(|stream| stream.serial == id.serial)
    }

    pub(crate) fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.slots.get_mut(id.slot as usize).filter(|stream| stream.serial == id.serial)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (StreamId, &mut Stream)> {
        self.slots.iter_mut().map(|(slot, stream)| (StreamId { slot: slot as u32, serial: stream.serial }, stream))
    }

    /// Frees the stream; says how much payload nobody has read.
    pub(crate) fn remove(&mut self, id: StreamId) -> usize {
        if self.get(id).is_none() {
            return 0;
        }
        let stream = self.slots.remove(id.slot as usize);
        let unread = stream.inbox.payload.len();
        if self.spare.len() < SPARE {
            self.spare.extend(stream.inbox.recycle());
        }
        unread
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    // The wire.

    /// The stream a frame is for.
    pub(crate) fn on_wire(&self, wire: u32) -> Option<StreamId> {
        let slot = *self.wires.get(&wire)?;
        let stream = self.slots.get(slot as usize)?;
        Some(StreamId { slot, serial: stream.serial })
    }

    pub(crate) fn put_on_wire(&mut self, id: StreamId, wire: u32) {
        if let Some(stream) = self.get_mut(id) {
            stream.wire = wire;
            self.wires.insert(wire, id.slot);
        }
    }

    pub(crate) fn take_off_wire(&mut self, id: StreamId, ending: Ending) {
        let Some(stream) = self.get_mut(id) else { return };
        stream.closed = true;
        let wire = stream.wire;
        if wire != 0 {
            self.wires.remove(&wire);
            self.remember(wire, ending);
        }
    }

    pub(crate) fn clear_wires(&mut self) {
        self.wires.clear();
    }

    /// Streams that frames can concern.
    pub(crate) fn active(&self) -> usize {
        self.wires.len()
    }

    /// How a stream ended that has left the wire; `None` when that is forgotten or never was.
    pub(crate) fn ending_of(&self, wire: u32) -> Option<Ending> {
        self.ended.iter().rev().find(|(ended, _)| *ended == wire).map(|(_, ending)| *ending)
    }

    pub(crate) fn remember(&mut self, wire: u32, ending: Ending) {
        if self.ended.len() == limits::H2_CLOSED_STREAMS.value as usize {
            self.ended.pop_front();
        }
        self.ended.push_back((wire, ending));
    }

    // Memory.

    /// What busy times have left behind, now that there is no stream.
    pub(crate) fn shrink(&mut self) {
        if self.slots.capacity() > 8 {
            self.slots = slab::Slab::new();
        }
        if self.wires.capacity() > 16 {
            self.wires = HashMap::new();
        }
        self.spare.truncate(1);
    }

    pub(crate) fn footprint(&self) -> usize {
        // A bucket of a hash table has a control byte besides.
        let wires = self.wires.capacity() * (size_of::<(u32, u32)>() + 1);
        let lists = self.ended.capacity() * size_of::<(u32, Ending)>() + self.spare.capacity() * size_of::<Inbox>();
        let streams = self.slots.capacity() * (size_of::<Stream>() + size_of::<usize>());
        let held = self.slots.iter().map(|(_, stream)| stream.inbox.footprint() + stream.head_part.capacity());
        let spare = self.spare.iter().map(Inbox::footprint);
        wires + lists + streams + held.sum::<usize>() + spare.sum::<usize>()
    }
}

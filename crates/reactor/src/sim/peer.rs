//! The clients and backends that a test plays, outside every node.
//!
//! An end reads whatever comes, unless told to pause, and its sends are taken whole, however large: a
//! script says what it wants and the network does it as fast as the other side allows.

use std::net::SocketAddr;

use super::net::Net;
use super::socket::{Datagram, Phase, Reading};
use super::world::World;
use crate::{Close, Errno};

/// A client's or a backend's end of a connection. Clones are the same end; dropping one closes nothing.
#[derive(Clone)]
pub struct End {
    net: Net,
    id: u32,
}

impl End {
    pub(super) fn new(net: &Net, id: u32) -> Self {
        End { net: net.clone(), id }
    }

    /// Number in the trace.
    pub fn id(&self) -> u32 {
        self.id
    }

    pub fn local(&self) -> SocketAddr {
        self.net.world.borrow_mut().socket(self.id).local
    }

    pub fn remote(&self) -> SocketAddr {
        self.net.world.borrow_mut().tcp(self.id).remote
    }

    /// How the connection was decided; `None` while it is not.
    pub fn connected(&self) -> Option<Result<(), Errno>> {
        let mut world = self.net.world.borrow_mut();
        let tcp = world.tcp(self.id);
        if let Some(refusal) = tcp.refusal {
            return Some(Err(refusal));
        }
        (tcp.phase != Phase::Dialling).then_some(Ok(()))
    }

    /// Sends behind what was sent before. After a reset it goes nowhere.
    pub fn send(&self, bytes: &[u8]) {
        self.open("send").send(self.id, bytes);
    }

    /// Bytes of [`End::send`] that are not on their way yet, because the other side does not read.
    pub fn unsent(&self) -> usize {
        self.net.world.borrow_mut().tcp(self.id).outbox.len()
    }

    /// FIN after what was sent.
    pub fn finish(&self) {
        self.open("finish").finish(self.id);
    }

    /// Lets go as `close(2)` does: FIN, or a reset when bytes wait unread. Fine to call twice, because a
    /// script does not always know how far it came.
    pub fn close(&self) {
        self.let_go(Close::Orderly);
    }

    pub fn reset(&self) {
        self.let_go(Close::Reset);
    }

    /// Nothing passes from now on, either way, and nobody is told.
    pub fn black_hole(&self) {
        self.net.world.borrow_mut().lose(self.id);
    }

    /// Stops reading, so that the window closes and the other side has to wait.
    pub fn pause_reading(&self) {
        self.open("pause_reading").tcp(self.id).reading = Reading::Paused;
    }

    pub fn resume_reading(&self) {
        let mut world = self.open("resume_reading");
        world.tcp(self.id).reading = Reading::Eager;
        read(&mut world, self.id, usize::MAX);
    }

    /// Reads up to `most` bytes while paused; how many it were.
    pub fn read(&self, most: usize) -> usize {
        read(&mut self.open("read"), self.id, most)
    }

    /// All it has read so far, minus what was taken.
    pub fn received(&self) -> Vec<u8> {
        self.net.world.borrow_mut().tcp(self.id).received.clone()
    }

    pub fn received_len(&self) -> usize {
        self.net.world.borrow_mut().tcp(self.id).received.len()
    }

    /// Takes away what it has read so far.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.net.world.borrow_mut().tcp(self.id).received)
    }

    /// Whether the other side has sent its last byte, and all of them are here.
    pub fn saw_fin(&self) -> bool {
        self.net.world.borrow_mut().tcp(self.id).saw_fin
    }

    pub fn saw_reset(&self) -> bool {
        self.net.world.borrow_mut().tcp(self.id).saw_reset
    }

    /// Whether this end was not closed by the test yet.
    pub fn is_open(&self) -> bool {
        self.net.world.borrow_mut().socket(self.id).closed.is_none()
    }

    /// Whether the other side's owner still holds its socket: what a leak looks like from here.
    pub fn other_side_is_open(&self) -> bool {
        let mut world = self.net.world.borrow_mut();
        let other = world.tcp(self.id).other;
        other.is_some_and(|other| {
            let socket = world.socket(other);
            socket.held && socket.closed.is_none()
        })
    }

    fn let_go(&self, how: Close) {
        if self.is_open() {
            self.net.world.borrow_mut().close(self.id, how);
        }
    }

    fn open(&self, doing: &str) -> std::cell::RefMut<'_, World> {
        let world = self.net.world.borrow_mut();
        let closed = world.sockets[self.id as usize].closed;
        assert!(closed.is_none(), "the test calls {doing} on {}, which it has closed", world.describe(self.id));
        world
    }
}

/// Moves up to `most` waiting bytes to what the end has read.
fn read(world: &mut World, id: u32, most: usize) -> usize {
    let waiting = world.tcp(id).inbox.len();
    let mut bytes = vec![0; waiting.min(most)];
    if bytes.is_empty() {
        return 0;
    }
    world.receive(id, &mut bytes);
    world.tcp(id).received.extend_from_slice(&bytes);
    bytes.len()
}

/// A server that the test plays: it accepts when it is asked to.
#[derive(Clone)]
pub struct Backend {
    net: Net,
    id: u32,
}

impl Backend {
    pub(super) fn new(net: &Net, id: u32) -> Self {
        Backend { net: net.clone(), id }
    }

    pub fn address(&self) -> SocketAddr {
        self.net.world.borrow_mut().socket(self.id).local
    }

    /// The oldest connection that waits; a connection that nobody accepts keeps its client waiting.
    pub fn accept(&self) -> Option<End> {
        let mut world = self.net.world.borrow_mut();
        world.accept(self.id).map(|id| End::new(&self.net, id))
    }

    /// Connections whose handshake was completed: what an application could come to see.
    pub fn completed(&self) -> u64 {
        self.net.world.borrow_mut().listener(self.id).completed
    }

    /// Handshakes that the other side reset before the last ACK: what no application ever sees.
    pub fn half_open(&self) -> u64 {
        self.net.world.borrow_mut().listener(self.id).half_open
    }

    /// Stops listening. Connections that wait to be accepted are reset, accepted ones go on.
    pub fn close(&self) {
        let mut world = self.net.world.borrow_mut();
        if world.socket(self.id).closed.is_none() {
            world.close(self.id, Close::Orderly);
        }
    }

    /// `kill -9`: the listener goes, and the kernel closes every connection.
    pub fn kill(&self) {
        self.close();
        let mut world = self.net.world.borrow_mut();
        for id in 0..world.sockets.len() as u32 {
            if world.is_connection_of(id, self.id) && world.socket(id).closed.is_none() {
                world.close(id, Close::Orderly);
            }
        }
    }
}

/// A UDP server that the test plays.
#[derive(Clone)]
pub struct UdpService {
    net: Net,
    id: u32,
}

impl UdpService {
    pub(super) fn new(net: &Net, id: u32) -> Self {
        UdpService { net: net.clone(), id }
    }

    pub fn address(&self) -> SocketAddr {
        self.net.world.borrow_mut().socket(self.id).local
    }

    /// The oldest datagram not looked at yet, and who sent it.
    pub fn recv(&self) -> Option<(SocketAddr, Vec<u8>)> {
        let datagram = self.net.world.borrow_mut().udp(self.id)?.inbox.pop_front()?;
        Some((datagram.from, datagram.bytes))
    }

    pub fn send(&self, to: SocketAddr, bytes: &[u8]) {
        let datagram = Datagram { from: self.address(), to, bytes: bytes.to_vec() };
        self.net.world.borrow_mut().send_datagram(self.id, datagram);
    }

    /// From now on datagrams to it are refused.
    pub fn close(&self) {
        let mut world = self.net.world.borrow_mut();
        if world.socket(self.id).closed.is_none() {
            world.close(self.id, Close::Orderly);
        }
    }
}

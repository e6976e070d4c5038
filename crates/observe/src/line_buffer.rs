//! Takes log lines off the hot path: a buffer per worker, one thread that writes.
//!
//! A worker never waits for a disk or a pipe. Full buffers go through a bounded queue; when the writer
//! cannot keep up the buffer is dropped and its lines are counted, because a log that stops traffic
//! is worse than a log with a gap that says how large it is.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use evenkeel_model::exchange::Outcome;
use evenkeel_model::{Epoch, Instant, limits};

use crate::Observer;
use crate::access_log::{DateCache, write_line_with};

/// Longest time a line waits in a buffer while the worker is busy.
const FLUSH_AFTER: Duration = Duration::from_millis(100);

/// The thread that writes.
pub struct LogWriter {
    queue: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
    next: Next,
    thread: thread::JoinHandle<()>,
}

/// The sink that takes the place of the one in use.
type Next = Arc<Mutex<Option<Sink>>>;

type Sink = Box<dyn Write + Send>;

impl LogWriter {
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(mut sink: Sink) -> std::io::Result<Self> {
        let (queue, waiting): (_, Receiver<Vec<u8>>) = sync_channel(limits::ACCESS_LOG_QUEUE.value as usize);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        let next = Next::default();
        let newer = Arc::clone(&next);
        let thread = thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            // A disk that is full may have taken a part of a line; the next one must not be glued to it.
            let mut torn = false;
            for lines in waiting {
                if let Some(newer) = newer.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    (sink, torn) = (newer, false);
                }
                let ended = if torn && !lines.is_empty() { sink.write_all(b"\n") } else { Ok(()) };
                if ended.and_then(|()| sink.write_all(&lines)).and_then(|()| sink.flush()).is_ok() {
                    torn &= lines.is_empty();
                } else {
                    torn = true;
                    lost.fetch_add(count_lines(&lines), Ordering::Relaxed);
                }
            }
        })?;
        Ok(LogWriter { queue, dropped, next, thread })
    }

    /// Writes there from now on: every line that is not written yet is written to the new sink, so that none is lost when a
    /// file was renamed and another one opened.
    pub fn replace(&self, sink: Sink) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(sink);
        // An empty buffer, so that the old one is let go now and not with the next line. A full queue does it too.
        let _ = self.queue.try_send(Vec::new());
    }

    pub fn buffer(&self, epoch: Epoch) -> LineBuffer {
        LineBuffer {
            lines: Vec::new(),
            oldest: Instant::NEVER,
            epoch,
            date: DateCache::default(),
            queue: self.queue.clone(),
            dropped: Arc::clone(&self.dropped),
        }
    }

    /// Lines lost so far because the sink was slow or failed.
    pub fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }

    /// Waits until everything handed over is written. All buffers must be gone by then.
    pub fn finish(self) {
        drop(self.queue);
        // A panic of the writer has been printed by its own thread.
        let _ = self.thread.join();
    }
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWriter").finish_non_exhaustive()
    }
}

/// A worker's end.
#[derive(Debug)]
pub struct LineBuffer {
    lines: Vec<u8>,
    oldest: Instant,
    epoch: Epoch,
    date: DateCache,
    queue: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

impl LineBuffer {
    pub fn flush(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let lines = std::mem::replace(&mut self.lines, Vec::with_capacity(limits::ACCESS_LOG_BUFFER.value as usize));
        if let Err(TrySendError::Full(lines) | TrySendError::Disconnected(lines)) = self.queue.try_send(lines) {
            self.dropped.fetch_add(count_lines(&lines), Ordering::Relaxed);
            self.lines = lines;
            self.lines.clear();
        }
    }
}

impl Observer for LineBuffer {
    fn ended(&mut self, outcome: &Outcome<'_>) {
        if self.lines.is_empty() {
            self.oldest = outcome.times.ended + FLUSH_AFTER;
        }
        write_line_with(outcome, self.epoch, &mut self.date, &mut self.lines);
        if self.lines.len() >= limits::ACCESS_LOG_BUFFER.value as usize - 4096 {
            self.flush();
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        (!self.lines.is_empty()).then_some(self.oldest)
    }

    /// Hands the lines to the writer if they have waited long enough at `now`.
    fn handle_timeout(&mut self, now: Instant) {
        if !self.lines.is_empty() && now >= self.oldest {
            self.flush();
        }
    }
}

impl Drop for LineBuffer {
    fn drop(&mut self) {
        self.flush();
    }
}

fn count_lines(lines: &[u8]) -> u64 {
    lines.iter().filter(|&&byte| byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::outcome;
    use std::sync::mpsc::{Sender, channel};

    /// A sink that writes only when it is let.
    struct Gate {
        open: Receiver<()>,
        wrote: Sender<usize>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.open.recv();
            let _ = self.wrote.send(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_sink_that_hangs_costs_counted_lines_and_never_blocks_the_worker() {
        let (open, gate) = channel();
        let (wrote, written) = channel();
        let writer = LogWriter::start(Box::new(Gate { open: gate, wrote })).expect("a thread");
        let mut buffer = writer.buffer(Epoch::default());
        let sent = limits::ACCESS_LOG_QUEUE.value + 10;
        for _ in 0..sent {
            buffer.ended(&outcome(Instant::START));
            buffer.flush();
        }
        let lost = writer.dropped().load(Ordering::Relaxed);
        // The writer holds one buffer at most outside the queue.
        assert!((9..=10).contains(&lost), "{lost} lines lost");
        drop(open);
        drop(buffer);
        let dropped = writer.dropped();
        writer.finish();
        assert_eq!(written.iter().count() as u64 + dropped.load(Ordering::Relaxed), sent);
    }

    /// A disk with room for so many bytes, until it is given more.
    struct Disk {
        room: Arc<AtomicU64>,
        file: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let room = self.room.load(Ordering::SeqCst);
            let count = room.min(bytes.len() as u64);
            if count == 0 {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.room.fetch_sub(count, Ordering::SeqCst);
            self.file.lock().expect("nobody panics with it").extend_from_slice(&bytes[..count as usize]);
            Ok(count as usize)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_torn_by_a_full_disk_spoils_no_other_line() {
        let (room, file) = (Arc::new(AtomicU64::new(10)), Arc::new(Mutex::new(Vec::new())));
        let disk = Disk { room: Arc::clone(&room), file: Arc::clone(&file) };
        let writer = LogWriter::start(Box::new(disk)).expect("a thread");
        let (queue, dropped) = (writer.queue.clone(), writer.dropped());
        queue.send(b"{\"lost\":\"torn\"}\n".to_vec()).expect("it runs");
        while dropped.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        room.store(1000, Ordering::SeqCst);
        queue.send(b"{\"whole\":1}\n".to_vec()).expect("it runs");
        queue.send(b"{\"whole\":2}\n".to_vec()).expect("it runs");
        drop(queue);
        writer.finish();
        let text = String::from_utf8(file.lock().expect("nobody panics with it").clone()).expect("ASCII");
        assert_eq!(text, "{\"lost\":\"t\n{\"whole\":1}\n{\"whole\":2}\n");
    }

    #[test]
    fn lines_wait_a_tenth_of_a_second_and_no_longer() {
        let writer = LogWriter::start(Box::new(std::io::sink())).expect("a thread");
        let mut buffer = writer.buffer(Epoch::default());
        assert_eq!(buffer.poll_timeout(), None);
        buffer.ended(&outcome(Instant::START));
        assert_eq!(buffer.poll_timeout(), Some(Instant::START + FLUSH_AFTER));
        buffer.handle_timeout(Instant::START + FLUSH_AFTER);
        assert_eq!(buffer.poll_timeout(), None);
        drop(buffer);
        writer.finish();
    }
}

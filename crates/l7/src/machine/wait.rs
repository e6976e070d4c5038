//! Whom an exchange waits for, how long, and whose fault it is when the time is up.
//!
//! A connection has one deadline at a time. It belongs to whoever has to act next, so that a timeout
//! always has one name: a client that does not read is never reported as a slow backend.

use std::time::Duration;

use evenkeel_model::Cause;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// For a PROXY header.
    Introduction,
    /// For the client's part of the TLS handshake.
    Handshake,
    /// For the next request.
    KeepAlive,
    /// For the rest of a request head.
    Header,
    Connect,
    /// For a place at a backend.
    Queue,
    /// For the head of the answer, before a second backend is asked too.
    Hedge,
    /// For the head of the answer, before another backend is tried instead.
    Try,
    /// For the client to send more of its body.
    ClientBody,
    /// For the backend to take more of the body.
    BackendWrite,
    /// For the head of the answer.
    Response,
    /// For more of the answer.
    BackendBody,
    /// For the client to read what it was sent.
    ClientRead,
    /// For a byte either way in an upgraded request.
    Relay,
    /// For the client to notice that we have finished and close.
    Linger,
}

impl Wait {
    pub const ALL: [Wait; 15] = [
        Wait::Introduction,
        Wait::Handshake,
        Wait::KeepAlive,
        Wait::Header,
        Wait::Connect,
        Wait::Queue,
        Wait::Hedge,
        Wait::Try,
        Wait::ClientBody,
        Wait::BackendWrite,
        Wait::Response,
        Wait::BackendBody,
        Wait::ClientRead,
        Wait::Relay,
        Wait::Linger,
    ];

    /// What it means that the wait was in vain; `None` where it is an ordinary end.
    pub const fn cause(self) -> Option<Cause> {
        match self {
            Wait::KeepAlive | Wait::Linger => None,
            Wait::Introduction => Some(Cause::ClientProxyHeaderInvalid),
            Wait::Handshake => Some(Cause::TlsHandshakeFailed),
            Wait::Header => Some(Cause::ClientHeaderTimeout),
            Wait::Connect => Some(Cause::BackendConnectTimeout),
            Wait::ClientBody => Some(Cause::ClientBodyTimeout),
            Wait::BackendWrite => Some(Cause::BackendWriteTimeout),
            Wait::Queue => Some(Cause::BackendQueueTimeout),
            Wait::Response | Wait::Hedge | Wait::Try => Some(Cause::BackendResponseTimeout),
            Wait::BackendBody => Some(Cause::BackendBodyTimeout),
            Wait::ClientRead => Some(Cause::ClientStalled),
            Wait::Relay => Some(Cause::RelayIdleTimeout),
        }
    }
}

/// The times in force, read from listener and pool when the exchange begins, so that a reload does not
/// change the rules for a request that is under way.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    pub handshake: Duration,
    pub keep_alive: Duration,
    pub header: Duration,
    pub client_body: Duration,
    pub connect: Duration,
    pub response: Duration,
    pub backend_body: Duration,
    pub relay: Duration,
}

/// How long a closed connection is kept to let the client read the last answer. nginx gives 5 s
/// between two reads.
pub const LINGER: Duration = Duration::from_secs(5);

impl Timeouts {
    pub const fn of(&self, wait: Wait) -> Duration {
        match wait {
            Wait::Handshake => self.handshake,
            Wait::KeepAlive => self.keep_alive,
            Wait::Introduction | Wait::Header => self.header,
            Wait::ClientBody | Wait::ClientRead => self.client_body,
            Wait::Connect => self.connect,
            Wait::Response | Wait::Hedge | Wait::Try => self.response,
            // The queue knows the time; this one is never waited for alone.
            Wait::Queue => self.connect,
            Wait::BackendWrite | Wait::BackendBody => self.backend_body,
            Wait::Relay => self.relay,
            Wait::Linger => LINGER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_model::Blame;

    #[test]
    fn a_timeout_blames_the_side_that_was_waited_for() {
        for wait in Wait::ALL {
            let expected = match wait {
                Wait::KeepAlive | Wait::Linger => None,
                // Who is listed as a sender of headers and sends none is listed wrongly.
                Wait::Introduction => Some(Blame::Operator),
                Wait::Handshake | Wait::Header | Wait::ClientBody | Wait::ClientRead => Some(Blame::Client),
                Wait::Connect | Wait::Relay => Some(Blame::Network),
                Wait::Queue | Wait::BackendWrite | Wait::Hedge | Wait::Try | Wait::Response | Wait::BackendBody => {
                    Some(Blame::Backend)
                }
            };
            assert_eq!(wait.cause().map(|cause| cause.entry().blame), expected, "{wait:?}");
        }
    }
}

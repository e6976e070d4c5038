//! The errno values the rooms tell apart, with Linux's numbers.
//!
//! Plain numbers rather than rustix's type, because the simulated driver makes them and rooms above the driver read
//! them. What nobody tells apart has no name here.

use crate::Errno;

pub const EAGAIN: Errno = Errno(11);
pub const ENOMEM: Errno = Errno(12);
pub const EINVAL: Errno = Errno(22);
pub const ENFILE: Errno = Errno(23);
pub const EMFILE: Errno = Errno(24);
pub const EPIPE: Errno = Errno(32);
pub const EPROTO: Errno = Errno(71);
pub const EDESTADDRREQ: Errno = Errno(89);
pub const EMSGSIZE: Errno = Errno(90);
pub const EAFNOSUPPORT: Errno = Errno(97);
pub const EADDRNOTAVAIL: Errno = Errno(99);
pub const ENETUNREACH: Errno = Errno(101);
pub const ECONNABORTED: Errno = Errno(103);
pub const ECONNRESET: Errno = Errno(104);
pub const ENOBUFS: Errno = Errno(105);
pub const ETIMEDOUT: Errno = Errno(110);
pub const ECONNREFUSED: Errno = Errno(111);
pub const EHOSTUNREACH: Errno = Errno(113);
pub const EACCES: Errno = Errno(13);
pub const EPERM: Errno = Errno(1);
pub const ENETDOWN: Errno = Errno(100);

impl Errno {
    /// We are out of something, so the other side is not to blame.
    pub fn is_our_shortage(self) -> bool {
        [ENOMEM, ENFILE, EMFILE, EADDRNOTAVAIL, ENOBUFS].contains(&self)
    }

    /// The network, or a firewall that rejects, says there is no way.
    pub fn is_unreachable(self) -> bool {
        [ENETUNREACH, EHOSTUNREACH, ENETDOWN, EACCES, EPERM].contains(&self)
    }
}

//! A map by probe key for those who look at every probe.
//!
//! Keys are numbers that control counts up, so nobody outside can choose them, and one multiplication
//! scatters them. A tree would look at five cold places of memory for each of 100,000 targets; this looks at one or two.
//! Nothing in it is random, so a run is the same in every replay, whatever its order.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Iterate over it only where order does not matter.
pub type ByNumber<K, V> = HashMap<K, V, BuildHasherDefault<Scatter>>;

/// Hashes one number. Of a key with several parts it would keep the last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scatter(u64);

impl Hasher for Scatter {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are single numbers of 64 bits");
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 over the golden ratio (Knuth 6.4): neighbours land far apart. Its high bits are the good ones, and the
        // table takes some from either end.
        let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = scattered ^ (scattered >> 32);
    }
}

//! Small numbers that name things inside one plan.
//!
//! An id is an index into the plan's tables and means nothing in another plan. What must survive a
//! reload (verdicts, connections, counters) is found again by name and address, never by id.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl $name {
            pub const fn index(self) -> usize {
                self.0 as usize
            }

            /// # Panics
            /// When a table has more than 2^32 rows, which no configuration that fits in memory has.
            pub fn from_index(index: usize) -> Self {
                $name(u32::try_from(index).expect("a plan's tables have fewer than 2^32 rows"))
            }
        }
    };
}

id!(
    /// A listener of the plan.
    ListenerId
);
id!(
    /// A pool of the plan.
    PoolId
);
id!(
    /// A backend as one pool sees it: the same address in two pools is two backends.
    BackendId
);
id!(
    /// What is probed: one (address, port, check settings), however many backends rest on it.
    TargetId
);

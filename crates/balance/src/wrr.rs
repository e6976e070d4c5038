//! The order of smooth weighted round robin.
//!
//! nginx's rule: each member earns its weight at every step, the richest is picked and pays the sum of
//! all weights. Heavy members come evenly between the others instead of in a row. The order
//! repeats after (sum of weights) steps, so it is computed once and then only read.
//!
//! With many members of mixed weights the period is too long to keep. Then each member has a stride,
//! the distance between its picks, and a heap hands out whoever is due next: as even as nginx's
//! rule, in O(log n) for a pick where nginx's rule costs O(n).

use evenkeel_model::limits;

/// Distance between two picks of a member of weight 1. Fine enough that rounding a stride moves a
/// share by less than one in 10^5 at weight 100, and small enough that sums of strides in 64
/// bits outlast any process.
const STRIDE_UNIT: u32 = 1 << 24;

/// One period of nginx's smooth order, or `None` when it is too long or too dear to compute.
pub fn smooth_sequence(weights: &[u32]) -> Option<Box<[u16]>> {
    let period: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    let cost = period * weights.len() as u64;
    if period > limits::WRR_SEQUENCE.value || cost > limits::WRR_COST.value {
        return None;
    }
    let mut credits = vec![0i64; weights.len()];
    let sequence = (0..period).map(|_| {
        let mut richest = 0;
        for (position, weight) in weights.iter().enumerate() {
            credits[position] += i64::from(*weight);
            // The first of equals wins, as in nginx.
            if credits[position] > credits[richest] {
                richest = position;
            }
        }
        credits[richest] -= period as i64;
        richest as u16
    });
    Some(sequence.collect())
}

pub fn strides(weights: &[u32]) -> Box<[u32]> {
    weights.iter().map(|weight| (STRIDE_UNIT / weight).max(1)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_order_is_nginxs() {
        // From the commit message of nginx's smooth weighted round robin (52327e0627f4): { 5, 1, 1 }
        // gives "a, a, b, a, c, a, a".
        assert_eq!(*smooth_sequence(&[5, 1, 1]).unwrap(), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(*smooth_sequence(&[2, 1]).unwrap(), [0, 1, 0]);
        assert_eq!(*smooth_sequence(&[1, 2, 3]).unwrap(), [2, 1, 0, 2, 1, 2]);
    }

    #[test]
    fn a_period_that_is_too_long_or_too_dear_is_not_computed() {
        assert!(smooth_sequence(&[4095, 1]).is_some());
        assert!(smooth_sequence(&[4096, 1]).is_none(), "longer than the longest sequence");
        let mut many = vec![1; 600];
        many[0] = 2000;
        assert!(smooth_sequence(&many).is_none(), "2,599 picks of 600 backends cost too many steps");
    }

    proptest! {
        #[test]
        fn every_member_has_exactly_its_share_of_a_period(weights in prop::collection::vec(1u32..100, 1..20)) {
            let sequence = smooth_sequence(&weights).unwrap();
            for (position, weight) in weights.iter().enumerate() {
                let picks = sequence.iter().filter(|picked| usize::from(**picked) == position).count();
                prop_assert_eq!(picks, *weight as usize);
            }
        }

        // Smooth: after any part of a period nobody is more than one pick per other member away
        // from its share; a plain weighted rotation is off by its whole weight.
        #[test]
        fn nobody_runs_ahead_of_its_share(weights in prop::collection::vec(1u32..50, 2..8)) {
            let sequence = smooth_sequence(&weights).unwrap();
            let period = sequence.len() as f64;
            for (position, weight) in weights.iter().enumerate() {
                let mut picks = 0.0;
                for (step, picked) in sequence.iter().enumerate() {
                    picks += f64::from(u8::from(usize::from(*picked) == position));
                    let due = f64::from(*weight) * (step + 1) as f64 / period;
                    prop_assert!((picks - due).abs() < weights.len() as f64, "{} of {:?} at {}", position, weights, step);
                }
            }
        }
    }
}

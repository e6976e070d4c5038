//! Header blocks: no panic, no list over its limit, a table that stays in step whatever is cut off, and what we
//! encode is what was decoded.
//!
//! The first two bytes choose the limits; a byte in front of each block is its length.

#![no_main]

use evenkeel_h2::hpack::{Decoded, Decoder, Encoder, FieldList};
use libfuzzer_sys::fuzz_target;

fn pairs(list: &FieldList) -> Vec<(Vec<u8>, Vec<u8>)> {
    list.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

fuzz_target!(|data: &[u8]| {
    let [table, limit, rest @ ..] = data else { return };
    let mut rest = rest;
    let table = u32::from(*table) * 4;
    let limit = usize::from(*limit) * 4;
    let mut strict = Decoder::new(table, limit);
    let mut patient = Decoder::new(table, usize::MAX);
    let (mut encoder, mut reader) = (Encoder::new(), Decoder::new(4096, usize::MAX));
    let (mut list, mut whole, mut again) = (FieldList::new(), FieldList::new(), FieldList::new());
    while let Some((length, blocks)) = rest.split_first() {
        let (block, blocks) = blocks.split_at(usize::from(*length).min(blocks.len()));
        rest = blocks;
        let decoded = strict.decode(block, &mut list);
        let all = patient.decode(block, &mut whole);
        let size = |list: &FieldList| list.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>();
        assert!(size(&list) <= limit);
        match (decoded, all) {
            (Ok(Decoded::Whole), Ok(Decoded::Whole)) => assert_eq!(pairs(&list), pairs(&whole)),
            (Ok(Decoded::TooLarge), Ok(Decoded::Whole)) => assert_eq!(pairs(&list), pairs(&whole)[..list.len()]),
            // What is read past is not decoded, so bad Huffman text in it is not seen.
            (Ok(Decoded::TooLarge), Err(_)) => return,
            (Err(fault), _) => {
                assert!(fault.connection);
                return;
            }
            (Ok(_), all) => panic!("{all:?} without a limit"),
        }
        let mut out = Vec::new();
        encoder.begin(&mut out);
        for (name, value) in list.iter() {
            encoder.field(name, value, &mut out);
        }
        assert_eq!(reader.decode(&out, &mut again), Ok(Decoded::Whole));
        assert_eq!(pairs(&again), pairs(&list));
    }
});

//! What is in a datagram of the bench, so that a lost, doubled, swapped or changed one is noticed.
//!
//! Its name (which flow, which burst, which place in the burst) stands in every word, and the second word says whether it
//! is a question or an answer. So a proxy that echoes by itself, cuts, or gives an answer to another client is found
//! out, and looking at all of 1200 bytes takes less than the system call that brought them.

/// One that a QUIC or game server would send: it fits every path.
pub const LARGE: usize = 1200;

/// Answers to one question of the bursts, sent in one call with UDP_SEGMENT.
pub const ANSWERS: usize = 16;

const WORD: usize = 8;
const QUESTION: u64 = u64::from_le_bytes(*b"question");
const ANSWER: u64 = u64::from_le_bytes(*b" answer ");

/// Flow, burst and place in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name {
    pub flow: u16,
    pub burst: u64,
    pub place: u8,
}

impl Name {
    fn word(self) -> u64 {
        u64::from(self.flow) << 48 | (self.burst & 0xff_ffff_ffff) << 8 | u64::from(self.place)
    }

    fn of(word: u64) -> Name {
        Name { flow: (word >> 48) as u16, burst: word >> 8 & 0xff_ffff_ffff, place: word as u8 }
    }
}

fn fill(bytes: &mut [u8], name: u64, kind: u64) {
    for word in bytes.chunks_exact_mut(WORD) {
        word.copy_from_slice(&name.to_le_bytes());
    }
    bytes[WORD..2 * WORD].copy_from_slice(&kind.to_le_bytes());
}

/// Makes a question of all of `bytes`, whose length is a multiple of eight.
pub fn ask(bytes: &mut [u8], name: Name) {
    fill(bytes, name.word(), QUESTION);
}

/// Turns a question into its answer of the same length. False when it is none.
pub fn answer(bytes: &mut [u8]) -> bool {
    if bytes.len() < 2 * WORD || bytes[WORD..2 * WORD] != QUESTION.to_le_bytes() {
        return false;
    }
    bytes[WORD..2 * WORD].copy_from_slice(&ANSWER.to_le_bytes());
    true
}

/// Makes `ANSWERS` answers of `LARGE` bytes to one question. False when it is none.
pub fn answer_with_many(question: &[u8], into: &mut [u8]) -> bool {
    let mut head = [0; 2 * WORD];
    let Some(start) = question.get(..2 * WORD) else { return false };
    head.copy_from_slice(start);
    if !answer(&mut head) {
        return false;
    }
    let name = Name::of(word_at(&head, 0));
    for (place, bytes) in into.chunks_exact_mut(LARGE).enumerate() {
        fill(bytes, Name { place: place as u8, ..name }.word(), ANSWER);
    }
    true
}

/// The name in an answer, or what is wrong with it.
pub fn check(bytes: &[u8], length: usize) -> Result<Name, String> {
    if bytes.len() != length {
        return Err(format!("{} bytes came instead of {length}", bytes.len()));
    }
    let name = word_at(bytes, 0).to_le_bytes();
    if word_at(bytes, 1) != ANSWER {
        return Err("what came back is no answer".to_owned());
    }
    let same = bytes.chunks_exact(WORD).enumerate().all(|(at, word)| at == 1 || word == name);
    if same { Ok(Name::of(u64::from_le_bytes(name))) } else { Err("a changed datagram came back".to_owned()) }
}

fn word_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at * WORD..][..WORD].try_into().expect("a slice of eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: Name = Name { flow: 7, burst: 1 << 33, place: 3 };

    #[test]
    fn an_answer_has_its_questions_name() {
        let mut bytes = [0; 64];
        ask(&mut bytes, NAME);
        assert!(check(&bytes, 64).is_err(), "a question that comes back is no answer");
        assert!(answer(&mut bytes));
        assert_eq!(check(&bytes, 64), Ok(NAME));
        assert!(!answer(&mut bytes), "an answer is not answered");
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let mut bytes = [0; 64];
        ask(&mut bytes, NAME);
        answer(&mut bytes);
        for at in 0..bytes.len() {
            let mut changed = bytes;
            changed[at] ^= 1;
            assert_ne!(check(&changed, 64), Ok(NAME), "byte {at}");
        }
        assert!(check(&bytes[..56], 64).is_err());
    }

    #[test]
    fn many_answers_differ_in_place_only() {
        let (mut question, mut answers) = ([0; 64], [0; ANSWERS * LARGE]);
        ask(&mut question, Name { place: 0, ..NAME });
        assert!(answer_with_many(&question, &mut answers));
        for (place, bytes) in answers.chunks_exact(LARGE).enumerate() {
            assert_eq!(check(bytes, LARGE), Ok(Name { place: place as u8, ..NAME }));
        }
    }
}

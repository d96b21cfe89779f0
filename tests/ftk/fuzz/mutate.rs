//! Changed copies of honest bytes, a function of seed and round.

/// A generator of numbers (Steele et al. 2014, SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// What text formats mean something by.
const WORDS: [&[u8]; 16] = [
    b"\"",
    b"{",
    b"[[[[[[[[",
    b"]",
    b"}",
    b"null",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"\\ud800",
    b"\xff\xfe",
    b"{{",
    b"{% for x in range(99999999) %}",
    b" * 999999999",
    b"../../x",
    b"\n\n",
];

/// A copy of one of the seeds with one to four changes. The first rounds are the seeds themselves and nothing at all.
pub(super) fn changed(seeds: &[Vec<u8>], seed: u64, round: u64) -> Vec<u8> {
    if let Some(honest) = seeds.get(round as usize) {
        return honest.clone();
    }
    if round as usize == seeds.len() {
        return Vec::new();
    }
    let mut numbers = Numbers(seed << 32 | round);
    let mut bytes = seeds[numbers.below(seeds.len())].clone();
    for _ in 0..=numbers.below(4) {
        change(&mut bytes, &mut numbers);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    // Where formats have their lengths: half of all changes are near the beginning.
    let reach = if numbers.below(2) == 0 { bytes.len().min(128) } else { bytes.len() };
    let at = numbers.below(reach);
    match numbers.below(9) {
        0 => bytes.truncate(at),
        1 => bytes.extend(std::iter::repeat_n(numbers.next() as u8, 1 + numbers.below(40))),
        2 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
        3 if at < bytes.len() => bytes[at] = numbers.next() as u8,
        // A number of some width, at an extreme of one.
        4 | 5 => {
            let width = 1 << numbers.below(4);
            let values =
                [0, 1, u64::MAX, u64::MAX >> 1, 1 << 63, 1 << 31, 0xffff_ffff, 1 << 40, 0x7fff, numbers.next()];
            let value = values[numbers.below(values.len())].to_le_bytes();
            let end = bytes.len().min(at + width);
            bytes[at..end].copy_from_slice(&value[..end - at]);
        }
        6 => {
            let word = WORDS[numbers.below(WORDS.len())];
            let end = at + numbers.below(4).min(bytes.len() - at);
            bytes.splice(at..end, word.iter().copied());
        }
        // A part once more, or not at all.
        7 => {
            let part = bytes[at..(at + numbers.below(64)).min(bytes.len())].to_vec();
            let to = numbers.below(bytes.len() + 1);
            bytes.splice(to..to, part);
        }
        _ => {
            let end = (at + numbers.below(64)).min(bytes.len());
            bytes.drain(at..end);
        }
    }
}

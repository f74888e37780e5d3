//! Random inputs made from earlier ones.

/// A small generator of random numbers (xorshift64*): the same seed, the same run.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The run with this number.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() >> 16) as usize % end
    }
}

/// The longest input, in bytes.
const INPUT_BYTES_MAX: usize = 4096;

/// Bytes that decide something in MQTT.
const INTERESTING: &[u8] = &[
    0x00, 0x01, 0x02, 0x0B, 0x10, 0x11, 0x15, 0x16, 0x1F, 0x21, 0x23, 0x26, 0x2B, 0x2F, 0x30, 0x32,
    0x7F, 0x80, 0x82, 0xC0, 0xE0, 0xED, 0xF0, 0xFF,
];

/// A changed copy of one input of `pool`, perhaps spliced with another. `header_at` is where an
/// MQTT fixed header begins in the inputs of this target, if it does: mostly its length is put right
/// afterwards, so that the change is looked at and not the length.
pub fn mutate(random: &mut Random, pool: &[Vec<u8>], header_at: Option<usize>) -> Vec<u8> {
    let mut input = pool[random.below(pool.len())].clone();
    for _ in 0..=random.below(4) {
        change(random, &mut input, pool);
    }
    input.truncate(INPUT_BYTES_MAX);
    if let Some(at) = header_at
        && random.below(8) != 0
    {
        put_length_right(&mut input, at);
    }
    input
}

fn change(random: &mut Random, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
    if input.is_empty() {
        input.push(random.number() as u8);
        return;
    }
    let at = random.below(input.len());
    let to = at + random.below(input.len() - at) + 1;
    match random.below(8) {
        0 => input[at] ^= 1 << random.below(8),
        1 => input[at] = random.number() as u8,
        2 => input[at] = INTERESTING[random.below(INTERESTING.len())],
        3 => input[at] = input[at].wrapping_add(1),
        4 => input.insert(at, INTERESTING[random.below(INTERESTING.len())]),
        5 => drop(input.drain(at..to.min(at + 8))),
        6 => {
            let copy = input[at..to].to_vec();
            input.splice(to..to, copy);
        }
        _ => {
            let other = &pool[random.below(pool.len())];
            let from = random.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
    }
}

/// Makes the packet that begins at `at` end where the input ends.
fn put_length_right(input: &mut Vec<u8>, at: usize) {
    let Some(after) = input.get(at + 1..) else {
        return;
    };
    let old = after
        .iter()
        .take(3)
        .take_while(|byte| **byte >= 0x80)
        .count()
        + 1;
    if after.len() < old {
        return;
    }
    let mut rest = after.len() - old;
    let mut length = Vec::new();
    while rest >= 0x80 {
        length.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    length.push(rest as u8);
    input.splice(at + 1..at + 1 + old, length);
}

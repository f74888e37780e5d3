//! Chance with a state: the same seed gives the same numbers.

use crate::scenario::{PayloadSize, STAMP_BYTES};

/// `SplitMix64` (Steele, Lea and Flood, 2014).
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// `purpose` keeps the draws of one seed apart.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut dice = Self(seed);
        Self(dice.draw() ^ purpose.wrapping_mul(0xD6E8_FEB8_6659_FD93))
    }

    /// The next number.
    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// One of `0..below`, which is not 0.
    pub(crate) fn below(&mut self, below: usize) -> usize {
        (self.draw() % below as u64) as usize
    }
}

/// Bytes of a payload.
pub(crate) fn payload_len(size: PayloadSize, drawn: u64) -> usize {
    let bytes = match size {
        PayloadSize::Fixed(bytes) => bytes,
        PayloadSize::Even(least, most) => {
            let span = u64::from(most.saturating_sub(least)) + 1;
            least.saturating_add((drawn % span) as u32)
        }
        PayloadSize::Exponential { min, mean, max } => {
            let share = (drawn >> 11) as f64 / (1_u64 << 53) as f64;
            let more = -f64::from(mean) * (1.0 - share).ln();
            #[allow(clippy::cast_sign_loss, reason = "a logarithm of at most 1, negated")]
            let more = more.min(f64::from(max)) as u32;
            min.saturating_add(more).min(max)
        }
    };
    (bytes as usize).max(STAMP_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_even_and_repeat_with_the_seed() {
        let (mut one, mut same, mut other) = (Dice::new(7, 1), Dice::new(7, 1), Dice::new(7, 2));
        let mut counts = [0_u32; 10];
        let mut different = 0;
        for _ in 0..100_000 {
            let drawn = one.below(10);
            assert_eq!(drawn, same.below(10));
            different += u32::from(drawn != other.below(10));
            counts[drawn] += 1;
        }
        for count in counts {
            assert!((9_600..10_400).contains(&count), "{count} of 10,000");
        }
        assert!((89_000..91_000).contains(&different), "{different}");
    }

    #[test]
    fn payloads_have_the_sizes_asked_for() {
        let mut dice = Dice::new(1, 1);
        let mut lens = |size| -> Vec<usize> {
            let drawn = (0..20_000).map(|_| payload_len(size, dice.draw()));
            drawn.collect()
        };
        let fixed = lens(PayloadSize::Fixed(10));
        assert!(fixed.iter().all(|len| *len == STAMP_BYTES));
        let even = lens(PayloadSize::Even(100, 199));
        let ends = (even.iter().min().copied(), even.iter().max().copied());
        assert_eq!(ends, (Some(100), Some(199)));
        let (min, mean, max) = (50, 100, 5_000);
        let drawn = lens(PayloadSize::Exponential { min, mean, max });
        let mean = drawn.iter().sum::<usize>() / drawn.len();
        assert!((145..155).contains(&mean), "{mean}");
        assert!(drawn.iter().all(|len| (50..=5_000).contains(len)));
    }
}

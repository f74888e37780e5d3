//! Chance without a state: the same seed, device and purpose give the same number.

/// A number for a device. `purpose` is another one for each draw.
#[inline]
pub(super) fn draw(seed: u64, device: u32, purpose: u64) -> u64 {
    let device = u64::from(device).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mix(mix(seed ^ device).wrapping_add(purpose))
}

/// The number as a share: 0 to below 1.
#[inline]
pub(super) fn share(drawn: u64) -> f64 {
    (drawn >> 11) as f64 / (1_u64 << 53) as f64
}

/// The finalizer of `SplitMix64` (Steele, Lea and Flood, 2014), one step on.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_even_over_devices_and_over_purposes() {
        let mut by_device = [0_u32; 10];
        let mut by_purpose = [0_u32; 10];
        for n in 0..100_000 {
            for (counts, drawn) in [
                (&mut by_device, draw(7, n, 3)),
                (&mut by_purpose, draw(7, 3, n.into())),
            ] {
                let tenth = (1..10).filter(|tenth| share(drawn) >= f64::from(*tenth) / 10.0);
                counts[tenth.count()] += 1;
            }
        }
        for count in by_device.into_iter().chain(by_purpose) {
            assert!((9_600..10_400).contains(&count), "{count} of 10,000");
        }
    }
}

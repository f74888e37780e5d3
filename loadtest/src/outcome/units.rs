//! Figures for people: three digits that count, and a unit. 1 kB is 1,000 bytes.

/// Prefixes of thousands.
const THOUSANDS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];

/// `1,234,567`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.25 M`, `40 k`, `0.5`: short, for axes.
pub(super) fn short(value: f64) -> String {
    scaled(value, "")
}

/// `2.41 GB`, `512 B`.
pub(crate) fn bytes(value: f64) -> String {
    scaled(value, "B")
}

/// `840 µs`, `12.3 ms`, `1.25 s`, from µs.
pub(crate) fn micros(us: f64) -> String {
    let (value, unit) = if us < 1e3 {
        (us, "µs")
    } else if us < 1e6 {
        (us / 1e3, "ms")
    } else {
        (us / 1e6, "s")
    };
    format!("{} {unit}", plain(value))
}

/// `3:07`, `1:02:03`, from seconds.
pub(super) fn clock(secs: f64) -> String {
    let secs = whole(secs.round());
    let (hours, minutes, rest) = (secs / 3600, secs / 60 % 60, secs % 60);
    if hours > 0 {
        return format!("{hours}:{minutes:02}:{rest:02}");
    }
    format!("{minutes}:{rest:02}")
}

/// `8.4 s`, `3 min 7 s`, `1 h 2 min`, from seconds.
pub(crate) fn duration(secs: f64) -> String {
    if !secs.is_finite() || secs < 60.0 {
        return format!("{secs:.1} s");
    }
    let secs = whole(secs.round());
    if secs < 3600 {
        return format!("{} min {} s", secs / 60, secs % 60);
    }
    format!("{} h {} min", secs / 3600, secs / 60 % 60)
}

/// A number with three digits that count, without zeros behind the point.
pub(crate) fn plain(value: f64) -> String {
    let places = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.1 => 2,
        _ => 3,
    };
    let text = format!("{value:.places$}");
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The whole part of a figure that is not below 0; what is, or is no number, counts as 0.
#[expect(clippy::cast_sign_loss, reason = "what is below 0 becomes 0")]
pub(crate) fn whole(value: f64) -> u64 {
    value as u64
}

fn scaled(value: f64, unit: &str) -> String {
    let mut value = value;
    let mut prefix = 0;
    while value.abs() >= 999.5 && prefix + 1 < THOUSANDS.len() {
        value /= 1e3;
        prefix += 1;
    }
    let text = format!("{} {}{unit}", plain(value), THOUSANDS[prefix]);
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        assert_eq!(short(0.0), "0");
        assert_eq!(short(0.05), "0.05");
        assert_eq!(short(999.6), "1 k");
        assert_eq!(short(1_250_000.0), "1.25 M");
        assert_eq!(short(u64::MAX as f64), "18.4 E");
        assert_eq!(bytes(2_414_000_000.0), "2.41 GB");
        assert_eq!(bytes(-1500.0), "-1.5 kB");
        assert_eq!(micros(0.0), "0 µs");
        assert_eq!(micros(999.0), "999 µs");
        assert_eq!(micros(12_340.0), "12.3 ms");
        assert_eq!(micros(61_000_000.0), "61 s");
    }

    #[test]
    fn times_read_as_on_a_clock() {
        assert_eq!(clock(0.2), "0:00");
        assert_eq!(clock(187.0), "3:07");
        assert_eq!(clock(3_723.0), "1:02:03");
        assert_eq!(duration(8.44), "8.4 s");
        assert_eq!(duration(187.0), "3 min 7 s");
        assert_eq!(duration(3_723.0), "1 h 2 min");
    }

    #[test]
    fn counts_are_in_groups_of_three() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
    }
}

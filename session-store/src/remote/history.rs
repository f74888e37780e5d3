//! A record's history as one text: what happened, and between two events the seconds from one to the next.
//!
//! | event | written |
//! |---|---|
//! | connected | `+` |
//! | lost | `-` |
//! | DISCONNECT of the client | `d`, and the reason code: `d00` |
//! | closed by the broker | `x8D` |
//! | refused | `r87` |
//!
//! `+ 15894.887 x8D 15.782 +`: connected; 15,894.887 s later closed by the broker with reason code 0x8D; 15.782 s later
//! connected again. The last `+` was at the time in the field `connected`, or the text begins with the time of its
//! first event.
//!
//! A history has its size from the first connect on. While it fills up, the record then stays in its place in the memory
//! of Redis. A record that grew would move to another one, and so would those of all devices of a fleet when they lose their
//! connections at once: the places that they leave are between others, and are free only when those have moved too.

use std::fmt::Write as _;

use super::fields::{malformed, read_time, time_text};
use crate::limits::HISTORY_TEXT_BYTES_MIN;
use crate::{Event, EventKind, Record, StoreError};

/// The text, with spaces behind it up to its size.
pub(super) fn text(record: &Record) -> String {
    let mut text = String::with_capacity(HISTORY_TEXT_BYTES_MIN);
    let connected_at_ms = last_connect(&record.history);
    let mut before = None;
    for event in &record.history {
        match before {
            None if connected_at_ms == Some(record.connected_at_ms) => {}
            None => text.push_str(&time_text(event.at_ms)),
            Some(before) => put_gap(&mut text, event.at_ms.wrapping_sub(before).cast_signed()),
        }
        if !text.is_empty() {
            text.push(' ');
        }
        put_kind(&mut text, event.kind);
        before = Some(event.at_ms);
    }
    let missing = HISTORY_TEXT_BYTES_MIN.saturating_sub(text.len());
    text.extend(std::iter::repeat_n(' ', missing));
    text
}

/// Reads the text of a client that last connected at that time.
pub(super) fn read(text: &str, connected_at_ms: u64) -> Result<Vec<Event>, StoreError> {
    let mut words = text.split_ascii_whitespace().peekable();
    if words.peek().is_none() {
        return Ok(Vec::new());
    }
    let is_time = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
    let first = words
        .next_if(is_time)
        .map(|word| read_time(word, WHAT))
        .transpose()?;
    let mut events = Vec::new();
    let mut at_ms = first.unwrap_or(0);
    while let Some(word) = words.next() {
        let kind = read_kind(word).ok_or_else(|| malformed(WHAT))?;
        events.push(Event { at_ms, kind });
        if let Some(gap) = words.next() {
            let gap_ms = read_gap(gap).ok_or_else(|| malformed(WHAT))?;
            at_ms = at_ms.wrapping_add_signed(gap_ms);
            // A time says when something was.
            words.peek().ok_or_else(|| malformed(WHAT))?;
        }
    }
    if events.is_empty() {
        return Err(malformed(WHAT));
    }
    if first.is_none() {
        let last = last_connect(&events).ok_or_else(|| malformed(WHAT))?;
        let later = connected_at_ms.wrapping_sub(last);
        for event in &mut events {
            event.at_ms = event.at_ms.wrapping_add(later);
        }
    }
    Ok(events)
}

/// When the last connection ended, by its history.
pub(super) fn ended_at_ms(history: &[Event]) -> Option<u64> {
    let last = history.last()?;
    let ends = matches!(
        last.kind,
        EventKind::LeftWith(_) | EventKind::ClosedFor(_) | EventKind::Lost
    );
    ends.then_some(last.at_ms)
}

const WHAT: &str = "events, and the seconds between them, in history";

fn last_connect(history: &[Event]) -> Option<u64> {
    let mut newest_first = history.iter().rev();
    let connect = newest_first.find(|event| event.kind == EventKind::Connected);
    connect.map(|event| event.at_ms)
}

fn put_gap(text: &mut String, gap_ms: i64) {
    let sign = if gap_ms < 0 { "-" } else { "" };
    let ms = gap_ms.unsigned_abs();
    write!(text, " {sign}{}.{:03}", ms / 1_000, ms % 1_000).expect("a string grows");
}

fn read_gap(word: &str) -> Option<i64> {
    let (seconds, thousandths) = word.split_once('.')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (is_negative, seconds) = match seconds.strip_prefix('-') {
        Some(seconds) => (true, seconds),
        None => (false, seconds),
    };
    if thousandths.len() != 3 || !digits(thousandths) || !digits(seconds) {
        return None;
    }
    let ms = seconds.parse::<u64>().ok()?.checked_mul(1_000)?;
    let ms = ms.checked_add(thousandths.parse().ok()?)?;
    if is_negative {
        0_i64.checked_sub_unsigned(ms)
    } else {
        ms.try_into().ok()
    }
}

fn put_kind(text: &mut String, kind: EventKind) {
    let written = match kind {
        EventKind::Connected => write!(text, "+"),
        EventKind::Refused(reason) => write!(text, "r{reason:02X}"),
        EventKind::LeftWith(reason) => write!(text, "d{reason:02X}"),
        EventKind::ClosedFor(reason) => write!(text, "x{reason:02X}"),
        EventKind::Lost => write!(text, "-"),
    };
    written.expect("a string grows");
}

fn read_kind(word: &str) -> Option<EventKind> {
    let (kind, digits) = word.split_at_checked(1)?;
    let code = || {
        let two = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        two.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
    };
    match kind {
        "+" if digits.is_empty() => Some(EventKind::Connected),
        "-" if digits.is_empty() => Some(EventKind::Lost),
        "d" => code().map(EventKind::LeftWith),
        "x" => code().map(EventKind::ClosedFor),
        "r" => code().map(EventKind::Refused),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT_MS: u64 = 1_790_000_000_123;

    fn record(events: &[(u64, EventKind)]) -> Record {
        let mut record = Record::blank("a");
        record.connected_at_ms = AT_MS;
        for &(at_ms, kind) in events {
            record.push_event(at_ms, kind);
        }
        record
    }

    #[test]
    fn a_person_can_read_it() {
        use EventKind::{ClosedFor, Connected, LeftWith, Lost};
        for (events, expected) in [
            (vec![(AT_MS, Connected)], "+"),
            (
                vec![
                    (AT_MS - 15_910_669, Connected),
                    (AT_MS - 15_782, ClosedFor(0x8D)),
                    (AT_MS, Connected),
                ],
                "+ 15894.887 x8D 15.782 +",
            ),
            (
                vec![(AT_MS - 7, Lost), (AT_MS, Connected), (AT_MS - 5, Lost)],
                "- 0.007 + -0.005 -",
            ),
            // The connect has left the history, or never was in it.
            (
                vec![(AT_MS, LeftWith(0)), (AT_MS + 1_000, Lost)],
                "2026-09-21T14:13:20.123Z d00 1.000 -",
            ),
            (vec![(AT_MS - 1, Connected)], "2026-09-21T14:13:20.122Z +"),
        ] {
            let record = record(&events);
            let text = text(&record);
            assert_eq!(text.trim_end(), expected);
            assert_eq!(read(&text, AT_MS).expect("a history"), record.history);
        }
    }

    #[test]
    fn a_history_of_days_has_the_size_of_a_young_one() {
        let young = record(&[(AT_MS, EventKind::Connected)]);
        let day = 86_400_000;
        let old = record(&[
            (AT_MS - day, EventKind::Connected),
            (AT_MS - 15_782, EventKind::Lost),
            (AT_MS, EventKind::Connected),
            (AT_MS + day, EventKind::Lost),
        ]);
        assert_eq!(text(&young).len(), text(&old).len());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for text in [
            "off",
            "on 1.000",
            "on lost",
            "on 1 lost",
            "on 1.00 lost",
            "on +1.000 lost",
            "on 1.000 lost00",
            "on 1.000 left",
            "on 1.000 left+0",
            "on 18446744073709551.616 lost",
            "lost",
            "yesterday on",
            "2026-09-21T14:13:20.122Z",
            "2026-09-21 on",
        ] {
            let error = read(text, AT_MS).expect_err(text).to_string();
            assert!(error.contains("history"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "([+]|-|d00|[0-9.-]{1,25}| ){0,8}|.{0,40}", at in any::<u64>()) {
            if let Ok(events) = read(&text, at) {
                let mut record = record(&[]);
                record.connected_at_ms = at;
                record.history = events;
                prop_assert_eq!(&read(&super::text(&record), at).expect("a history"), &record.history);
            }
        }
    }
}

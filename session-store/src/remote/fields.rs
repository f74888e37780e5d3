//! A record as the fields of a Redis hash, for people to read. Version 1:
//!
//! | field | value | absent |
//! |---|---|---|
//! | `version` | version of this table | never |
//! | `epoch` | epoch of the client's owner | never |
//! | `write` | who wrote it: `WRITER-NUMBER`, both chosen by the writing process | never |
//! | `protocol` | `3.1`, `3.1.1` or `5` | never |
//! | `node` | node it is or was last connected to | never |
//! | `user` | user name | it had none |
//! | `address` | where it connected from | not known |
//! | `clean_start` | `yes` | no |
//! | `expiry_s` | session expiry in seconds, or `never` | never |
//! | `connected` | when it last connected | never |
//! | `disconnected` | when that connection ended, or `no` | `history` says so |
//! | `history` | the last events, see [`history`] | there are none |
//! | `filter:N` | options, a space, the topic filter; from 1 | there are no more |
//!
//! Options of a filter are `qos0`, `qos1` or `qos2`, followed, where they are set, by `,no-local`,
//! `,retain-as-published`, `,retain-handling1` (or 2) and `,id7`. Times are in UTC
//! (`2026-09-21T12:34:56.789Z`), or, beyond the year 9999, milliseconds since 1970.
//!
//! Redis keeps a hash in one piece, at a third of the memory, while no value is longer than 64
//! bytes (`hash-max-listpack-value`); so every filter has a field of its own.

use std::fmt::{Display, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::history;
use crate::limits::HISTORY_EVENTS;
use crate::{Filter, FilterOptions, Record, StoreError};

/// The version this program writes.
const VERSION: u8 = 1;
/// Last millisecond of the year 9999: later ones have no text.
const TEXT_MS_MAX: u64 = 253_402_300_799_999;

/// Names and values, one after the other: `version`, its value, `epoch`, its value, `write`, its
/// value, and the rest. The scripts rely on the first three.
pub(super) fn of(record: &Record, write: &str) -> Vec<String> {
    let mut fields = Vec::with_capacity(2 * (12 + record.filters.len()));
    let mut put = |name: &str, value: String| {
        fields.push(name.to_owned());
        fields.push(value);
    };
    put("version", VERSION.to_string());
    put("epoch", record.epoch.to_string());
    put("write", write.to_owned());
    put("protocol", protocol_text(record.protocol_version));
    put("node", record.node.clone());
    if let Some(user) = &record.user {
        put("user", user.clone());
    }
    if let Some(address) = record.address {
        put("address", address.to_string());
    }
    if record.clean_start {
        put("clean_start", "yes".to_owned());
    }
    put("expiry_s", expiry_text(record.expiry_s));
    put("connected", time_text(record.connected_at_ms));
    if record.disconnected_at_ms != history::ended_at_ms(&record.history) {
        let at = record.disconnected_at_ms.map(time_text);
        put("disconnected", at.unwrap_or_else(|| "no".to_owned()));
    }
    if !record.history.is_empty() {
        put("history", history::text(record));
    }
    for (filter, number) in record.filters.iter().zip(1..) {
        put(&format!("filter:{number}"), filter_text(filter));
    }
    fields
}

/// Reads the fields of a client's record. Fields it does not know are left alone: somebody's note.
pub(super) fn read(
    client_id: &str,
    fields: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
) -> Result<Record, StoreError> {
    let mut record = Record::blank(client_id);
    let mut seen = Seen::default();
    let mut filters = Vec::new();
    for (name, value) in fields {
        let (Ok(name), Ok(value)) = (String::from_utf8(name), String::from_utf8(value)) else {
            return Err(malformed("text in every field"));
        };
        match name.split_once(':') {
            Some(("filter", number)) => {
                let number = number.parse().map_err(|_| malformed("filter:N"))?;
                filters.push((number, read_filter(&value)?));
            }
            _ => read_single(&mut record, &mut seen, &name, value)?,
        }
    }
    seen.all_there()?;
    record.history = history::read(&seen.history, record.connected_at_ms)?;
    record.disconnected_at_ms = match &*seen.disconnected {
        "" => history::ended_at_ms(&record.history),
        "no" => None,
        time => Some(read_time(time, "a time or no in disconnected")?),
    };
    record.filters = in_order(filters)?;
    if record.history.len() > HISTORY_EVENTS {
        return Err(malformed("as many events as a history has"));
    }
    Ok(record)
}

/// Which of the fields that are never absent were there, and what others mean together.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "one for each field")]
struct Seen {
    version: bool,
    epoch: bool,
    protocol: bool,
    node: bool,
    expiry: bool,
    connected: bool,
    /// Empty where there is none.
    history: String,
    /// Empty where the history says it.
    disconnected: String,
}

impl Seen {
    fn all_there(&self) -> Result<(), StoreError> {
        for (there, what) in [
            (self.version, "a field version"),
            (self.epoch, "a field epoch"),
            (self.protocol, "a field protocol"),
            (self.node, "a field node"),
            (self.expiry, "a field expiry_s"),
            (self.connected, "a field connected"),
        ] {
            if !there {
                return Err(malformed(what));
            }
        }
        Ok(())
    }
}

fn read_single(
    record: &mut Record,
    seen: &mut Seen,
    name: &str,
    value: String,
) -> Result<(), StoreError> {
    match name {
        "version" => {
            let version = value
                .parse()
                .map_err(|_| malformed("a number in version"))?;
            if version != VERSION {
                return Err(StoreError::Unsupported { version });
            }
            seen.version = true;
        }
        "epoch" => {
            record.epoch = value.parse().map_err(|_| malformed("a number in epoch"))?;
            seen.epoch = true;
        }
        "protocol" => {
            record.protocol_version = read_protocol(&value)?;
            seen.protocol = true;
        }
        "node" => {
            record.node = value;
            seen.node = true;
        }
        "user" => record.user = Some(value),
        "address" => {
            let address = value.parse();
            record.address = Some(address.map_err(|_| malformed("IP and port in address"))?);
        }
        "clean_start" => {
            record.clean_start = match &*value {
                "yes" => true,
                "no" => false,
                _ => return Err(malformed("yes or no in clean_start")),
            };
        }
        "expiry_s" => {
            record.expiry_s = read_expiry(&value)?;
            seen.expiry = true;
        }
        "connected" => {
            record.connected_at_ms = read_time(&value, "a time in connected")?;
            seen.connected = true;
        }
        "disconnected" => seen.disconnected = value,
        "history" => seen.history = value,
        _ => {}
    }
    Ok(())
}

/// The filters by their numbers, which must be 1, 2, 3 and so on: what is missing was lost.
fn in_order(mut numbered: Vec<(usize, Filter)>) -> Result<Vec<Filter>, StoreError> {
    numbered.sort_by_key(|(number, _)| *number);
    let complete = numbered
        .iter()
        .zip(1..)
        .all(|((number, _), due)| *number == due);
    if !complete {
        return Err(malformed("filter:1 to filter:N"));
    }
    Ok(numbered.into_iter().map(|(_, filter)| filter).collect())
}

fn protocol_text(level: u8) -> String {
    match level {
        3 => "3.1".to_owned(),
        4 => "3.1.1".to_owned(),
        level => level.to_string(),
    }
}

fn read_protocol(text: &str) -> Result<u8, StoreError> {
    match text {
        "3.1" => Ok(3),
        "3.1.1" => Ok(4),
        level => level
            .parse()
            .map_err(|_| malformed("3.1, 3.1.1 or 5 in protocol")),
    }
}

fn expiry_text(expiry_s: u32) -> String {
    match expiry_s {
        u32::MAX => "never".to_owned(),
        seconds => seconds.to_string(),
    }
}

fn read_expiry(text: &str) -> Result<u32, StoreError> {
    match text {
        "never" => Ok(u32::MAX),
        seconds => seconds
            .parse()
            .map_err(|_| malformed("seconds or never in expiry_s")),
    }
}

pub(super) fn time_text(at_ms: u64) -> String {
    if at_ms > TEXT_MS_MAX {
        return at_ms.to_string();
    }
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at_ms)).to_string()
}

pub(super) fn read_time(text: &str, what: &'static str) -> Result<u64, StoreError> {
    if let Ok(at_ms) = text.parse() {
        return Ok(at_ms);
    }
    let at: SystemTime = humantime::parse_rfc3339(text).map_err(|_| malformed(what))?;
    let since = at.duration_since(UNIX_EPOCH).map_err(|_| malformed(what))?;
    u64::try_from(since.as_millis()).map_err(|_| malformed(what))
}

fn filter_text(filter: &Filter) -> String {
    let options = filter.options;
    let mut text = format!("qos{}", options.qos);
    let mut option = |name: &str, value: &dyn Display| {
        write!(text, ",{name}{value}").expect("a string grows");
    };
    if options.no_local {
        option("no-local", &"");
    }
    if options.retain_as_published {
        option("retain-as-published", &"");
    }
    if options.retain_handling > 0 {
        option("retain-handling", &options.retain_handling);
    }
    if let Some(id) = filter.subscription_id {
        option("id", &id);
    }
    text.push(' ');
    text.push_str(&filter.filter);
    text
}

fn read_filter(text: &str) -> Result<Filter, StoreError> {
    let what = "options and topic filter in filter:N";
    let (words, filter) = text.split_once(' ').ok_or_else(|| malformed(what))?;
    let number = |word: &str, prefix: &str| -> Option<u32> {
        word.strip_prefix(prefix).and_then(|text| text.parse().ok())
    };
    let at_most_2 = |value: Option<u32>| {
        let value = value.filter(|value| *value <= 2);
        value.map(|value| value as u8).ok_or(malformed(what))
    };
    let mut words = words.split(',');
    let mut options = FilterOptions {
        qos: at_most_2(number(words.next().unwrap_or_default(), "qos"))?,
        ..FilterOptions::default()
    };
    let mut subscription_id = None;
    for word in words {
        match word {
            "no-local" => options.no_local = true,
            "retain-as-published" => options.retain_as_published = true,
            _ if word.starts_with("retain-handling") => {
                options.retain_handling = at_most_2(number(word, "retain-handling"))?;
            }
            _ => subscription_id = Some(number(word, "id").ok_or_else(|| malformed(what))?),
        }
    }
    Ok(Filter {
        filter: filter.to_owned(),
        options,
        subscription_id,
    })
}

pub(super) fn malformed(what: &'static str) -> StoreError {
    StoreError::Malformed { what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, EventKind};
    use proptest::prelude::*;

    fn pairs(fields: Vec<String>) -> Vec<(String, String)> {
        let mut fields = fields.into_iter();
        std::iter::from_fn(|| Some((fields.next()?, fields.next()?))).collect()
    }

    fn again(client_id: &str, pairs: &[(String, String)]) -> Result<Record, StoreError> {
        let bytes = |text: &String| text.clone().into_bytes();
        let pairs = pairs
            .iter()
            .map(|(name, value)| (bytes(name), bytes(value)));
        read(client_id, pairs)
    }

    fn example() -> Record {
        let at_ms = 1_790_000_000_123;
        let event = |after, kind| Event {
            at_ms: at_ms + after,
            kind,
        };
        let filter = |filter: &str, byte, subscription_id| Filter {
            filter: filter.to_owned(),
            options: FilterOptions::from_byte(byte).expect("valid options"),
            subscription_id,
        };
        Record {
            client_id: "device-1".to_owned(),
            epoch: u64::MAX,
            protocol_version: 4,
            user: Some("fleet".to_owned()),
            node: "proxy-1".to_owned(),
            address: Some(([192, 0, 2, 7], 40_001).into()),
            clean_start: true,
            expiry_s: u32::MAX,
            connected_at_ms: at_ms,
            disconnected_at_ms: Some(at_ms + 1_000),
            history: vec![
                event(0, EventKind::Connected),
                event(1_000, EventKind::ClosedFor(0x8D)),
            ],
            filters: vec![
                filter("devices/1/#", 1, None),
                filter("$share/g/a b/+", 0b10_1110, Some(7)),
            ],
        }
    }

    #[test]
    fn a_person_can_read_it() {
        let fields = of(&example(), "5a5a5a5a-12");
        let lines: Vec<_> = fields.chunks(2).map(|pair| pair.join(" = ")).collect();
        let expected = [
            "version = 1",
            "epoch = 18446744073709551615",
            "write = 5a5a5a5a-12",
            "protocol = 3.1.1",
            "node = proxy-1",
            "user = fleet",
            "address = 192.0.2.7:40001",
            "clean_start = yes",
            "expiry_s = never",
            "connected = 2026-09-21T14:13:20.123Z",
            "history = + 1.000 x8D                       ",
            "filter:1 = qos1 devices/1/#",
            "filter:2 = qos2,no-local,retain-as-published,retain-handling2,id7 $share/g/a b/+",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let whole = pairs(of(&example(), "w-1"));
        let optional = ["write", "user", "address", "clean_start", "history"];
        for at in 0..whole.len() {
            let mut fields = whole.clone();
            let (name, _) = fields.remove(at);
            // The last filter is not missed.
            let fine = optional.contains(&&*name) || name == "filter:2";
            assert_eq!(again("a", &fields).is_ok(), fine, "without {name}");
        }
        for (name, value) in [
            ("epoch", "-1"),
            ("epoch", "18446744073709551616"),
            ("protocol", "five"),
            ("address", "192.0.2.7"),
            ("clean_start", ""),
            ("expiry_s", "4294967296"),
            ("connected", "yesterday"),
            ("disconnected", "yes"),
            ("history", "+ 1.000"),
            ("history", "+ 1.000 - 1.000 + 1.000 - 1.000 +"),
            ("filter:x", "qos1 a"),
            ("filter:1", "devices/1/#"),
            ("filter:1", "qos3 a"),
            ("filter:1", "qos1,id a"),
            ("filter:1", "qos1,retain-handling3 a"),
            ("filter:3", "qos1,no-locals a"),
        ] {
            let mut fields = whole.clone();
            fields.retain(|(there, _)| there != name);
            fields.push((name.to_owned(), value.to_owned()));
            let error = again("a", &fields).expect_err(name).to_string();
            let (kind, _) = name.split_once(':').unwrap_or((name, ""));
            assert!(error.contains(kind), "{name} = {value}: {error}");
        }
        let mut fields = whole.clone();
        fields[0].1 = "2".to_owned();
        let newer = again("a", &fields);
        assert!(matches!(newer, Err(StoreError::Unsupported { version: 2 })));
        let mut fields = whole;
        fields.push(("note".to_owned(), "left by somebody".to_owned()));
        assert_eq!(again("device-1", &fields).expect("fine"), example());
    }

    prop_compose! {
        fn records()(
            epoch in any::<u64>(),
            protocol_version in 3..6_u8,
            user in prop::option::of(".*"),
            node in ".*",
            address in any::<Option<(std::net::IpAddr, u16)>>(),
            clean_start in any::<bool>(),
            expiry_s in any::<u32>(),
            connected_at_ms in any::<u64>(),
            disconnected_at_ms in prop::option::of(0..1_u64 << 50),
            history in prop::collection::vec((0..1_u64 << 50, 0..5_u8, any::<u8>()), 0..=HISTORY_EVENTS),
            filters in prop::collection::vec((".*", 0..3_u8, 0..12_u8, 0..3_u32), 0..5),
        ) -> Record {
            let event = |(at_ms, kind, reason)| Event {
                at_ms,
                kind: match kind {
                    0 => EventKind::Connected,
                    1 => EventKind::Refused(reason),
                    2 => EventKind::LeftWith(reason),
                    3 => EventKind::ClosedFor(reason),
                    _ => EventKind::Lost,
                },
            };
            let filter = |(filter, qos, bits, id): (String, u8, u8, u32)| Filter {
                filter,
                options: FilterOptions::from_byte(qos | bits << 2).expect("valid"),
                subscription_id: (id > 0).then_some(id),
            };
            Record {
                client_id: "a".to_owned(),
                epoch, protocol_version, user, node,
                address: address.map(Into::into),
                clean_start, expiry_s, connected_at_ms, disconnected_at_ms,
                history: history.into_iter().map(event).collect(),
                filters: filters.into_iter().map(filter).collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn any_record_comes_back_in_any_order(record in records(), reversed in any::<bool>()) {
            let mut fields = pairs(of(&record, "w-1"));
            if reversed {
                fields.reverse();
            }
            prop_assert_eq!(again("a", &fields).expect("a record"), record);
        }

        #[test]
        fn no_fields_are_a_panic(
            name in prop::sample::select(vec!["version", "epoch", "history", "filter:1", "connected", "disconnected"]),
            value in ".{0,40}",
        ) {
            let mut fields = pairs(of(&example(), "w-1"));
            fields.retain(|(there, _)| there != name);
            fields.push((name.to_owned(), value));
            drop(again("a", &fields));
        }
    }
}

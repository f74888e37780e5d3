//! `message_read_from` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    mqtt_fleet_fuzz::targets::message_read_from(data);
});

//! `decode_connect` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    mqtt_fleet_fuzz::targets::decode_connect(data);
});

//! `decode_v5` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    mqtt_fleet_fuzz::targets::decode_v5(data);
});

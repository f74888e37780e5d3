//! Thresholds.

use super::super::model::Thresholds;
use super::text::Section;

/// Reads `[pass]`.
pub(super) fn thresholds(section: &Section<'_, '_>) -> Thresholds {
    let number = |key, max| section.get(key).and_then(|found| found.number(0.0..=max));
    let any = |key| number(key, 1e15);
    let lost = section.get("connections_lost_max");
    let promises = section.get("promises").and_then(|found| found.switch());
    Thresholds {
        promises: promises.unwrap_or(true),
        qos0_lost_share_max: number("qos0_lost_share_max", 1.0),
        connections_lost_max: lost.and_then(|lost| lost.whole(0..=u64::from(u32::MAX))),
        ramp_per_s_min: any("ramp_per_s_min"),
        storm_s_max: any("storm_s_max"),
        connect_p99_ms_max: any("connect_p99_ms_max"),
        command_p99_ms_max: any("command_p99_ms_max"),
        telemetry_p99_ms_max: any("telemetry_p99_ms_max"),
        proxy_bytes_per_connection_max: any("proxy_bytes_per_connection_max"),
        group_bytes_per_device_max: any("group_bytes_per_device_max"),
        redis_bytes_per_device_max: any("redis_bytes_per_device_max"),
        storm_growth_max: any("storm_growth_max"),
        cpu_ratio_max: any("cpu_ratio_max"),
        simulator_bytes_per_device_max: any("simulator_bytes_per_device_max"),
        run_s_max: any("run_s_max"),
    }
}

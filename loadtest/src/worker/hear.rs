//! What a device does with each packet from the broker.

use super::Worker;
use crate::link::{Link, Stage};
use crate::plan::{Device, Role};
use crate::traffic::Traffic;
use crate::wire::{self, Packet, Scan, kind};

impl Worker {
    /// Takes in the bytes of one read; keeps the start of an unfinished packet. An error says what
    /// the broker did wrong.
    #[inline]
    pub(super) fn hear(&mut self, index: usize, bytes: &[u8]) -> Result<(), String> {
        let now_ns = self.now_ns();
        let mut at = 0;
        loop {
            let packet = match wire::scan(&bytes[at..]) {
                Scan::Packet(packet) => packet,
                Scan::Incomplete => break,
                Scan::Malformed(wrong) => return Err(wrong.to_owned()),
            };
            at += packet.len;
            let (device, link) = (&self.plan.devices[index], &mut self.links[index]);
            match packet.first & 0xF0 {
                kind::PUBLISH => {
                    take_publish(&packet, device.role, link, &mut self.traffic, now_ns)?;
                }
                kind::PUBACK | kind::PUBREC | kind::PUBREL | kind::PUBCOMP => {
                    take_ack(&packet, device.role, link, &mut self.traffic)?;
                }
                _ if take_control(&packet, device, link, &mut self.traffic, self.plan.qos)? => {
                    self.up(index);
                }
                _ => {}
            }
        }
        self.links[index].hold(&bytes[at..]);
        Ok(())
    }
}

#[inline]
fn take_publish(
    packet: &Packet<'_>,
    role: Role,
    link: &mut Link,
    traffic: &mut Traffic,
    now_ns: u64,
) -> Result<(), &'static str> {
    let Role::Subscriber(to) = role else {
        return Err("PUBLISH to a device that nobody publishes to");
    };
    let (packet_id, stamp) = wire::delivery(packet, traffic.version())?;
    match packet.first & 0b110 {
        0 => {}
        0b010 => wire::ack(&mut link.out, kind::PUBACK, packet_id),
        _ => wire::ack(&mut link.out, kind::PUBREC, packet_id),
    }
    traffic.deliver(to, stamp, now_ns)
}

#[inline]
fn take_ack(
    packet: &Packet<'_>,
    role: Role,
    link: &mut Link,
    traffic: &mut Traffic,
) -> Result<(), &'static str> {
    let packet_id = wire::packet_id(packet.body).ok_or("acknowledgement without packet id")?;
    let reason = wire::reason(packet.body);
    match (packet.first & 0xF0, role) {
        (kind::PUBREC, Role::Publisher(_)) if reason < 0x80 => {
            wire::ack(&mut link.out, kind::PUBREL | 0b10, packet_id);
        }
        (kind::PUBACK | kind::PUBREC | kind::PUBCOMP, Role::Publisher(from)) => {
            traffic.acked(from, packet_id, reason);
        }
        (kind::PUBREL, Role::Subscriber(_)) => {
            wire::ack(&mut link.out, kind::PUBCOMP, packet_id);
        }
        _ => return Err("acknowledgement to a device that has nothing to be acknowledged"),
    }
    Ok(())
}

/// Everything that is not part of the message flow; true when it brings the link up.
fn take_control(
    packet: &Packet<'_>,
    device: &Device,
    link: &mut Link,
    traffic: &mut Traffic,
    qos: u8,
) -> Result<bool, String> {
    match (packet.first, link.stage) {
        (kind::CONNACK, Stage::Connecting) => {
            let connack = wire::connack(packet.body, traffic.version())?;
            if connack.code != 0 {
                return Err(format!("CONNACK refused with code 0x{:02x}", connack.code));
            }
            if let Role::Publisher(publisher) = device.role {
                traffic.limit_unacked(publisher, connack.receive_max);
            }
            let Some(filter) = &device.filter else {
                return Ok(true);
            };
            wire::subscribe(&mut link.out, traffic.version(), [filter], qos);
            link.stage = Stage::Subscribing;
            Ok(false)
        }
        (kind::SUBACK, Stage::Subscribing) => {
            match wire::suback(packet.body, 1).map(|codes| codes[0]) {
                Some(granted) if granted == qos => Ok(true),
                Some(code) => Err(format!("SUBACK answered QoS {qos} with code 0x{code:02x}")),
                None => Err("SUBACK shorter than its fields".to_owned()),
            }
        }
        (kind::PINGRESP, Stage::Live | Stage::Leaving) => Ok(false),
        (kind::DISCONNECT, _) => {
            let reason = packet.body.first().copied().unwrap_or(0);
            Err(format!("DISCONNECT with reason 0x{reason:02x}"))
        }
        (first, stage) => Err(format!("packet 0x{first:02x} while {stage:?}")),
    }
}

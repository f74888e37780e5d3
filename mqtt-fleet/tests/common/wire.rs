//! A codec of the tests' own, for MQTT 3.1, 3.1.1 and 5, as plain as it can be.
//!
//! It shares no code with the broker, so a mistake in the broker's codec cannot hide itself
//! by being made twice. It reads strictly: what the broker sends and the standard forbids is an error.

/// Protocol version of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V31,
    V311,
    V5,
}

/// Property identifiers of MQTT 5 (section 2.2.2.2).
pub(crate) mod prop {
    pub(crate) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(crate) const CONTENT_TYPE: u8 = 0x03;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION_DATA: u8 = 0x09;
    pub(crate) const SUBSCRIPTION_ID: u8 = 0x0b;
    pub(crate) const SESSION_EXPIRY: u8 = 0x11;
    pub(crate) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const WILL_DELAY: u8 = 0x18;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(crate) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(crate) const TOPIC_ALIAS: u8 = 0x23;
    pub(crate) const USER: u8 = 0x26;
    pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
}

/// The value of one property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Byte(u8),
    Two(u16),
    Four(u32),
    Var(u32),
    Text(String),
    Bytes(Vec<u8>),
    Pair(String, String),
}

/// Properties in the order they stand on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Props(pub(crate) Vec<(u8, Value)>);

impl Props {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn with(mut self, id: u8, value: Value) -> Self {
        self.0.push((id, value));
        self
    }

    pub(crate) fn byte(self, id: u8, v: u8) -> Self {
        self.with(id, Value::Byte(v))
    }

    pub(crate) fn two(self, id: u8, v: u16) -> Self {
        self.with(id, Value::Two(v))
    }

    pub(crate) fn four(self, id: u8, v: u32) -> Self {
        self.with(id, Value::Four(v))
    }

    pub(crate) fn text(self, id: u8, v: &str) -> Self {
        self.with(id, Value::Text(v.into()))
    }

    pub(crate) fn user(self, key: &str, v: &str) -> Self {
        self.with(prop::USER, Value::Pair(key.into(), v.into()))
    }

    pub(crate) fn get(&self, id: u8) -> Option<&Value> {
        self.0.iter().find(|(i, _)| *i == id).map(|(_, v)| v)
    }

    /// The number of an integer property of any width.
    pub(crate) fn number(&self, id: u8) -> Option<u32> {
        match self.get(id)? {
            Value::Byte(v) => Some(u32::from(*v)),
            Value::Two(v) => Some(u32::from(*v)),
            Value::Four(v) | Value::Var(v) => Some(*v),
            other => panic!("property {id:#x} is not a number: {other:?}"),
        }
    }

    /// All values of an integer property that may stand more than once, sorted.
    pub(crate) fn numbers(&self, id: u8) -> Vec<u32> {
        let mut all: Vec<u32> = self
            .0
            .iter()
            .filter(|(i, _)| *i == id)
            .map(|(_, v)| match v {
                Value::Var(v) | Value::Four(v) => *v,
                other => panic!("property {id:#x} is not a number: {other:?}"),
            })
            .collect();
        all.sort_unstable();
        all
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        for (id, value) in &self.0 {
            body.push(*id);
            match value {
                Value::Byte(v) => body.push(*v),
                Value::Two(v) => body.extend(v.to_be_bytes()),
                Value::Four(v) => body.extend(v.to_be_bytes()),
                Value::Var(v) => put_var(&mut body, *v),
                Value::Text(v) => put_bytes(&mut body, v.as_bytes()),
                Value::Bytes(v) => put_bytes(&mut body, v),
                Value::Pair(k, v) => {
                    put_bytes(&mut body, k.as_bytes());
                    put_bytes(&mut body, v.as_bytes());
                }
            }
        }
        put_var(
            out,
            u32::try_from(body.len()).expect("test properties are small"),
        );
        out.extend(body);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, String> {
        let len = r.var()? as usize;
        let mut r = Reader(r.take(len)?);
        let mut all = Vec::new();
        while !r.0.is_empty() {
            let id = r.u8()?;
            let value = match id {
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => Value::Byte(r.u8()?),
                0x13 | 0x21 | 0x22 | 0x23 => Value::Two(r.u16()?),
                0x02 | 0x11 | 0x18 | 0x27 => Value::Four(r.u32()?),
                0x0b => Value::Var(r.var()?),
                0x03 | 0x08 | 0x12 | 0x15 | 0x1a | 0x1c | 0x1f => Value::Text(r.text()?),
                0x09 | 0x16 => Value::Bytes(r.bytes()?.to_vec()),
                0x26 => Value::Pair(r.text()?, r.text()?),
                _ => return Err(format!("unknown property {id:#x}")),
            };
            let may_repeat = matches!(id, prop::USER | prop::SUBSCRIPTION_ID);
            if !may_repeat && all.iter().any(|(i, _)| *i == id) {
                return Err(format!("property {id:#x} twice"));
            }
            all.push((id, value));
        }
        Ok(Self(all))
    }
}

/// An application message with its delivery flags, in either direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    /// 0 when there is none (`QoS` 0).
    pub(crate) id: u16,
    pub(crate) props: Props,
}

impl Publish {
    pub(crate) fn new(topic: &str, qos: u8, payload: impl AsRef<[u8]>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.as_ref().to_vec(),
            qos,
            ..Self::default()
        }
    }

    pub(crate) fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    pub(crate) fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    pub(crate) fn dup(mut self) -> Self {
        self.dup = true;
        self
    }

    pub(crate) fn props(mut self, props: Props) -> Self {
        self.props = props;
        self
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

/// What a broker may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    ConnAck {
        present: bool,
        code: u8,
        props: Props,
    },
    Publish(Publish),
    PubAck {
        id: u16,
        code: u8,
    },
    PubRec {
        id: u16,
        code: u8,
    },
    PubRel {
        id: u16,
        code: u8,
    },
    PubComp {
        id: u16,
        code: u8,
    },
    SubAck {
        id: u16,
        codes: Vec<u8>,
    },
    UnsubAck {
        id: u16,
        codes: Vec<u8>,
    },
    PingResp,
    Disconnect {
        code: u8,
        props: Props,
    },
    Auth,
}

/// Packet types whose whole body is an id, with the flags the standard demands.
pub(crate) const PUBACK: u8 = 0x40;
pub(crate) const PUBREC: u8 = 0x50;
pub(crate) const PUBREL: u8 = 0x62;
pub(crate) const PUBCOMP: u8 = 0x70;

pub(crate) fn put_var(out: &mut Vec<u8>, mut v: u32) {
    while v >= 128 {
        out.push((v & 0x7f) as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, b: &[u8]) {
    out.extend(
        u16::try_from(b.len())
            .expect("test strings are short")
            .to_be_bytes(),
    );
    out.extend(b);
}

/// Fixed header and body.
pub(crate) fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    put_var(
        &mut out,
        u32::try_from(body.len()).expect("test packets are small"),
    );
    out.extend(body);
    out
}

pub(crate) fn publish(version: Version, p: &Publish) -> Vec<u8> {
    let mut body = Vec::with_capacity(p.topic.len() + p.payload.len() + 16);
    put_bytes(&mut body, p.topic.as_bytes());
    if p.qos > 0 {
        body.extend(p.id.to_be_bytes());
    }
    if version == Version::V5 {
        p.props.encode(&mut body);
    }
    body.extend(&p.payload);
    frame(
        0x30 | u8::from(p.dup) << 3 | p.qos << 1 | u8::from(p.retain),
        &body,
    )
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP in the short form that means success in every version.
pub(crate) fn ack(kind: u8, id: u16) -> Vec<u8> {
    frame(kind, &id.to_be_bytes())
}

pub(crate) fn subscribe(
    version: Version,
    id: u16,
    filters: &[(&str, u8)],
    props: &Props,
) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        props.encode(&mut body);
    }
    for (filter, options) in filters {
        put_bytes(&mut body, filter.as_bytes());
        body.push(*options);
    }
    frame(0x82, &body)
}

pub(crate) fn unsubscribe(version: Version, id: u16, filter: &str) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    put_bytes(&mut body, filter.as_bytes());
    frame(0xa2, &body)
}

pub(crate) fn disconnect(version: Version, code: u8, props: &Props) -> Vec<u8> {
    if version != Version::V5 || (code == 0 && props.0.is_empty()) {
        return frame(0xe0, &[]);
    }
    let mut body = vec![code];
    props.encode(&mut body);
    frame(0xe0, &body)
}

/// Bytes of the first whole packet in `buf`, or `None` when more must be read.
pub(crate) fn whole(buf: &[u8]) -> Result<Option<usize>, String> {
    let mut len = 0usize;
    for i in 0..4 {
        let Some(b) = buf.get(1 + i) else {
            return Ok(None);
        };
        len |= usize::from(b & 0x7f) << (7 * i);
        if b & 0x80 == 0 {
            let total = 2 + i + len;
            return Ok((buf.len() >= total).then_some(total));
        }
    }
    Err("remaining length of five bytes".into())
}

/// Reads one whole packet that came from a broker.
pub(crate) fn decode(version: Version, packet: &[u8]) -> Result<Packet, String> {
    let first = packet[0];
    let header = 1
        + packet[1..]
            .iter()
            .position(|b| b & 0x80 == 0)
            .expect("whole() found the end")
        + 1;
    let mut r = Reader(&packet[header..]);
    let v5 = version == Version::V5;
    let out = match first {
        0x20 => {
            let flags = r.u8()?;
            let code = r.u8()?;
            let props = if v5 {
                Props::decode(&mut r)?
            } else {
                Props::new()
            };
            if flags > 1 {
                return Err(format!("CONNACK flags {flags:#x}"));
            }
            Packet::ConnAck {
                present: flags == 1,
                code,
                props,
            }
        }
        0x30..=0x3f => Packet::Publish(decode_publish(first, v5, &mut r)?),
        PUBACK | PUBREC | PUBREL | PUBCOMP => decode_ack(first, v5, &mut r)?,
        0x90 | 0xb0 => {
            let id = r.u16()?;
            if v5 {
                Props::decode(&mut r)?;
            }
            let codes = std::mem::take(&mut r.0).to_vec();
            if first == 0x90 {
                Packet::SubAck { id, codes }
            } else {
                Packet::UnsubAck { id, codes }
            }
        }
        0xd0 => Packet::PingResp,
        0xe0 if v5 => {
            let code = if r.0.is_empty() { 0 } else { r.u8()? };
            let props = if r.0.is_empty() {
                Props::new()
            } else {
                Props::decode(&mut r)?
            };
            Packet::Disconnect { code, props }
        }
        0xf0 if v5 => {
            r.0 = &[];
            Packet::Auth
        }
        other => return Err(format!("a broker may not send {other:#x} to {version:?}")),
    };
    if r.0.is_empty() {
        Ok(out)
    } else {
        Err(format!("{} bytes after {out:?}", r.0.len()))
    }
}

fn decode_publish(first: u8, v5: bool, r: &mut Reader<'_>) -> Result<Publish, String> {
    let qos = first >> 1 & 3;
    let dup = first & 8 != 0;
    if qos == 3 || (qos == 0 && dup) {
        return Err(format!("PUBLISH flags {first:#x}"));
    }
    let topic = r.text()?;
    let id = if qos > 0 { r.u16()? } else { 0 };
    if qos > 0 && id == 0 {
        return Err("PUBLISH with packet id 0".into());
    }
    let props = if v5 { Props::decode(r)? } else { Props::new() };
    let payload = std::mem::take(&mut r.0).to_vec();
    Ok(Publish {
        topic,
        payload,
        qos,
        retain: first & 1 != 0,
        dup,
        id,
        props,
    })
}

fn decode_ack(first: u8, v5: bool, r: &mut Reader<'_>) -> Result<Packet, String> {
    let id = r.u16()?;
    let code = if v5 && !r.0.is_empty() { r.u8()? } else { 0 };
    if v5 && !r.0.is_empty() {
        Props::decode(r)?;
    }
    Ok(match first {
        PUBACK => Packet::PubAck { id, code },
        PUBREC => Packet::PubRec { id, code },
        PUBREL => Packet::PubRel { id, code },
        _ => Packet::PubComp { id, code },
    })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        if self.0.len() < n {
            return Err(format!("wants {n} bytes, has {}", self.0.len()));
        }
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        Ok(head)
    }

    fn u8(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, String> {
        let b = self.take(2)?;
        Ok(u16::from_be_bytes([b[0], b[1]]))
    }

    fn u32(&mut self) -> Result<u32, String> {
        let b = self.take(4)?;
        Ok(u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn var(&mut self) -> Result<u32, String> {
        let mut v = 0;
        for i in 0..4 {
            let b = self.u8()?;
            v |= u32::from(b & 0x7f) << (7 * i);
            if b & 0x80 == 0 {
                return Ok(v);
            }
        }
        Err("variable byte integer of five bytes".into())
    }

    fn bytes(&mut self) -> Result<&'a [u8], String> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    fn text(&mut self) -> Result<String, String> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|e| e.to_string())
    }
}

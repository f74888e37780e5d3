use super::*;

fn message(topic: &str, properties: &[u8], payload: &[u8]) -> Message {
    let topic = TopicName::new(topic).expect("a topic");
    Message::new(&topic, properties, payload).expect("a message")
}

#[test]
fn parts() {
    let with_user_property = b"\x26\x00\x01k\x00\x01v";
    let message = message("a/b", with_user_property, b"hello").with_expiry_s(Some(7));
    assert_eq!(message.topic(), "a/b");
    assert_eq!(message.topic_name(), TopicName::new("a/b").ok());
    assert_eq!(message.properties(), with_user_property);
    assert_eq!(message.payload(), b"hello");
    assert_eq!(message.payload_bytes(), &b"hello"[..]);
    assert_eq!(message.expiry_s(), Some(7));
    assert_eq!(message.byte_len(), 3 + 7 + 5);
    assert_eq!(message.user_properties().collect::<Vec<_>>(), [("k", "v")]);
    assert_eq!(message.to_compact(), message);
}

#[test]
fn another_topic() {
    let moved = message("a", b"\x01\x01", b"x").with_topic(&TopicName::new("b/c").expect("topic"));
    assert_eq!(moved, message("b/c", b"\x01\x01", b"x"));
}

#[test]
fn transfer_properties_are_refused() {
    let topic = TopicName::new("a").expect("topic");
    for properties in [
        &b"\x23\x00\x01"[..],
        b"\x0b\x01",
        b"\x02\x00\x00\x00\x01",
        b"\x18\0\0\0\0",
    ] {
        assert_eq!(
            Message::new(&topic, properties, b""),
            Err(Violation::PropertyNotAllowed)
        );
    }
    let truncated = Message::new(&topic, b"\x26\x00", b"");
    assert_eq!(truncated, Err(Violation::PropertyBeyondLength));
}

#[test]
fn stored_form_says_its_length() {
    for message in [
        message("a", b"", b""),
        message("a/b", b"\x01\x01", b"payload"),
        message("a/b", b"", b"payload").with_expiry_s(Some(0)),
    ] {
        let mut out = b"before".to_vec();
        message.write_to(&mut out);
        assert_eq!(out.len(), 6 + message.encoded_len());
        out.extend_from_slice(b"after");
        let stored = Bytes::from(out);
        let len = message.encoded_len();
        assert_eq!(Message::read_at(&stored, 6), Ok((message.clone(), len)));
        assert_eq!(Message::read_from(&stored.slice(6..6 + len)), Ok(message));
        let longer = Message::read_from(&stored.slice(6..7 + len));
        assert_eq!(longer, Err(CorruptMessage::TrailingBytes));
        for end in 6..6 + len {
            let cut = Message::read_from(&stored.slice(6..end));
            assert_eq!(cut, Err(CorruptMessage::Truncated));
        }
    }
}

#[test]
fn stored_form_is_checked() {
    let read = |bytes: &'static [u8]| Message::read_from(&Bytes::from_static(bytes));
    let wildcard = CorruptMessage::Invalid(Violation::TopicNameWildcard);
    assert_eq!(read(b"\x10\x01\0\0\0\0\0+"), Err(wildcard));
    assert_eq!(
        read(b"\x20\x01\0\0\0\0\0a"),
        Err(CorruptMessage::UnknownForm(0x20))
    );
    assert_eq!(
        read(b"\x10\x01\0\xff\xff\xff\xffa"),
        Err(CorruptMessage::TooLarge)
    );
    assert_eq!(
        read(b"\x11\x01\0\0\0\0\0\0\0\0\0a"),
        Err(CorruptMessage::EmptyProperties)
    );
    assert_eq!(
        read(b"\x10\0\0\0\0\0\0"),
        Err(CorruptMessage::Invalid(Violation::TopicNameEmpty))
    );
    let alias = CorruptMessage::Invalid(Violation::PropertyNotAllowed);
    assert_eq!(read(b"\x11\x01\0\0\0\0\0\x03\0\0\0a\x23\0\x01"), Err(alias));
}

#[test]
fn the_type_stays_small() {
    // Every queue between threads holds these.
    assert!(size_of::<Message>() <= 56);
}

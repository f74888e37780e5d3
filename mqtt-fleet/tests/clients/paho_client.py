"""Drives a broker with paho-mqtt: paho_client.py PORT VERSION(4|5) SCENARIO. Ends with 0 when all went as it must."""

import queue
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PORT, VERSION, SCENARIO = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
V5 = VERSION == 5
PATIENCE = 10


class Client:
    """paho with its callbacks turned into queues."""

    def __init__(self, name, persistent=False, will=None):
        self.events = {k: queue.Queue() for k in ("connect", "message", "subscribe", "publish", "disconnect")}
        options = {} if V5 else {"clean_session": not persistent}
        self.mqtt = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=name,
            protocol=mqtt.MQTTv5 if V5 else mqtt.MQTTv311,
            reconnect_on_failure=False,
            **options,
        )
        self.mqtt.on_connect = lambda c, u, flags, code, p: self.events["connect"].put((flags, code))
        self.mqtt.on_message = lambda c, u, m: self.events["message"].put(m)
        self.mqtt.on_subscribe = lambda c, u, mid, codes, p: self.events["subscribe"].put(codes)
        self.mqtt.on_publish = lambda c, u, mid, code, p: self.events["publish"].put((mid, code))
        self.mqtt.on_disconnect = lambda c, u, flags, code, p: self.events["disconnect"].put(code)
        if will:
            self.mqtt.will_set(*will)
        extra = {}
        if V5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 600 if persistent else 0
            extra = {"clean_start": not persistent, "properties": properties}
        self.mqtt.connect("127.0.0.1", PORT, 60, **extra)
        self.mqtt.loop_start()
        flags, code = self.get("connect")
        assert not code.is_failure, f"CONNACK: {code}"
        self.present = flags.session_present

    def get(self, event):
        try:
            return self.events[event].get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"no {event} in {PATIENCE} s") from None

    def subscribe(self, topic, qos):
        self.mqtt.subscribe(topic, qos)
        codes = self.get("subscribe")
        assert [c.value for c in codes] == [qos], f"SUBACK: {codes}"

    def publish(self, topic, text, qos, retain=False, properties=None):
        info = self.mqtt.publish(topic, text, qos, retain, properties)
        mid, code = self.get("publish")
        assert mid == info.mid and not code.is_failure, f"acknowledged {mid} with {code}"

    def message(self, topic, text, qos, retain=False):
        m = self.get("message")
        got = (m.topic, m.payload.decode(), m.qos, m.retain)
        assert got == (topic, text, qos, retain), f"got {got}"
        return m

    def close(self):
        self.mqtt.disconnect()
        self.get("disconnect")
        self.mqtt.loop_stop()

    def break_off(self):
        """The socket breaks without DISCONNECT."""
        self.mqtt.loop_stop()
        self.mqtt.socket().close()


def publish_and_subscribe():
    a, b = Client("a"), Client("b")
    for granted in range(3):
        a.subscribe("t/+", granted)
        for qos in range(3):
            b.publish("t/x", f"{granted}{qos}", qos)
            a.message("t/x", f"{granted}{qos}", min(granted, qos))
    b.publish("t/large", "x" * 200_000, 1)
    assert len(a.get("message").payload) == 200_000
    a.close()
    b.close()


def retained():
    a = Client("a")
    for qos in range(3):
        a.publish(f"r/{qos}", "kept", qos, retain=True)
    b = Client("b")
    for qos in range(3):
        b.subscribe(f"r/{qos}", 2)
        b.message(f"r/{qos}", "kept", qos, retain=True)
        a.publish(f"r/{qos}", "", qos, retain=True)
        b.message(f"r/{qos}", "", qos)
    c = Client("c")
    c.subscribe("r/#", 2)
    a.publish("r/live", "end", 2)
    c.message("r/live", "end", 2)


def will():
    watcher = Client("watcher")
    watcher.subscribe("will/#", 2)
    for qos in range(3):
        Client("w", will=("will/w", f"gone {qos}", qos, False)).break_off()
        watcher.message("will/w", f"gone {qos}", qos)
    Client("polite", will=("will/polite", "unwanted", 2, False)).close()
    watcher.publish("will/end", "end", 2)
    watcher.message("will/end", "end", 2)


def persistent():
    a = Client("a", persistent=True)
    assert not a.present
    a.subscribe("q/#", 2)
    a.close()
    b = Client("b")
    for qos in (1, 2):
        for i in range(20):
            b.publish(f"q/{qos}", str(i), qos)
    a = Client("a", persistent=True)
    assert a.present
    for qos in (1, 2):
        for i in range(20):
            a.message(f"q/{qos}", str(i), qos)
    a.close()
    a = Client("a", persistent=True)
    b.publish("q/1", "end", 1)
    a.message("q/1", "end", 1)
    a.close()


def shared():
    members = [Client(f"m{i}") for i in range(3)]
    for m in members:
        m.subscribe("$share/g/jobs", 1)
    b = Client("b")
    for i in range(60):
        b.publish("jobs", str(i), 1)
    got = []
    end = time.monotonic() + PATIENCE
    counts = [0] * len(members)
    while len(got) < 60:
        assert time.monotonic() < end, f"{len(got)} of 60 arrived: {counts}"
        for i, m in enumerate(members):
            try:
                got.append(m.events["message"].get(timeout=0.01).payload.decode())
                counts[i] += 1
            except queue.Empty:
                pass
    assert sorted(got, key=int) == [str(i) for i in range(60)], got
    assert min(counts) >= 6, f"unfair: {counts}"


def properties():
    a, b = Client("a"), Client("b")
    a.subscribe("p", 1)
    sent = Properties(PacketTypes.PUBLISH)
    sent.ResponseTopic = "answer"
    sent.CorrelationData = b"\x00\x01"
    sent.UserProperty = [("k", "v"), ("k", "w")]
    sent.MessageExpiryInterval = 100
    b.publish("p", "x", 1, properties=sent)
    got = a.message("p", "x", 1).properties
    assert got.ResponseTopic == "answer" and got.CorrelationData == b"\x00\x01", got
    assert got.UserProperty == [("k", "v"), ("k", "w")] and 98 <= got.MessageExpiryInterval <= 100, got


globals()[SCENARIO]()
print("ok")

// Drives a broker with MQTT.js: mqttjs_client.js PORT VERSION(4|5) SCENARIO. Ends with 0 when all went as it must.
'use strict';
const assert = require('node:assert/strict');
const mqtt = require('mqtt');

const [port, version, scenario] = [Number(process.argv[2]), Number(process.argv[3]), process.argv[4]];
const PATIENCE = 10_000;

// A promise that fails when it is not kept in time.
function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing in ${PATIENCE} ms`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

class Client {
  static async open(clientId, { persistent = false, will } = {}) {
    const self = new Client();
    self.waiting = [];
    self.messages = [];
    const options = { clientId, protocolVersion: version, clean: !persistent, reconnectPeriod: 0, will };
    if (version === 5 && persistent) options.properties = { sessionExpiryInterval: 600 };
    self.mqtt = mqtt.connect(`mqtt://127.0.0.1:${port}`, options);
    // Set at once: messages of a resumed session come right behind CONNACK.
    self.mqtt.on('message', (topic, payload, packet) => {
      const message = { topic, text: payload.toString(), qos: packet.qos, retain: packet.retain };
      const waiter = self.waiting.shift();
      if (waiter) waiter(message);
      else self.messages.push(message);
    });
    self.mqtt.on('error', (error) => {
      console.error(`${clientId}: ${error}`);
      process.exit(1);
    });
    const connack = await within('CONNACK', new Promise((done) => self.mqtt.once('connect', done)));
    self.present = connack.sessionPresent;
    return self;
  }

  async subscribe(topic, qos) {
    const [granted] = await within('SUBACK', this.mqtt.subscribeAsync(topic, { qos }));
    assert.equal(granted.qos, qos);
  }

  publish(topic, text, qos, retain = false) {
    return within('acknowledgement', this.mqtt.publishAsync(topic, text, { qos, retain }));
  }

  next() {
    if (this.messages.length) return Promise.resolve(this.messages.shift());
    return within('message', new Promise((done) => this.waiting.push(done)));
  }

  async expect(topic, text, qos, retain = false) {
    assert.deepEqual(await this.next(), { topic, text, qos, retain });
  }

  close() {
    return within('close', this.mqtt.endAsync());
  }
}

const scenarios = {
  async publish_and_subscribe() {
    const [a, b] = [await Client.open('a'), await Client.open('b')];
    for (const granted of [0, 1, 2]) {
      await a.subscribe('t/+', granted);
      for (const qos of [0, 1, 2]) {
        await b.publish('t/x', `${granted}${qos}`, qos);
        await a.expect('t/x', `${granted}${qos}`, Math.min(granted, qos));
      }
    }
    await b.publish('t/large', 'x'.repeat(200_000), 1);
    assert.equal((await a.next()).text.length, 200_000);
  },

  async retained() {
    const [a, b] = [await Client.open('a'), await Client.open('b')];
    for (const qos of [0, 1, 2]) {
      await a.publish(`r/${qos}`, 'kept', qos, true);
      await b.subscribe(`r/${qos}`, 2);
      await b.expect(`r/${qos}`, 'kept', qos, true);
      await a.publish(`r/${qos}`, '', qos, true);
      await b.expect(`r/${qos}`, '', qos);
    }
    const c = await Client.open('c');
    await c.subscribe('r/#', 2);
    await a.publish('r/live', 'end', 2);
    await c.expect('r/live', 'end', 2);
  },

  async will() {
    const watcher = await Client.open('watcher');
    await watcher.subscribe('will/#', 2);
    for (const qos of [0, 1, 2]) {
      const will = { topic: 'will/w', payload: Buffer.from(`gone ${qos}`), qos, retain: false };
      const client = await Client.open('w', { will });
      client.mqtt.stream.destroy();
      await watcher.expect('will/w', `gone ${qos}`, qos);
    }
    const will = { topic: 'will/polite', payload: Buffer.from('unwanted'), qos: 2, retain: false };
    await (await Client.open('polite', { will })).close();
    await watcher.publish('will/end', 'end', 2);
    await watcher.expect('will/end', 'end', 2);
  },

  async persistent() {
    let a = await Client.open('a', { persistent: true });
    assert.equal(a.present, false);
    await a.subscribe('q/#', 2);
    await a.close();
    const b = await Client.open('b');
    for (const qos of [1, 2]) for (let i = 0; i < 20; i++) await b.publish(`q/${qos}`, `${i}`, qos);
    a = await Client.open('a', { persistent: true });
    assert.equal(a.present, true);
    for (const qos of [1, 2]) for (let i = 0; i < 20; i++) await a.expect(`q/${qos}`, `${i}`, qos);
  },

  async shared() {
    const members = [];
    for (const name of ['m0', 'm1', 'm2']) {
      const member = await Client.open(name);
      await member.subscribe('$share/g/jobs', 1);
      members.push(member);
    }
    const b = await Client.open('b');
    const all = new Promise((done) => {
      const got = [];
      const counts = [0, 0, 0];
      members.forEach((member, i) => member.mqtt.on('message', (_, payload) => {
        got.push(Number(payload.toString()));
        counts[i] += 1;
        if (got.length === 60) done({ got, counts });
      }));
    });
    for (let i = 0; i < 60; i++) await b.publish('jobs', `${i}`, 1);
    const { got, counts } = await within('60 shared messages', all);
    assert.deepEqual(got.sort((x, y) => x - y), Array.from({ length: 60 }, (_, i) => i));
    assert.ok(Math.min(...counts) >= 6, `unfair: ${counts}`);
  },
};

scenarios[scenario]().then(
  () => {
    console.log('ok');
    process.exit(0);
  },
  (error) => {
    console.error(error);
    process.exit(1);
  },
);

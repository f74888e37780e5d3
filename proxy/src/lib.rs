//! The proxy: listeners, connections and the MQTT session machine.

//! What a value may be: numbers, durations, templates, sizes.

use std::ops::RangeInclusive;
use std::time::Duration;

use protocol::{TopicFilter, TopicName};
use toml::de::DeValue;

use super::super::STAMP_BYTES;
use super::super::model::{PayloadSize, Template};
use super::text::{Found, Section};
use crate::limits::{CLIENT_ID_BYTES_MAX, PAYLOAD_BYTES_MAX};

/// The longest duration that a file may ask for: nobody waits longer, and every sum of some fits.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

impl<'d> Found<'_, 'd> {
    /// A text.
    pub(super) fn text(&self) -> Option<&'d str> {
        match self.value {
            DeValue::String(text) if !text.contains(char::is_control) => Some(text.as_ref()),
            DeValue::String(_) => {
                self.no("a text without line breaks and other control characters")
            }
            _ => self.no("a text in quotes"),
        }
    }

    /// A name: for reports, client ids and messages.
    pub(super) fn name(&self) -> Option<&'d str> {
        let text = self.text()?;
        let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        if !text.is_empty() && text.len() <= 64 && text.chars().all(fits) {
            return Some(text);
        }
        self.no("a name of at most 64 letters, digits, '-', '_' and '.'")
    }

    /// `true` or `false`.
    pub(super) fn switch(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(on) => Some(*on),
            _ => self.no("true or false"),
        }
    }

    /// A whole number.
    pub(super) fn whole(&self, bounds: RangeInclusive<u64>) -> Option<u64> {
        let number = match self.value {
            DeValue::Integer(n) => u64::from_str_radix(n.as_str(), n.radix()).ok(),
            _ => None,
        };
        let number = number.filter(|number| bounds.contains(number));
        number.or_else(|| {
            let (min, max) = bounds.into_inner();
            self.no(&format!("a whole number from {min} to {max}"))
        })
    }

    /// 0, 1 or 2.
    pub(super) fn qos(&self) -> Option<u8> {
        self.whole(0..=2).map(|qos| qos as u8)
    }

    /// A number, whole or not.
    pub(super) fn number(&self, bounds: RangeInclusive<f64>) -> Option<f64> {
        let number: Option<f64> = match self.value {
            DeValue::Integer(n) => u64::from_str_radix(n.as_str(), n.radix())
                .ok()
                .map(|n| n as f64),
            DeValue::Float(n) => n.as_str().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| bounds.contains(number));
        number.or_else(|| {
            let (min, max) = bounds.into_inner();
            self.no(&format!("a number from {min} to {max}"))
        })
    }

    /// One of these words.
    pub(super) fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let typed = match self.value {
            DeValue::String(text) => text.as_ref(),
            _ => "",
        };
        let found = words.iter().find(|(word, _)| *word == typed);
        found.map(|(_, value)| *value).or_else(|| {
            let quoted: Vec<_> = words.iter().map(|(w, _)| format!("\"{w}\"")).collect();
            self.no(&format!("one of {}", quoted.join(", ")))
        })
    }

    /// A duration with its unit, in milliseconds.
    pub(super) fn ms(&self, bounds: RangeInclusive<Duration>) -> Option<u64> {
        let typed = match self.value {
            DeValue::String(text) => humantime::parse_duration(text).ok(),
            _ => None,
        };
        let Some(duration) = typed else {
            return self
                .no("a duration with its unit, such as \"250ms\", \"10s\", \"5m\" or \"4h\"");
        };
        if bounds.contains(&duration) && duration.subsec_nanos() % 1_000_000 == 0 {
            return u64::try_from(duration.as_millis()).ok();
        }
        let [min, max] = [bounds.start(), bounds.end()].map(|d| humantime::format_duration(*d));
        self.no(&format!("{min} to {max}, in whole milliseconds"))
    }

    /// A duration of any length from a millisecond on, in milliseconds.
    pub(super) fn any_ms(&self) -> Option<u64> {
        self.ms(Duration::from_millis(1)..=DURATION_MAX)
    }

    /// A duration in whole seconds, at most `max`.
    pub(super) fn seconds(&self, max: u32) -> Option<u32> {
        let ms = self.ms(Duration::ZERO..=Duration::from_secs(u64::from(max)))?;
        if ms % 1000 == 0 {
            return u32::try_from(ms / 1000).ok();
        }
        self.no("whole seconds")
    }

    /// The template of a topic that is published to.
    pub(super) fn topic(&self) -> Option<Template> {
        let template = self.template()?;
        match TopicName::new(&template.fill(0, "c")) {
            Ok(_) => Some(template),
            Err(violation) => self.no(&format!("a topic ({violation})")),
        }
    }

    /// The template of a device's filter.
    pub(super) fn filter(&self) -> Option<Template> {
        let template = self.template()?;
        self.plain_filter(&template.fill(0, "c"))?;
        Some(template)
    }

    /// A filter that is no template.
    pub(super) fn fixed_filter(&self) -> Option<&'d str> {
        let text = self.text()?;
        if text.contains("%n") || text.contains("%c") {
            return self.no("a filter for all devices, with + where their topics differ");
        }
        self.plain_filter(text)?;
        Some(text)
    }

    fn plain_filter(&self, text: &str) -> Option<()> {
        match TopicFilter::new(text) {
            Ok(filter) if filter.shared().is_none() => Some(()),
            Ok(_) => self.no("a filter without its share: consumers share by the key share"),
            Err(violation) => self.no(&format!("a topic filter ({violation})")),
        }
    }

    /// The template of client ids.
    pub(super) fn client_id(&self, devices: u64) -> Option<Template> {
        let template = self.template()?;
        let text = &template.0;
        if text.contains("%c") || text.contains(['/', '+', '#']) {
            return self
                .no("a client id: no '%c', and no '/', '+' and '#', because topics contain it");
        }
        if devices > 1 && !text.contains("%n") {
            return self.no("%n in it, the number of the device: client ids must differ");
        }
        let longest = template.fill(u32::MAX, "").len();
        if text.is_empty() || longest > CLIENT_ID_BYTES_MAX {
            return self.no(&format!(
                "1 to {CLIENT_ID_BYTES_MAX} bytes, its number counted"
            ));
        }
        Some(template)
    }

    /// The topic by which a session's home is chosen.
    pub(super) fn home_key(&self) -> Option<String> {
        let template = self.topic()?;
        if !template.0.contains("%c") || template.0.contains("%n") {
            return self.no("a topic with %c (and no %n), such as \"devices/%c\"");
        }
        Some(template.0)
    }

    fn template(&self) -> Option<Template> {
        let text = self.text()?;
        let rest = text.replace("%n", "").replace("%c", "");
        if rest.contains('%') {
            return self.no("no % but in %n (number of the device) and %c (its client id)");
        }
        Some(Template(text.to_owned()))
    }

    /// Payload bytes.
    pub(super) fn payload(&self) -> Option<PayloadSize> {
        match self.value {
            DeValue::Table(_) => self.section()?.read(spread),
            DeValue::Integer(_) => bytes(self).map(PayloadSize::Fixed),
            _ => self.no("bytes: a whole number, { from, to }, or { min, mean, max }"),
        }
    }

    /// Notes that it is not what is expected, and gives nothing.
    pub(super) fn no<T>(&self, expected: &str) -> Option<T> {
        self.refuse(expected);
        None
    }
}

fn bytes(found: &Found<'_, '_>) -> Option<u32> {
    let whole = found.whole(STAMP_BYTES as u64..=PAYLOAD_BYTES_MAX as u64);
    whole.map(|bytes| bytes as u32)
}

fn spread(section: &Section<'_, '_>) -> Option<PayloadSize> {
    let [from, to, min, mean, max] =
        ["from", "to", "min", "mean", "max"].map(|key| section.get(key));
    let bytes = |found: &Option<Found<'_, '_>>| found.as_ref().and_then(bytes);
    let sizes = match (&from, &to, &min, &mean, &max) {
        (Some(_), Some(_), None, None, None) => {
            let (from, to) = (bytes(&from)?, bytes(&to)?);
            (from <= to).then_some(PayloadSize::Even(from, to))
        }
        (None, None, Some(_), Some(_), Some(_)) => {
            let (min, mean, max) = (bytes(&min)?, bytes(&mean)?, bytes(&max)?);
            // The file says the mean of the whole payload, the model that of what is above the smallest.
            let over = |mean| PayloadSize::Exponential {
                min,
                mean: mean - min,
                max,
            };
            (min < mean && mean <= max).then(|| over(mean))
        }
        _ => None,
    };
    if sizes.is_none() {
        let shapes = "{ from, to } with from <= to, or { min, mean, max } with min < mean <= max";
        section.complain(format!("{}: expected {shapes}", section.name));
    }
    sizes
}

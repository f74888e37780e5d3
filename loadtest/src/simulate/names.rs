//! Client ids and topics of a run. They are made when they are needed and kept nowhere.

use std::fmt::Write as _;

use crate::scenario::{Scenario, Template};

/// The client id of a device: the run's number in hexadecimal, so that two runs do not meet, and what the scenario says.
pub(crate) fn client_id(scenario: &Scenario, run: u32, device: u32, into: &mut String) {
    let population = &scenario.populations[scenario.population_of(device)];
    let number = device - population.devices.start;
    into.clear();
    write!(into, "{run:x}-").expect("a String takes everything");
    append(&population.client_id, number, "", into);
}

/// The text of a topic or filter for a device: `%n` is its number within its population, `%c` its client id.
pub(crate) fn topic(template: &Template, number: u32, client_id: &str, into: &mut String) {
    into.clear();
    append(template, number, client_id, into);
}

fn append(template: &Template, number: u32, client_id: &str, into: &mut String) {
    let mut parts = template.0.split('%');
    into.push_str(parts.next().unwrap_or_default());
    for part in parts {
        if let Some(rest) = part.strip_prefix('n') {
            write!(into, "{number}").expect("a String takes everything");
            into.push_str(rest);
        } else if let Some(rest) = part.strip_prefix('c') {
            into.push_str(client_id);
            into.push_str(rest);
        } else {
            into.push('%');
            into.push_str(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_as_the_template_fills_it() {
        let texts = ["d/%c/up", "%n", "a%nb%nc/%c%c", "no", "", "50%/%n", "%"];
        let mut made = String::from("old");
        for text in texts {
            let template = Template(text.to_owned());
            topic(&template, 17, "x-17", &mut made);
            assert_eq!(made, template.fill(17, "x-17"));
        }
    }
}

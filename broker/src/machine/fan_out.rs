//! Collects the receivers of one message by link, so that the payload crosses each link once.

use super::effects::Effects;
use cluster::frame::{Body, Delivery, FromGroup, Receiver};
use cluster::ids::LinkNo;
use protocol::Message;
use smallvec::SmallVec;

/// Receivers of the message in hand. Kept between messages for its memory.
#[derive(Debug, Default)]
pub(super) struct FanOut {
    links: Vec<SmallVec<[Receiver; 1]>>,
    touched: Vec<LinkNo>,
}

impl FanOut {
    pub(super) fn add(&mut self, link: LinkNo, receiver: Receiver) {
        let at = usize::from(link.0);
        if at >= self.links.len() {
            self.links.resize_with(at + 1, SmallVec::new);
        }
        let receivers = &mut self.links[at];
        if receivers.is_empty() {
            self.touched.push(link);
        }
        receivers.push(receiver);
    }

    /// One delivery for each link that has receivers.
    pub(super) fn send(&mut self, message: Message, out: &mut Effects) {
        let Some(last) = self.touched.pop() else {
            return;
        };
        for link in self.touched.drain(..) {
            let receivers = std::mem::take(&mut self.links[usize::from(link.0)]);
            out.send(link, deliver(message.clone(), receivers));
        }
        let receivers = std::mem::take(&mut self.links[usize::from(last.0)]);
        out.send(last, deliver(message, receivers));
    }
}

fn deliver(message: Message, receivers: SmallVec<[Receiver; 1]>) -> FromGroup {
    let expiry_s = message.expiry_s();
    FromGroup::Deliver(Delivery {
        body: Body::Inline(message),
        expiry_s,
        receivers,
    })
}

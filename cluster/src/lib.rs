//! What the nodes of a fleet speak: slots, the ring, and the frames of a link.

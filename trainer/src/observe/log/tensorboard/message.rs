//! The part of Protocol Buffers that scalars in event files need.

/// Field numbers of `Event` in TensorBoard's `event.proto`.
const WALL_TIME: u64 = 1;
const STEP: u64 = 2;
pub(crate) const FILE_VERSION: u64 = 3;
pub(crate) const SUMMARY: u64 = 5;
pub(crate) const SESSION_LOG: u64 = 7;
/// Field number of `SessionLog`. On a start status, a reader discards the events from that step on.
pub(crate) const STATUS: u64 = 1;
pub(crate) const START: u64 = 1;
/// Field numbers of `Summary` and `Summary.Value` in `summary.proto`.
pub(crate) const VALUE: u64 = 1;
pub(crate) const TAG: u64 = 1;
pub(crate) const SIMPLE_VALUE: u64 = 2;

/// Wire types of values.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// A message, field after field.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// Creates an event at a time, in seconds since 1970, and a step.
    pub(crate) fn event(wall_time: f64, step: u64) -> Self {
        let mut event = Self::default().key(WALL_TIME, FIXED64);
        event.0.extend(wall_time.to_le_bytes());
        event.number(STEP, step)
    }

    pub(crate) fn number(self, field: u64, value: u64) -> Self {
        self.key(field, VARINT).varint(value)
    }

    pub(crate) fn float(self, field: u64, value: f32) -> Self {
        let mut message = self.key(field, FIXED32);
        message.0.extend(value.to_le_bytes());
        message
    }

    pub(crate) fn text(self, field: u64, value: &str) -> Self {
        self.raw(field, value.as_bytes())
    }

    pub(crate) fn message(self, field: u64, value: &Self) -> Self {
        self.raw(field, &value.0)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn raw(self, field: u64, value: &[u8]) -> Self {
        let mut message = self.key(field, BYTES).varint(value.len() as u64);
        message.0.extend(value);
        message
    }

    fn key(self, field: u64, kind: u64) -> Self {
        self.varint(field << 3 | kind)
    }

    /// Appends seven bits per byte, the lowest first.
    fn varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }
}

/// Returns the step of an event that [`Message::event`] created; 0 if it has none.
pub(crate) fn step_of(event: &[u8]) -> u64 {
    // The event starts with a key and eight bytes of wall time, followed by the key of the step.
    let number = event.get(10..).filter(|_| event[9] == (STEP << 3 | VARINT) as u8).unwrap_or_default();
    let mut step = 0;
    for (place, byte) in number.iter().enumerate().take(9) {
        step |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            break;
        }
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_lie_as_protocol_buffers_document() {
        // Examples of the documentation: 150 in field 1, "testing" in field 2.
        assert_eq!(Message::default().number(1, 150).bytes(), [0x08, 0x96, 0x01]);
        assert_eq!(Message::default().text(2, "testing").bytes(), b"\x12\x07testing");
        assert_eq!(
            Message::default().message(3, &Message::default().number(1, 150)).bytes(),
            [0x1a, 3, 8, 0x96, 1]
        );
        for step in [0, 1, 127, 128, 300, u64::from(u32::MAX)] {
            assert_eq!(step_of(Message::event(1.5, step).bytes()), step);
        }
        assert_eq!(step_of(b""), 0);
    }
}

//! The bytes of a pickle, read front to back.

use crate::weights::Fallible;

pub(super) struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Number of bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len()
    }

    /// The next `count` bytes; they are there or it is an error, so no length can make anything
    /// allocate.
    pub(super) fn take(&mut self, count: u64) -> Fallible<&'a [u8]> {
        let split = usize::try_from(count).ok().and_then(|count| self.bytes.split_at_checked(count));
        let (taken, rest) = split.ok_or_else(|| format!("it ends where {count} more bytes should follow"))?;
        self.bytes = rest;
        Ok(taken)
    }

    /// A little-endian number of `width` (up to 8) bytes.
    pub(super) fn number(&mut self, width: u64) -> Fallible<u64> {
        Ok(self.take(width)?.iter().rev().fold(0, |n, &byte| (n << 8) | u64::from(byte)))
    }

    /// Text behind its length of `width` bytes.
    pub(super) fn text(&mut self, width: u64) -> Fallible<&'a str> {
        let length = self.number(width)?;
        utf8(self.take(length)?)
    }

    /// Text up to the end of a line.
    pub(super) fn line(&mut self) -> Fallible<&'a str> {
        let end = self.bytes.iter().position(|&b| b == b'\n').ok_or("a line does not end")?;
        let line = self.take(end as u64)?;
        self.take(1)?;
        utf8(line)
    }

    /// A two's complement integer behind its length of `width` bytes; `None` if it does not fit
    /// 64 bits.
    pub(super) fn long(&mut self, width: u64) -> Fallible<Option<i64>> {
        let length = self.number(width)?;
        let bytes = self.take(length)?;
        if bytes.len() > 8 {
            return Ok(None);
        }
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut full = [if negative { 0xFF } else { 0 }; 8];
        full[..bytes.len()].copy_from_slice(bytes);
        Ok(Some(i64::from_le_bytes(full)))
    }
}

fn utf8(bytes: &[u8]) -> Fallible<&str> {
    std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8".into())
}

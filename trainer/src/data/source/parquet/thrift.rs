//! Minimal reader of Thrift's compact protocol: parses page headers and checks footers before they
//! are trusted.
//!
//! The `parquet` crate allocates memory for sizes in a footer and unwraps parts of a page header
//! that may be missing, so both are checked first. All functions return `None` for bytes that end
//! early or are invalid.

/// Largest nesting of groups in a schema.
const MAX_DEPTH: usize = 32;

/// Types of fields.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// Kind of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageKind {
    Data,
    Dictionary,
    /// An index page without values.
    Other,
}

/// The fields of a page header that locate its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageHeader {
    pub(crate) kind: PageKind,
    /// Length of the header itself, in bytes.
    pub(crate) length: u64,
    /// Compressed size of the page, in bytes.
    pub(crate) stored: u64,
    /// Decompressed size of the page, in bytes.
    pub(crate) unpacked: u64,
    /// Bytes of the levels before the values, if the header states them.
    pub(crate) levels: u64,
    /// Number of values, nulls included.
    pub(crate) values: u64,
    /// True if the values are indices into a dictionary.
    pub(crate) coded: bool,
    /// True if levels have the encoding of newer writers.
    pub(crate) plain_levels: bool,
}

impl PageHeader {
    /// Parses the header at the beginning of `bytes`; none if it is damaged or incomplete.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut input = Compact { bytes, at: 0 };
        let (mut kind, mut stored, mut unpacked) = (None, None, None);
        let (mut data, mut dictionary, mut newer) = (None, None, None);
        let mut last = 0;
        while let Some((id, of)) = input.field(&mut last)? {
            match id {
                1 => kind = Some(input.integer(of)?),
                2 => unpacked = Some(input.size(of)?),
                3 => stored = Some(input.size(of)?),
                5 => data = Some(input.integers(of)?),
                7 => dictionary = Some(input.integers(of)?),
                8 => newer = Some(input.integers(of)?),
                _ => input.skip(of, 0)?,
            }
        }
        let at = |fields: [Option<i64>; 8], id: usize| fields[id].and_then(|n| u64::try_from(n).ok());
        // 3 is the encoding `RLE` of levels, in fields 3 and 4 of a data page's header.
        let rle = |fields: [Option<i64>; 8]| fields[3] == Some(3) && fields[4] == Some(3);
        // 2 and 8 are the old and the new encoding of dictionary indices.
        let coded = |encoding: Option<i64>| matches!(encoding, Some(2 | 8));
        let of = |kind, values, levels, coded, plain_levels| {
            let (length, stored, unpacked) = (input.at as u64, stored?, unpacked?);
            Some(Self { kind, length, stored, unpacked, levels, values, coded, plain_levels })
        };
        match kind? {
            0 => of(PageKind::Data, at(data?, 1)?, 0, coded(data?[2]), rle(data?)),
            2 => of(PageKind::Dictionary, at(dictionary?, 1)?, 0, false, true),
            3 => {
                let levels = at(newer?, 5)?.checked_add(at(newer?, 6)?)?;
                of(PageKind::Data, at(newer?, 1)?, levels, coded(newer?[4]), true)
            }
            _ => of(PageKind::Other, 0, 0, false, true),
        }
    }
}

/// Returns true if a footer can be read: none of its lists has more elements than fit into it, and its
/// schema is a tree that can be built: no group has more members than there are, and none is nested too
/// deeply.
pub(crate) fn footer_is_sound(footer: &[u8]) -> bool {
    members(footer).is_some_and(|members| {
        // Open groups, each with the number of members that are still missing.
        let mut open: Vec<usize> = vec![1];
        for (read, count) in members.iter().enumerate() {
            while open.last() == Some(&0) {
                open.pop();
            }
            let Some(missing) = open.last_mut() else { return false };
            *missing -= 1;
            if *count > members.len() - read - 1 || open.len() > MAX_DEPTH {
                return false;
            }
            open.push(*count);
        }
        open.iter().all(|missing| *missing == 0)
    })
}

/// Returns the number of members of each element of the schema, in order. Walks the whole footer.
fn members(footer: &[u8]) -> Option<Vec<usize>> {
    let mut input = Compact { bytes: footer, at: 0 };
    let (mut last, mut members) = (0, None);
    while let Some((id, of)) = input.field(&mut last)? {
        if (id, of) != (2, LIST) {
            input.skip(of, 0)?;
            continue;
        }
        let (count, of) = input.list()?;
        if of != STRUCT || members.is_some() {
            return None;
        }
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(usize::try_from(input.integers(STRUCT)?[5].unwrap_or(0)).ok()?);
        }
        members = Some(all);
    }
    members
}

/// Position in bytes of the compact protocol.
struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Compact<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn zigzag(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Reads the number and type of the next field; none at the end of a struct.
    #[expect(clippy::option_option, reason = "the outer one says that bytes are missing")]
    fn field(&mut self, last: &mut i64) -> Option<Option<(i64, u8)>> {
        let head = self.byte()?;
        if head == 0 {
            return Some(None);
        }
        *last = match head >> 4 {
            0 => self.zigzag()?,
            step => last.checked_add(i64::from(step))?,
        };
        Some(Some((*last, head & 0x0f)))
    }

    /// Reads the length of a list and the type of its elements.
    fn list(&mut self) -> Option<(u64, u8)> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            few => u64::from(few),
        };
        Some((count, head & 0x0f))
    }

    /// Reads a 16, 32 or 64-bit integer.
    fn integer(&mut self, of: u8) -> Option<i64> {
        if (4..=6).contains(&of) { self.zigzag() } else { None }
    }

    fn size(&mut self, of: u8) -> Option<u64> {
        self.integer(of).and_then(|n| u64::try_from(n).ok())
    }

    /// Reads the integers among the first fields of a struct, by field number.
    fn integers(&mut self, of: u8) -> Option<[Option<i64>; 8]> {
        if of != STRUCT {
            return None;
        }
        let (mut found, mut last) = ([None; 8], 0);
        while let Some((id, of)) = self.field(&mut last)? {
            let place = usize::try_from(id).ok().filter(|id| *id < found.len());
            match place {
                Some(place) if (4..=6).contains(&of) => found[place] = Some(self.zigzag()?),
                _ => self.skip(of, 1)?,
            }
        }
        Some(found)
    }

    fn skip(&mut self, of: u8, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        match of {
            TRUE | FALSE => {}
            3 => _ = self.byte()?,
            4..=6 => _ = self.varint()?,
            7 => self.pass(8)?,
            8 => {
                let length = self.varint()?;
                self.pass(length)?;
            }
            LIST | 10 => {
                let (count, of) = self.list()?;
                for _ in 0..count {
                    // In a list, unlike in a struct, a boolean takes a byte.
                    self.skip(if of <= FALSE { 3 } else { of }, depth + 1)?;
                }
            }
            STRUCT => {
                let mut last = 0;
                while let Some((_, of)) = self.field(&mut last)? {
                    self.skip(of, depth + 1)?;
                }
            }
            // Parquet files contain no maps or later types.
            _ => return None,
        }
        Some(())
    }

    fn pass(&mut self, length: u64) -> Option<()> {
        let end = self.at.checked_add(usize::try_from(length).ok()?)?;
        self.at = Some(end).filter(|end| *end <= self.bytes.len())?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a footer with a version and a schema with these numbers of members.
    fn footer(members: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x15, 2, 0x19, (members.len() as u8) << 4 | STRUCT];
        for count in members {
            // Field 4 is a name, field 5 the number of members.
            bytes.extend([0x48, 1, b'x', 0x15, 2 * count, 0]);
        }
        bytes.push(0);
        bytes
    }

    #[test]
    fn a_schema_is_a_tree_of_its_elements() {
        assert!(footer_is_sound(&footer(&[2, 0, 1, 0])));
        assert!(footer_is_sound(&footer(&[1, 2, 0, 0])));
        for wrong in [&[3, 0, 1, 0][..], &[1, 0, 1, 0], &[60, 0], &[2, 0], &[]] {
            assert!(!footer_is_sound(&footer(wrong)), "{wrong:?}");
        }
        let whole = footer(&[1, 0]);
        assert!(!(0..whole.len() - 1).any(|length| footer_is_sound(&whole[..length])));
    }

    /// The `parquet` crate takes no byte for a boolean of a list, and would count for seconds.
    #[test]
    fn a_list_has_no_more_elements_than_bytes() {
        let mut bytes = footer(&[1, 0]);
        bytes.pop();
        // Field 9, a list of three booleans.
        let three = [0x79, 0x31, 1, 2, 1, 0];
        assert!(footer_is_sound(&[&bytes[..], &three].concat()));
        // The same list, with 2^31 - 1 of them.
        let many = [0x79, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07, 0];
        assert!(!footer_is_sound(&[&bytes[..], &many].concat()));
    }

    #[test]
    fn a_page_header_says_sizes_and_values() {
        // Example in the Parquet format: type 0, sizes 100 and 60, {values 7, encoding 0, levels 3
        // and 3}.
        let bytes = [0x15, 0, 0x15, 200, 1, 0x15, 120, 0x2c, 0x15, 14, 0x15, 0, 0x15, 6, 0x15, 6, 0, 0];
        let header = PageHeader::parse(&bytes).unwrap();
        let length = bytes.len() as u64;
        let expected = PageHeader {
            kind: PageKind::Data,
            length,
            stored: 60,
            unpacked: 100,
            levels: 0,
            values: 7,
            coded: false,
            plain_levels: true,
        };
        assert_eq!(header, expected);
        assert!((0..bytes.len()).all(|cut| PageHeader::parse(&bytes[..cut]).is_none()));
    }
}

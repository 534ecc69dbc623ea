//! The little of Thrift's compact protocol that is read here: page headers, and a look at a footer before it is believed.
//!
//! The `parquet` crate reserves memory for what a footer claims and unwraps parts of a page header that may be missing, so both
//! are looked at first. Everything here answers `None` for bytes that end early or make no sense.

/// Groups within groups deeper than this are no set of images.
const MAX_DEPTH: usize = 32;

/// Kinds of a field that are told apart.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageKind {
    Data,
    Dictionary,
    /// An index, which holds no values.
    Other,
}

/// The part of a page header that says where values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageHeader {
    pub(crate) kind: PageKind,
    /// Bytes of the header itself.
    pub(crate) length: u64,
    /// Bytes of what follows it.
    pub(crate) stored: u64,
    /// Bytes of that when decompressed.
    pub(crate) unpacked: u64,
    /// Bytes of the levels in front of the values, where the header says it.
    pub(crate) levels: u64,
    /// Values, nulls included.
    pub(crate) values: u64,
    /// Whether the values are places in a dictionary.
    pub(crate) coded: bool,
    /// Whether levels have the spelling that newer writers use.
    pub(crate) plain_levels: bool,
}

impl PageHeader {
    /// Reads the header that `bytes` begin with; none if it is damaged, or goes on behind them.
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
        // 3 is the spelling `RLE` of levels, in the fields 3 and 4 of a data page's header.
        let rle = |fields: [Option<i64>; 8]| fields[3] == Some(3) && fields[4] == Some(3);
        // 2 and 8 are the old and the new spelling of a dictionary's places.
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

/// Whether the schema in a footer is a tree that can be built: no group claims more members than there are, and none lies too
/// deep.
pub(crate) fn schema_is_sound(footer: &[u8]) -> bool {
    members(footer).is_some_and(|members| {
        // Groups that are open, each with the members it still lacks.
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

/// How many members each element of the schema has, in their order.
fn members(footer: &[u8]) -> Option<Vec<usize>> {
    let mut input = Compact { bytes: footer, at: 0 };
    let mut last = 0;
    while let Some((id, of)) = input.field(&mut last)? {
        if (id, of) != (2, LIST) {
            input.skip(of, 0)?;
            continue;
        }
        let (count, of) = input.list()?;
        if of != STRUCT {
            return None;
        }
        let mut members = Vec::new();
        for _ in 0..count {
            members.push(usize::try_from(input.integers(STRUCT)?[5].unwrap_or(0)).ok()?);
        }
        return Some(members);
    }
    None
}

/// A place in bytes of the compact protocol.
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

    /// Number and kind of the next field; none at the end of a struct.
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

    /// Length of a list and the kind of its elements.
    fn list(&mut self) -> Option<(u64, u8)> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            few => u64::from(few),
        };
        Some((count, head & 0x0f))
    }

    /// A 16, 32 or 64-bit integer.
    fn integer(&mut self, of: u8) -> Option<i64> {
        if (4..=6).contains(&of) { self.zigzag() } else { None }
    }

    fn size(&mut self, of: u8) -> Option<u64> {
        self.integer(of).and_then(|n| u64::try_from(n).ok())
    }

    /// The integers among the first fields of a struct, by their numbers.
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
                    // In a list, unlike in a struct, a truth value takes a byte.
                    self.skip(if of <= FALSE { 3 } else { of }, depth + 1)?;
                }
            }
            STRUCT => {
                let mut last = 0;
                while let Some((_, of)) = self.field(&mut last)? {
                    self.skip(of, depth + 1)?;
                }
            }
            // Maps and later kinds stand nowhere in a Parquet file.
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

    /// A footer that begins with a version and a schema of these numbers of members.
    fn footer(members: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x15, 2, 0x19, (members.len() as u8) << 4 | STRUCT];
        for count in members {
            // Field 4, a name; field 5, the number of members.
            bytes.extend([0x48, 1, b'x', 0x15, 2 * count, 0]);
        }
        bytes.push(0);
        bytes
    }

    #[test]
    fn a_schema_is_a_tree_of_its_elements() {
        assert!(schema_is_sound(&footer(&[2, 0, 1, 0])));
        assert!(schema_is_sound(&footer(&[1, 2, 0, 0])));
        for wrong in [&[3, 0, 1, 0][..], &[1, 0, 1, 0], &[60, 0], &[2, 0], &[]] {
            assert!(!schema_is_sound(&footer(wrong)), "{wrong:?}");
        }
        let whole = footer(&[1, 0]);
        assert!(!(0..whole.len() - 1).any(|length| schema_is_sound(&whole[..length])));
    }

    #[test]
    fn a_page_header_says_sizes_and_values() {
        // As the Parquet format writes it: type 0, sizes 100 and 60, {values 7, encoding 0, levels 3 and 3}.
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

//! Positions of the pages of a column.

use ::parquet::basic::Compression;
use ::parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};

use crate::data::source::parquet::thrift::{PageHeader, PageKind};
use crate::data::source::shard::read::InPlace;

/// Bytes to search for a header first; most headers are far smaller.
const HEADER_GUESS: u64 = 256;
/// Largest size of a header with its statistics.
const MAX_HEADER: u64 = 1 << 20;
/// Largest decompressed size of a page, or [`MAX_RATIO`] times its size in the file if that is
/// more; above, its header is damaged.
const MAX_UNPACKED: u64 = 64 << 20;
const MAX_RATIO: u64 = 32;

/// Pages of one column in one row group.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) compression: Compression,
    pub(crate) dictionary: Option<Length>,
    pub(crate) pages: Vec<Page>,
}

/// Span of bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Length {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// Page of values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    pub(crate) span: Length,
    pub(crate) rows: u32,
    /// True if the values are indices into the dictionary.
    pub(crate) coded: bool,
}

impl Chunk {
    /// Walks the page headers of column `column` of a row group, in a file of `size` bytes.
    pub(crate) fn walk(
        file: &InPlace,
        size: u64,
        group: &RowGroupMetaData,
        column: usize,
    ) -> Result<Self, String> {
        let data = group.columns().get(column).ok_or("the footer lacks a column")?;
        let rows =
            u64::try_from(group.num_rows()).map_err(|_| "the footer claims a negative number of rows")?;
        let (mut at, end) =
            range(data).filter(|(_, end)| *end <= size).ok_or("a column ends after the end of the file")?;
        let mut chunk = Self { compression: codec(data)?, dictionary: None, pages: Vec::new() };
        let mut found = 0;
        while found < rows && at < end {
            let header = header(file, at, end)?;
            let span = Length { offset: at, length: header.length + header.stored };
            at = at
                .checked_add(span.length)
                .filter(|at| *at <= end)
                .ok_or("a page ends after the end of its column")?;
            check(&header, rows)?;
            match header.kind {
                PageKind::Dictionary if chunk.dictionary.is_some() || found > 0 => {
                    return Err("a column has a second dictionary".into());
                }
                PageKind::Data if header.coded && chunk.dictionary.is_none() => {
                    return Err("a column lacks its dictionary".into());
                }
                PageKind::Dictionary => chunk.dictionary = Some(span),
                PageKind::Data if header.values > 0 => {
                    let rows = u32::try_from(header.values).map_err(|_| "a page has too many rows")?;
                    chunk.pages.push(Page { span, rows, coded: header.coded });
                    found += header.values;
                }
                _ => {}
            }
        }
        if found == rows { Ok(chunk) } else { Err(format!("a column has {found} of {rows} rows")) }
    }
}

/// Returns the first byte and the end of a column.
fn range(data: &ColumnChunkMetaData) -> Option<(u64, u64)> {
    let first = u64::try_from(data.data_page_offset()).ok()?;
    // Some writers store 0 if there is no dictionary.
    let dictionary = data.dictionary_page_offset().and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
    let start = dictionary.map_or(first, |dictionary| dictionary.min(first));
    Some((start, start.checked_add(u64::try_from(data.compressed_size()).ok()?)?))
}

fn codec(data: &ColumnChunkMetaData) -> Result<Compression, String> {
    match data.compression() {
        known @ (Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_)) => Ok(known),
        other => Err(format!(
            "compressed with {other}; expected snappy, zstd or none: write it again with one of them"
        )),
    }
}

fn header(file: &InPlace, at: u64, end: u64) -> Result<PageHeader, String> {
    let mut length = HEADER_GUESS;
    loop {
        let available = length.min(end - at);
        let bytes = file.read(at, available).map_err(|e| e.to_string())?;
        match PageHeader::parse(&bytes) {
            Some(header) => return Ok(header),
            None if available < length || length >= MAX_HEADER => {
                return Err(format!("the page header at byte {at} is damaged"));
            }
            None => length *= 8,
        }
    }
}

/// Checks that nothing in a header is out of proportion to the file.
fn check(header: &PageHeader, rows: u64) -> Result<(), String> {
    if header.unpacked > MAX_UNPACKED.max(header.stored.saturating_mul(MAX_RATIO)) {
        return Err(format!("a page of {} bytes claims {} when unpacked", header.stored, header.unpacked));
    }
    // A dictionary may contain values that no row of the group has, each of a few bytes.
    let most = if header.kind == PageKind::Dictionary { header.unpacked } else { rows };
    if header.values > most {
        return Err(format!("a page claims {} values in a group of {rows} rows", header.values));
    }
    if header.levels > header.stored.min(header.unpacked) {
        return Err("the levels of a page are longer than the page".into());
    }
    if !header.plain_levels {
        return Err("levels in a deprecated encoding; write it again".into());
    }
    Ok(())
}

//! Decodes the values of a page.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ::parquet::column::page::{Page, PageMetadata, PageReader};
use ::parquet::column::reader::ColumnReaderImpl;
use ::parquet::data_type::DataType;
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::metadata::ColumnChunkMetaData;
use ::parquet::file::serialized_reader::SerializedPageReader;
use ::parquet::schema::types::ColumnDescPtr;
use bytes::Bytes;

use crate::data::source::parquet::cache::Values;
use crate::data::source::parquet::chunk::{Chunk, Length};
use crate::data::source::shard::read::InPlace;

/// Returns the values of page number `page` of a column. Reads only its bytes and those of the
/// dictionary if it needs one.
pub(crate) fn values<T: DataType>(
    file: &InPlace,
    column: &ColumnDescPtr,
    chunk: &Chunk,
    page: usize,
) -> Result<Values<T::T>, String> {
    let page = &chunk.pages[page];
    let spans = chunk.dictionary.filter(|_| page.coded).into_iter().chain([page.span]);
    let pages = spans.map(|span| unpack(file, column, chunk, span)).collect::<Result<VecDeque<_>, _>>()?;
    // Values are slices of the decompressed pages and keep all of them in memory.
    let unpacked: usize = pages.iter().map(|page| page.buffer().len()).sum();
    let rows = page.rows as usize;
    let (levels, values) = guarded(|| {
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let mut reader = ColumnReaderImpl::<T>::new(column.clone(), Box::new(Ready(pages)));
        let (records, ..) = reader.read_records(rows, Some(&mut levels), None, &mut values)?;
        if records == rows {
            Ok((levels, values))
        } else {
            Err(ParquetError::EOF(format!("{records} of {rows} rows are there")))
        }
    })?;
    let values = with_nulls(values, &levels, column.max_def_level())?;
    Ok(Values { bytes: unpacked + size_of_val(values.as_slice()), values })
}

/// Inserts nulls: a value is present if its level is `full`; without levels, all are.
fn with_nulls<T>(values: Vec<T>, levels: &[i16], full: i16) -> Result<Vec<Option<T>>, String> {
    if full == 0 {
        return Ok(values.into_iter().map(Some).collect());
    }
    let mut values = values.into_iter();
    let of = |level: &i16| if *level == full { values.next().map(Some) } else { Some(None) };
    levels.iter().map(of).collect::<Option<_>>().ok_or_else(|| "there are fewer values than levels".into())
}

/// Decompresses one page. The page reader sees a column with only this page.
fn unpack(file: &InPlace, column: &ColumnDescPtr, chunk: &Chunk, span: Length) -> Result<Page, String> {
    let bytes = Bytes::from(file.read(span.offset, span.length).map_err(|e| e.to_string())?);
    guarded(|| {
        let alone = ColumnChunkMetaData::builder(column.clone())
            .set_compression(chunk.compression)
            .set_total_compressed_size(span.length as i64)
            .build()?;
        let mut reader = SerializedPageReader::new(Arc::new(bytes), &alone, 0, None)?;
        reader.get_next_page()?.ok_or_else(|| ParquetError::EOF("there is no page".into()))
    })
}

/// Runs a part of the `parquet` crate that panics on some damaged bytes, such as a value that is
/// longer than the rest of its page. Nothing that it worked on is used afterwards.
pub(crate) fn guarded<T>(read: impl FnOnce() -> ParquetResult<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|e| e.to_string()),
        Err(_) => Err("the bytes are not valid".into()),
    }
}

/// Pages in memory.
struct Ready(VecDeque<Page>);

impl Iterator for Ready {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.pop_front().map(Ok)
    }
}

impl PageReader for Ready {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        Ok(self.0.pop_front())
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        Ok(self.0.front().map(|page| PageMetadata {
            num_rows: Some(page.num_values() as usize),
            num_levels: Some(page.num_values() as usize),
            is_dict: page.is_dictionary_page(),
        }))
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.0.pop_front();
        Ok(())
    }
}

//! Opens a Parquet file: its footer, the positions of its pages, its labels.

use std::path::Path;

use ::parquet::basic::Type;
use ::parquet::data_type::{ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type};
use ::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use ::parquet::schema::types::ColumnDescPtr;

use crate::data::source::parquet::chunk::Chunk;
use crate::data::source::parquet::columns::{Column, Columns};
use crate::data::source::parquet::page::{guarded, values};
use crate::data::source::parquet::thrift::footer_is_sound;
use crate::data::source::shard::label::{ShardLabel, whole};
use crate::data::source::shard::read::InPlace;
use crate::error::DataError;
use crate::util::printable::printable;

/// End of a file: the length of the footer in four bytes, and the magic number.
const MARK: &[u8; 4] = b"PAR1";
const ENCRYPTED: &[u8; 4] = b"PARE";
const TAIL: u64 = 8;

/// A file whose metadata has been read.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) file: InPlace,
    pub(crate) image: ColumnDescPtr,
    /// Pages of images of each row group.
    pub(crate) chunks: Vec<Chunk>,
    /// Label of each row.
    pub(crate) labels: Vec<ShardLabel>,
    /// Names of the classes, if the file lists them.
    pub(crate) names: Option<Vec<String>>,
}

impl Opened {
    /// Reads the footer, the page headers of the images, and the labels.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let file = InPlace::open(path, true).map_err(DataError::io(path))?;
        let size = std::fs::metadata(path).map_err(DataError::io(path))?.len();
        let damaged =
            |what: String| DataError::layout(path, format!("{what}; download or make the file again"));
        let footer = footer(&file, size).map_err(damaged)?;
        let columns = Columns::find(footer.file_metadata()).map_err(|what| DataError::layout(path, what))?;
        let rows: i64 = footer.row_groups().iter().map(|g| g.num_rows().max(0)).fold(0, i64::saturating_add);
        // Even the smallest image takes more than a byte; this bounds the memory for a damaged
        // footer.
        if rows as u64 > size {
            return Err(damaged(format!("the footer claims {rows} rows in {size} bytes")));
        }
        let (mut chunks, mut labels) = (Vec::new(), Vec::new());
        for (group, number) in footer.row_groups().iter().zip(0..) {
            let walk = |column: &Column| {
                let name = column.of.path().string();
                Chunk::walk(&file, size, group, column.place)
                    .map_err(|what| DataError::layout(path, format!("row group {number}, `{name}`: {what}")))
            };
            chunks.push(walk(&columns.image)?);
            add_labels(&mut labels, &file, &columns.label, &walk(&columns.label)?)
                .map_err(|what| DataError::layout(path, what))?;
        }
        Ok(Self { file, image: columns.image.of, chunks, labels, names: columns.names })
    }
}

fn footer(file: &InPlace, size: u64) -> Result<ParquetMetaData, String> {
    let read = |offset, length| file.read(offset, length).map_err(|e| e.to_string());
    let start = size.checked_sub(TAIL).filter(|_| size > TAIL + MARK.len() as u64);
    let start = start.ok_or("the file is too short for a Parquet file")?;
    let tail = read(start, TAIL)?;
    if tail[4..] == *ENCRYPTED {
        return Err("the file is encrypted, which is not supported".into());
    }
    if tail[4..] != *MARK {
        return Err(
            "the file does not end as a Parquet file does: it is cut off, or not a Parquet file".into()
        );
    }
    let length = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    let at = start.checked_sub(length).ok_or("the footer is longer than the file")?;
    let bytes = read(at, length)?;
    if !footer_is_sound(&bytes) {
        return Err("the footer is damaged: its columns do not form a table, or a list is too long".into());
    }
    guarded(|| ParquetMetaDataReader::decode_metadata(&bytes))
        .map_err(|e| format!("the footer is damaged: {e}"))
}

/// Reads the labels of one row group.
fn add_labels(
    labels: &mut Vec<ShardLabel>,
    file: &InPlace,
    column: &Column,
    chunk: &Chunk,
) -> Result<(), String> {
    let number = |n: i64| u32::try_from(n).map(ShardLabel::Number).map_err(|_| n.to_string());
    // Integer columns become floating-point ones if a table once had missing values.
    let decimal = |n: f64| whole(n).map(ShardLabel::Number).ok_or_else(|| n.to_string());
    let name = |bytes: &[u8]| match std::str::from_utf8(bytes).map(str::trim) {
        Ok("") => Err("empty".into()),
        Ok(text) if !text.contains(char::is_control) => Ok(ShardLabel::Name(text.into())),
        _ => Err(format!("not a name ({})", printable(&bytes.escape_ascii().to_string()))),
    };
    for page in 0..chunk.pages.len() {
        match column.of.physical_type() {
            Type::INT32 => add::<Int32Type>(labels, file, column, (chunk, page), |n| number(i64::from(*n)))?,
            Type::INT64 => add::<Int64Type>(labels, file, column, (chunk, page), |n| number(*n))?,
            Type::FLOAT => add::<FloatType>(labels, file, column, (chunk, page), |n| decimal(f64::from(*n)))?,
            Type::DOUBLE => add::<DoubleType>(labels, file, column, (chunk, page), |n| decimal(*n))?,
            _ => add::<ByteArrayType>(labels, file, column, (chunk, page), |text| name(text.data()))?,
        }
    }
    Ok(())
}

/// Reads the values of a column as labels. `label` returns a value that is not a label as text.
fn add<T: DataType>(
    labels: &mut Vec<ShardLabel>,
    file: &InPlace,
    column: &Column,
    (chunk, page): (&Chunk, usize),
    label: impl Fn(&T::T) -> Result<ShardLabel, String>,
) -> Result<(), String> {
    let found = values::<T>(file, &column.of, chunk, page);
    let found =
        found.map_err(|what| format!("row {}, `{}`: {what}", labels.len(), column.of.path().string()))?;
    for value in &found.values {
        let row = labels.len();
        let unlabeled = |what: &str| {
            format!(
                "row {row} has no label: `{}` is {what}; remove the row, or use another split",
                column.of.path().string()
            )
        };
        let value = value.as_ref().ok_or_else(|| unlabeled("null"))?;
        labels.push(label(value).map_err(|what| unlabeled(&what))?);
    }
    Ok(())
}

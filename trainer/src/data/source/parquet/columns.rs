//! Columns with images and labels.

use ::parquet::basic::Type;
use ::parquet::file::metadata::FileMetaData;
use ::parquet::schema::types::{ColumnDescPtr, SchemaDescriptor};
use serde_json::Value;

use crate::data::source::shard::label::LABEL_KEYS;

/// Names of image columns, the most common first.
const IMAGES: [&str; 6] = ["image", "img", "images", "picture", "photo", "jpg"];
/// A column of a file.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// Index among the columns of a row group.
    pub(crate) place: usize,
    pub(crate) of: ColumnDescPtr,
}

/// Columns to read.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    pub(crate) image: Column,
    pub(crate) label: Column,
    /// Names of the classes, if Hugging Face's description of the columns lists them.
    pub(crate) names: Option<Vec<String>>,
}

impl Columns {
    pub(crate) fn find(file: &FileMetaData) -> Result<Self, String> {
        let schema = file.schema_descr();
        let features = features(file);
        let image = image(schema, &described(&features, "Image")).ok_or_else(|| {
            format!(
                "no column of images; expected `image` with the bytes of image files, or with the members `bytes` and \
                 `path` (paths alone are not followed: write the set again with its images in it); found {}",
                listed(schema)
            )
        })?;
        let label = label(schema, &described(&features, "ClassLabel")).ok_or_else(|| {
            format!(
                "no column of labels; expected one of {}, whole numbers or names; found {}",
                LABEL_KEYS.join(", "),
                listed(schema)
            )
        })?;
        let names = features.get(label.of.name()).and_then(|f| f.get("names")).and_then(Value::as_array);
        let names = names.and_then(|names| names.iter().map(|n| n.as_str().map(String::from)).collect());
        Ok(Self { image, label, names })
    }
}

/// Returns Hugging Face's description of the columns; empty if there is none, or it is in an
/// unknown format.
fn features(file: &FileMetaData) -> Value {
    let pairs = file.key_value_metadata().map(Vec::as_slice).unwrap_or_default();
    let text = pairs.iter().find(|pair| pair.key == "huggingface").and_then(|pair| pair.value.as_deref());
    let mut described: Value = text.and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default();
    described.pointer_mut("/info/features").map(Value::take).unwrap_or_default()
}

/// Returns the names of the columns that are described as a kind.
fn described<'a>(features: &'a Value, kind: &str) -> Vec<&'a str> {
    let of = |feature: &Value| feature.get("_type").and_then(Value::as_str) == Some(kind);
    let all = features.as_object().into_iter().flatten();
    all.filter(|(_, feature)| of(feature)).map(|(name, _)| name.as_str()).collect()
}

fn image(schema: &SchemaDescriptor, described: &[&str]) -> Option<Column> {
    described.iter().chain(&IMAGES).find_map(|name| {
        let bytes = |column: &ColumnDescPtr| column.physical_type() == Type::BYTE_ARRAY;
        column(schema, &[name, "bytes"]).or_else(|| column(schema, &[name])).filter(|c| bytes(&c.of))
    })
}

fn label(schema: &SchemaDescriptor, described: &[&str]) -> Option<Column> {
    let usual = LABEL_KEYS.iter().filter(|name| described.contains(name));
    usual.chain(described).chain(&LABEL_KEYS).find_map(|name| {
        column(schema, &[name]).filter(|c| {
            !matches!(c.of.physical_type(), Type::BOOLEAN | Type::INT96 | Type::FIXED_LEN_BYTE_ARRAY)
        })
    })
}

/// Returns the column of this path, if it has one value per row.
fn column(schema: &SchemaDescriptor, path: &[&str]) -> Option<Column> {
    let place = schema.columns().iter().position(|c| c.path().parts() == path)?;
    let of = schema.column(place);
    (of.max_rep_level() == 0).then_some(Column { place, of })
}

fn listed(schema: &SchemaDescriptor) -> String {
    let names: Vec<_> = schema
        .columns()
        .iter()
        .take(20)
        .map(|c| format!("`{}` ({})", c.path().string(), c.physical_type()))
        .collect();
    if names.is_empty() { "no column".into() } else { names.join(", ") }
}

//! Images in Parquet files, in Hugging Face's layout: a column with the bytes of image files, and a
//! column of labels.
//!
//! Opening a file walks the headers of its pages once. Reading an image reads and decompresses its
//! page, and the dictionary of its column if there is one; a few pages are cached, so that reading
//! in order decompresses each once.

// The other parts do without the crate of the format and are tested in every build.
pub(crate) mod cache;
#[cfg(feature = "parquet")]
pub(crate) mod chunk;
#[cfg(feature = "parquet")]
pub(crate) mod columns;
#[cfg(feature = "parquet")]
pub(crate) mod file;
#[cfg(feature = "parquet")]
pub(crate) mod files;
#[cfg(feature = "parquet")]
pub(crate) mod page;
pub(crate) mod thrift;

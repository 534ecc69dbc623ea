//! Input pipeline: sources of images, the order of samples, the transforms, and the loader that
//! prepares batches ahead of the training step.

pub(crate) mod admin;
pub(crate) mod batch;
pub(crate) mod decode;
pub(crate) mod labels;
pub(crate) mod loader;
pub(crate) mod pipeline;
pub(crate) mod source;

pub use admin::check::{Check, ClassCount, Range, check};
pub use admin::pack::{PackOptions, Packed, pack, write_classes};
pub use admin::stats::{Stats, stats};
pub use batch::{Batch, BatchImages, RawBatch, RawBytes};
pub use decode::guard::keep_decoder_panics_quiet;
pub use decode::reduced::{Decoded, Divisor};
pub use decode::{DEFAULT_IMAGE_LIMIT, decode, decode_reduced, read_image, read_image_within};
pub use loader::Loader;
pub use loader::order::SampleOrder;
pub use loader::request::BatchRequest;
pub use pipeline::eval::EvalPipeline;
pub use pipeline::sample::{SampleId, ViewSpec};
pub use pipeline::timer::{PipelineStage, StageTimer};
pub use pipeline::train::{REDUCED_MARGIN, TrainPipeline};
pub use pipeline::workspace::Workspace;
pub use source::cifar::Cifar;
pub use source::class_names::{empty_classes, unique_names};
pub use source::digest::DataDigest;
pub use source::files::ImageFiles;
pub use source::folder::ImageFolder;
pub use source::notes::SplitNotes;
pub use source::open::{NamedSource, OpenOptions, open_all, open_for_evaluation, open_split};
#[cfg(feature = "parquet")]
pub use source::parquet::files::ParquetFiles;
pub use source::shard::TarShards;
pub use source::shard::index::ShardIndex;
pub use source::shard::label::ShardLabel;
pub use source::shard::shard_image::ShardImage;
pub use source::skipped::{SkipReason, Skipped, SkippedFiles};
pub use source::subset::Subset;
pub use source::synthetic::{Split, Synthetic};
pub use source::{BadImage, Source, is_multi_label};

//! One image of a tar shard.

use serde::{Deserialize, Serialize};

use crate::data::source::shard::label::ShardLabel;

/// One image of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardImage {
    /// Its name in the shard.
    pub name: String,
    /// Where its bytes begin.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
    /// Its label; none for an image whose class is its folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<ShardLabel>,
    /// A second label, a name beside a number or the other way round, that must mean the same
    /// class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_label: Option<ShardLabel>,
}

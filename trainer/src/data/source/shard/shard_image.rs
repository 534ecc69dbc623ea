//! One image of a tar shard.

use serde::{Deserialize, Serialize};

use crate::data::source::shard::label::ShardLabel;

/// One image of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardImage {
    /// Name in the shard.
    pub name: String,
    /// Offset of its first byte.
    pub offset: u64,
    /// Size in bytes.
    pub length: u64,
    /// Label; none for an image whose class is its folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<ShardLabel>,
    /// Second label, a name beside a number or the other way round, which must mean the same class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_label: Option<ShardLabel>,
}

//! Which kernels compute an attention, by storage type, width of heads and size of groups.

use candle_core::DType;

use super::super::memory::unsupported;
use super::OP;
use crate::Result;

/// Tokens of the other side that a block of the kernels takes at a time, in half precision, and the
/// largest group that is computed at once: `TILE` of the kernels.
pub(super) const TILE: usize = 64;
/// The same in single precision, which is also the number of rows of a block.
pub(super) const SINGLE_TILE: usize = 32;
/// Rows of a warp.
pub(super) const WARP_ROWS: usize = 16;
/// Warps of a block that have rows: fewest, and most of plain attention.
const LEAST_WARPS: usize = 4;
const MOST_WARPS: usize = 7;

/// Kernels that go through the tokens of the other side tile by tile.
#[derive(Clone, Copy)]
pub(super) struct Tiled {
    pub(super) forward: &'static str,
    pub(super) backward_q: &'static str,
    pub(super) backward_kv: &'static str,
    /// Channels that a row of shared memory has room for; none in single precision, where rows are
    /// as long as they must be.
    pub(super) channels: Option<usize>,
    /// True if neither bias nor regions are supported.
    plain: bool,
}

/// Kernels that take all tokens of a group at once.
#[derive(Clone, Copy)]
pub(super) struct Whole {
    pub(super) forward: &'static str,
    pub(super) backward: &'static str,
    /// Tokens that a group may have: 16 for each warp.
    pub(super) tokens: usize,
    /// Channels that a row of shared memory has room for.
    pub(super) channels: usize,
}

/// The kernels of an attention.
#[derive(Clone, Copy)]
pub(super) enum Kernels {
    Tiled(Tiled),
    Whole(Whole),
}

/// Properties of an attention that the choice depends on.
pub(super) struct Kind {
    pub(super) dtype: DType,
    /// Channels of a head.
    pub(super) d: usize,
    /// Tokens of a group: queries, keys.
    pub(super) n: usize,
    pub(super) m: usize,
    pub(super) has_bias: bool,
    pub(super) has_regions: bool,
}

/// The kernels whose names end in `$suffix`.
macro_rules! tiled {
    ($suffix:literal, $channels:expr, $plain:expr) => {
        Tiled {
            forward: concat!("attention_forward", $suffix),
            backward_q: concat!("attention_backward_q", $suffix),
            backward_kv: concat!("attention_backward_kv", $suffix),
            channels: $channels,
            plain: $plain,
        }
    };
}

/// The kernels for the smallest groups that hold `$n` tokens.
macro_rules! whole {
    ($suffix:literal, $channels:literal, $n:expr) => {{
        macro_rules! of {
            ($tokens:literal) => {
                Whole {
                    forward: concat!("attention_window_forward_", $suffix, "_", $tokens),
                    backward: concat!("attention_window_backward_", $suffix, "_", $tokens),
                    tokens: $tokens,
                    channels: $channels,
                }
            };
        }
        match $n {
            ..=16 => of!(16),
            ..=32 => of!(32),
            ..=48 => of!(48),
            _ => of!(64),
        }
    }};
}

impl Kernels {
    pub(super) fn of(kind: &Kind) -> Result<Self> {
        match kind.dtype {
            DType::F32 => Ok(Self::Tiled(tiled!("", None, false))),
            DType::BF16 | DType::F16 => {
                Ok(Self::whole(kind).map_or_else(|| Self::Tiled(Self::tiled(kind)), Self::Whole))
            }
            other => Err(unsupported(OP, other)),
        }
    }

    fn whole(kind: &Kind) -> Option<Whole> {
        if kind.n != kind.m || kind.n > TILE {
            return None;
        }
        match (kind.d, kind.has_bias) {
            (..=32, true) => Some(whole!("32", 32, kind.n)),
            (..=32, false) => Some(whole!("plain_32", 32, kind.n)),
            (..=64, false) => Some(whole!("plain_64", 64, kind.n)),
            _ => None,
        }
    }

    fn tiled(kind: &Kind) -> Tiled {
        match (kind.d, !kind.has_bias && !kind.has_regions) {
            (..=32, true) => tiled!("_plain_32", Some(32), true),
            (..=64, true) => tiled!("_plain_64", Some(64), true),
            (..=32, false) => tiled!("_32", Some(32), false),
            (..=64, false) => tiled!("_64", Some(64), false),
            _ => tiled!("_128", Some(128), false),
        }
    }
}

impl Tiled {
    /// Rows of a block, for so many rows in all: the number that leaves the fewest warps idle.
    pub(super) const fn block_rows(&self, rows: usize) -> usize {
        if self.channels.is_none() {
            return SINGLE_TILE;
        }
        let all = rows.div_ceil(WARP_ROWS);
        let mut warps = if self.plain { MOST_WARPS } else { LEAST_WARPS };
        let mut best = warps;
        while warps > LEAST_WARPS {
            warps -= 1;
            if all.div_ceil(warps) * warps < all.div_ceil(best) * best {
                best = warps;
            }
        }
        best * WARP_ROWS
    }
}

/// Checked where it is compiled: 197 tokens are 13 warps of rows, 576 are 36.
const _: () = {
    let tiled = tiled!("_plain_64", Some(64), true);
    assert!(tiled.block_rows(197) == 7 * WARP_ROWS && tiled.block_rows(576) == 6 * WARP_ROWS);
    assert!(tiled.block_rows(65) == 5 * WARP_ROWS && tiled.block_rows(1) == LEAST_WARPS * WARP_ROWS);
    assert!(tiled!("_64", Some(64), false).block_rows(197) == LEAST_WARPS * WARP_ROWS);
};

//! Products of numbers rounded to `bf16`, in pairs that are summed in `f32`: one instruction with
//! AVX-512-BF16.
//!
//! Two inner indices next to each other form a pair, the first in the low half. The instruction
//! reads and writes zero in place of numbers below the least normal one.
#![allow(unsafe_code)]
// On machines without these instructions only tests use this.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_imports))]

mod amx;
mod native;
mod pack;
mod shuffle;
mod task;
#[cfg(test)]
mod tests;
mod tile;

use half::bf16;

pub(super) use native::Native;
pub(super) use task::{Out, run_task};

/// Rows of a full tile: those of the tiles in `f32` on the machines that have the instruction.
const ROWS: usize = 12;
/// Most rows of a strip, by vectors or by matrices.
const MAX_ROWS: usize = amx::ROWS;
/// Columns of a full tile.
const COLS: usize = 2 * LANES;
/// Longest run of pairs that a panel holds.
const PAIRS: usize = 384;
/// Pairs of a vector.
const LANES: usize = 16;

/// Sixteen pairs, one for each column.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct PairVec([u32; LANES]);

/// Arithmetic on sixteen sums of products of pairs.
trait PairDot: Copy {
    type Sums: Copy;
    fn zero(self) -> Self::Sums;
    /// Returns `sums + x * y`, pair by pair.
    fn add(self, sums: Self::Sums, x: u32, y: &PairVec) -> Self::Sums;
    /// Returns `a + b`, lane by lane.
    fn plus(self, a: Self::Sums, b: Self::Sums) -> Self::Sums;
    /// Reads the first `count` of sixteen numbers; the others are zero.
    ///
    /// # Safety
    /// `count` numbers can be read.
    unsafe fn read(self, from: *const f32, count: usize) -> Self::Sums;
    /// Writes the first `count` sums.
    ///
    /// # Safety
    /// `count` numbers can be written.
    unsafe fn write(self, sums: Self::Sums, to: *mut f32, count: usize);
    /// Writes the first `count` sums rounded to the nearest, ties to even.
    ///
    /// # Safety
    /// `count` numbers can be written.
    unsafe fn round(self, sums: Self::Sums, to: *mut bf16, count: usize);
}

/// Requirements on the panels of a product.
#[derive(Clone, Copy)]
struct PanelShape {
    /// Rows of a strip.
    rows: usize,
    /// The number of pairs is a multiple of this; zeros are appended.
    unit: usize,
    /// Left panels must be stored by rows.
    by_rows: bool,
}

impl PanelShape {
    const VECTORS: Self = Self { rows: ROWS, unit: 1, by_rows: false };
    const MATRICES: Self = Self { rows: amx::ROWS, unit: amx::UNIT, by_rows: true };
}

/// The way this machine multiplies activations in `bf16`, if they are the left factor of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bf16Products {
    /// In single precision, to which they are converted when they are loaded.
    Single,
    /// In pairs, by AVX-512-BF16; the right factor is rounded to `bf16` too.
    Pairs,
    /// By AMX, in whole matrix tiles; the right factor is rounded to `bf16` too.
    Matrices,
}

impl Bf16Products {
    /// Returns the way of this machine: AMX, if processor and system have it and
    /// `EFFICIENTTRAIN_AMX` is not 0; otherwise AVX-512-BF16, except on Intel's processors, which
    /// are faster in single precision.
    pub fn detect() -> Self {
        match Native::detect() {
            None => Self::Single,
            Some(native) if native.has_matrices() => Self::Matrices,
            Some(_) => Self::Pairs,
        }
    }
}

impl std::fmt::Display for Bf16Products {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::Single => "in single precision",
            Self::Pairs => "in pairs (AVX-512-BF16)",
            Self::Matrices => "as whole matrices (AMX)",
        })
    }
}

/// Tells if this machine multiplies `bf16` without converting it to single precision.
pub(crate) fn multiplies_bf16() -> bool {
    Native::detect().is_some()
}

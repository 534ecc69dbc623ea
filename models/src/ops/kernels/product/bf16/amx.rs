//! Products in pairs by AMX, which multiplies whole matrices: sixteen rows of sixteen pairs by
//! sixteen pairs of sixteen columns in one instruction.
//!
//! The compiler knows the instructions as assembly alone. A thread that has left a number in their
//! registers is slower to switch to and from, so they are given back after each strip.
#![allow(unsafe_code)]
// Where there are no such instructions only tests use this.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_imports))]

use super::{COLS, PairVec};

/// Rows of a strip: those of two registers.
pub(super) const ROWS: usize = 32;
/// Pairs that an instruction sums up; panels hold whole runs of them.
pub(super) const UNIT: usize = 16;

/// Sums of [`ROWS`] x [`COLS`].
#[repr(align(64))]
pub(super) struct Sums(pub(super) [[f32; COLS]; ROWS]);

/// Multiplication of [`ROWS`] rows by [`COLS`] columns.
pub(super) trait TileMul: Copy {
    /// Sets `sums` to the products of rows of the left factor, `row_stride` elements apart, and of
    /// the right factor.
    ///
    /// # Safety
    /// As many pairs of each row can be read as `right` has elements; their number is a multiple of
    /// [`UNIT`].
    unsafe fn multiply(self, left: *const u16, row_stride: usize, right: &[[PairVec; 2]], sums: &mut Sums);
}

/// The instructions, on a machine and a system that have them.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[derive(Clone, Copy)]
pub(super) struct Amx(());

/// Elsewhere there are none.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
#[derive(Clone, Copy)]
pub(super) enum Amx {}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
impl Amx {
    pub(super) fn detect() -> Option<Self> {
        None
    }

    pub(super) fn with_registers(self, _: impl FnOnce()) {
        match self {}
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
impl TileMul for Amx {
    unsafe fn multiply(self, _: *const u16, _: usize, _: &[[PairVec; 2]], _: &mut Sums) {
        match self {}
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::__cpuid_count;

    use super::super::LANES;
    use super::{Amx, COLS, PairVec, ROWS, Sums, TileMul, UNIT};

    /// Shapes of the registers, as `ldtilecfg` wants them.
    #[repr(C, align(64))]
    struct Shapes {
        palette: u8,
        start: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }

    /// All eight of them whole.
    static WHOLE: Shapes = Shapes {
        palette: 1,
        start: 0,
        reserved: [0; 14],
        row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
        rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
    };

    impl Amx {
        /// If this machine has them, the system lets this process use them, and
        /// `EFFICIENTTRAIN_AMX=0` does not forbid it.
        pub(in super::super) fn detect() -> Option<Self> {
            let wanted = std::env::var_os("EFFICIENTTRAIN_AMX").is_none_or(|value| value != "0");
            (wanted && in_hardware() && permitted()).then_some(Self(()))
        }

        /// Runs `work`, in which matrices are multiplied.
        #[inline(always)]
        pub(in super::super) fn with_registers(self, work: impl FnOnce()) {
            // SAFETY: `self` was made where the instructions are there, and the shapes are those of
            // palette 1.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const WHOLE, options(nostack)) };
            work();
            // SAFETY: as above; nothing is expected to be left in the registers.
            unsafe { asm!("tilerelease", options(nostack)) };
        }
    }

    fn in_hardware() -> bool {
        const BF16: u32 = 1 << 22;
        const TILE: u32 = 1 << 24;
        // What it stores goes through AVX-512, whose detection also says that there is such a leaf.
        is_x86_feature_detected!("avx512f") && {
            // SAFETY: the leaf is there. (Newer compilers know that asking is always safe.)
            #[allow(unused_unsafe)]
            let found = unsafe { __cpuid_count(7, 0) }.edx;
            found & BF16 != 0 && found & TILE != 0
        }
    }

    /// Asks the system for the registers, which it gives to a process that wants them (Linux 5.16
    /// and later).
    fn permitted() -> bool {
        const REQUEST: libc::c_long = 0x1023;
        const TILE_DATA: libc::c_long = 18;
        // SAFETY: the call takes two numbers and touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST, TILE_DATA) == 0 }
    }

    impl TileMul for Amx {
        #[inline(always)]
        unsafe fn multiply(
            self,
            left: *const u16,
            row_stride: usize,
            right: &[[PairVec; 2]],
            sums: &mut Sums,
        ) {
            const {
                assert!(ROWS == 2 * LANES && COLS == 2 * LANES && size_of::<[PairVec; 2]>() == 128);
            }
            // SAFETY: the caller's promise; `sums` holds four registers of sixteen rows of
            // 64 bytes, 128 bytes apart.
            unsafe {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "test {steps}, {steps}",
                    "jz 3f",
                    "2:",
                    "tileloadd tmm6, [{right} + {width}]",
                    "tileloadd tmm4, [{left} + {row_stride}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{right} + {width} + 64]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{below} + {row_stride}]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {left}, 64",
                    "add {below}, 64",
                    "add {right}, 2048",
                    "dec {steps}",
                    "jnz 2b",
                    "3:",
                    "tilestored [{sums} + {width}], tmm0",
                    "tilestored [{sums} + {width} + 64], tmm1",
                    "tilestored [{sums} + {width} + 2048], tmm2",
                    "tilestored [{sums} + {width} + 2112], tmm3",
                    left = inout(reg) left => _,
                    below = inout(reg) left.wrapping_add(LANES * row_stride) => _,
                    right = inout(reg) right.as_ptr() => _,
                    steps = inout(reg) right.len() / UNIT => _,
                    row_stride = in(reg) 2 * row_stride,
                    width = in(reg) 128usize,
                    sums = in(reg) sums.0.as_mut_ptr(),
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    }
}

//! The instructions of this machine for products in pairs.
#![allow(unsafe_code)]

#[cfg(not(target_arch = "x86_64"))]
use super::PanelShape;
#[cfg(target_arch = "x86_64")]
use super::amx::Amx;
#[cfg(not(target_arch = "x86_64"))]
use super::tile::Strip;

/// AVX-512-BF16, on a machine that has it, and AMX if that is there too.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(in crate::ops::kernels::product) struct Native {
    amx: Option<Amx>,
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __cpuid, __m256bh, __m256i, __m512, __m512bh, __m512i, _mm256_mask_storeu_epi16, _mm512_add_ps,
        _mm512_cvtneps_pbh, _mm512_dpbf16_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
        _mm512_set1_epi32, _mm512_setzero_ps,
    };
    use std::sync::OnceLock;

    use half::bf16;

    use super::super::tile::Strip;
    use super::super::{LANES, PairDot, PairVec, PanelShape};
    use super::{Amx, Native};

    impl Native {
        /// Returns the instructions if this machine has them and is faster with them.
        pub(in crate::ops::kernels::product) fn detect() -> Option<Self> {
            static HERE: OnceLock<Option<Native>> = OnceLock::new();
            *HERE.get_or_init(|| {
                let found = is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bf16");
                let amx = Amx::detect();
                // Without AMX, Intel's instruction is slower than two multiplications in single
                // precision (83 against 139 GFLOP/s, measured on an Emerald Rapids); on AMD's Zen 5
                // it takes the time of one.
                (found && (amx.is_some() || !by_intel())).then_some(Self { amx })
            })
        }

        /// The same without AMX.
        #[cfg(test)]
        pub(in crate::ops::kernels::product) fn by_vectors(self) -> Self {
            Self { amx: None }
        }

        pub(in crate::ops::kernels::product) fn has_matrices(self) -> bool {
            self.amx.is_some()
        }

        pub(in super::super) fn shape(self) -> PanelShape {
            if self.has_matrices() { PanelShape::MATRICES } else { PanelShape::VECTORS }
        }

        /// Runs `work` compiled for the instructions of this machine.
        #[inline(always)]
        pub(in super::super) fn compiled<R>(self, work: impl FnOnce() -> R) -> R {
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
            fn run<R>(work: impl FnOnce() -> R) -> R {
                work()
            }
            // SAFETY: `self` exists only on machines with these features.
            unsafe { run(work) }
        }

        pub(in super::super) fn run(self, strip: &Strip) {
            // SAFETY, of both: `self` exists only on machines with these features.
            match self.amx {
                Some(amx) => unsafe { matrices(self, amx, strip) },
                None => unsafe { tiles(self, strip) },
            }
        }
    }

    fn by_intel() -> bool {
        // SAFETY: a processor with AVX-512 has the leaf. (Newer compilers know that asking is
        // always safe.)
        #[allow(unused_unsafe)]
        let vendor = unsafe { __cpuid(0) };
        [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == *b"GenuineIntel"
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn tiles(native: Native, strip: &Strip) {
        strip.tiles(native);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn matrices(native: Native, amx: Amx, strip: &Strip) {
        amx.with_registers(|| strip.matrices(amx, native));
    }

    // SAFETY, of every block below: `self` exists only on machines with these features, and a
    // `PairVec` is as large as a vector; of other memory, only as many numbers are accessed as the
    // caller promises.
    impl PairDot for Native {
        type Sums = __m512;

        #[inline(always)]
        fn zero(self) -> __m512 {
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        fn add(self, sums: __m512, x: u32, y: &PairVec) -> __m512 {
            unsafe {
                let x = std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(x.cast_signed()));
                let y = y.0.as_ptr().cast::<__m512bh>().read();
                _mm512_dpbf16_ps(sums, x, y)
            }
        }

        #[inline(always)]
        fn plus(self, a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn read(self, from: *const f32, count: usize) -> __m512 {
            unsafe { _mm512_maskz_loadu_ps(mask(count), from) }
        }

        #[inline(always)]
        unsafe fn write(self, sums: __m512, to: *mut f32, count: usize) {
            unsafe { _mm512_mask_storeu_ps(to, mask(count), sums) }
        }

        #[inline(always)]
        unsafe fn round(self, sums: __m512, to: *mut bf16, count: usize) {
            unsafe {
                let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(sums));
                _mm256_mask_storeu_epi16(to.cast(), mask(count), rounded);
            }
        }
    }

    /// The lowest `count` of sixteen bits.
    #[inline(always)]
    fn mask(count: usize) -> u16 {
        if count < LANES { (1 << count) - 1 } else { u16::MAX }
    }
}

/// Other processors have no such instructions.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Clone, Copy)]
pub(in crate::ops::kernels::product) enum Native {}

#[cfg(not(target_arch = "x86_64"))]
impl Native {
    pub(in crate::ops::kernels::product) fn detect() -> Option<Self> {
        None
    }

    pub(in crate::ops::kernels::product) fn has_matrices(self) -> bool {
        match self {}
    }

    pub(super) fn shape(self) -> PanelShape {
        match self {}
    }

    pub(super) fn compiled<R>(self, _: impl FnOnce() -> R) -> R {
        match self {}
    }

    pub(super) fn run(self, _: &Strip) {
        match self {}
    }
}

//! Instruction sets of this machine that kernels or codecs may use.

#[cfg(target_arch = "x86_64")]
use efficienttrain_models::ops;

#[cfg(target_arch = "x86_64")]
pub(crate) fn instruction_sets() -> Vec<&'static str> {
    let all = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        // Only if the system permits this process to use it.
        ("amx_bf16", ops::Bf16Products::detect() == ops::Bf16Products::Matrices),
    ];
    all.iter().filter(|set| set.1).map(|set| set.0).collect()
}

#[cfg(target_arch = "aarch64")]
pub(crate) fn instruction_sets() -> Vec<&'static str> {
    let all = [("neon", std::arch::is_aarch64_feature_detected!("neon"))];
    all.iter().filter(|set| set.1).map(|set| set.0).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn instruction_sets() -> Vec<&'static str> {
    Vec::new()
}

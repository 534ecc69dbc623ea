//! The families of backbones.

use std::fmt;

/// A family of backbones: one structure, several widths and depths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// [`resnet`](crate::resnet).
    ResNet,
    /// [`vit`](crate::vit): DeiT, with or without a distillation token.
    Vit,
    /// [`swin`](crate::swin).
    Swin,
    /// [`convnext`](crate::convnext).
    ConvNext,
    /// [`metaformer`](crate::metaformer): CAFormer and ConvFormer.
    MetaFormer,
    /// [`cswin`](crate::cswin).
    CsWin,
    /// [`pvt`](crate::pvt).
    Pvt,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ResNet => "ResNet",
            Self::Vit => "DeiT",
            Self::Swin => "Swin",
            Self::ConvNext => "ConvNeXt",
            Self::MetaFormer => "MetaFormer",
            Self::CsWin => "CSWin",
            Self::Pvt => "PVT",
        })
    }
}

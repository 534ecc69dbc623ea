//! The autoencoder itself.

use super::options::{LIGHT_DECODER, PAPER_DECODER, TINY_DECODER, check, check_size};
use super::{MaeOptions, Masking, TransformerShape, sincos_positions};
use crate::backbone::{Model, ModelInfo};
use crate::cost::Cost;
use crate::graph::{BlockIndex, Context, CostCounter, Mode, Variable, in_thread_pool};
use crate::layers::{
    Conv2d, ConvShape, LayerNorm, Linear, flatten, gather_tokens, join_tokens, restore_tokens, select_tokens,
};
use crate::ops;
use crate::params::{Init, ParamBuilder, ParamId, ParamSpec, ParamStore};
use crate::resample::Resample;
use crate::vit::{Block, EPS, PATCH};
use crate::weights::Tensors;
use crate::{Error, Family, Result};

const INIT: Init = Init::TRANSFORMER;

/// A masked autoencoder: structure only, values come from a [`ParamStore`].
#[derive(Clone, Debug)]
pub struct Mae {
    info: ModelInfo,
    options: MaeOptions,
    /// Widths of the encoder and the decoder.
    widths: [usize; 2],
    encoder_params: usize,
    cls_token: ParamId,
    patch_embed: Conv2d,
    blocks: Vec<Block>,
    norm: LayerNorm,
    decoder_embed: Linear,
    mask_token: ParamId,
    decoder_blocks: Vec<Block>,
    decoder_norm: LayerNorm,
    decoder_pred: Linear,
}

/// Name, encoder and decoder.
const VARIANTS: [(&str, TransformerShape, TransformerShape); 3] = [
    ("mae_tiny", TransformerShape { width: 192, heads: 3, depth: 12 }, TINY_DECODER),
    ("mae_small", TransformerShape { width: 384, heads: 6, depth: 12 }, LIGHT_DECODER),
    ("mae_base", TransformerShape { width: 768, heads: 12, depth: 12 }, PAPER_DECODER),
];

impl Mae {
    /// A variant by name: `mae_tiny`, `mae_small` or `mae_base`.
    ///
    /// # Errors
    /// When there is no such variant, or as [`Self::with_encoder`].
    pub fn new(name: &str, options: &MaeOptions) -> Result<Self> {
        match VARIANTS.iter().find(|variant| variant.0 == name) {
            Some(&(name, encoder, decoder)) => {
                let decoder = Some(options.decoder.unwrap_or(decoder));
                Self::with_encoder(name, encoder, &MaeOptions { decoder, ..*options })
            }
            None => {
                let known = VARIANTS.map(|variant| variant.0);
                let nearest = known.into_iter().min_by_key(|n| strsim::damerau_levenshtein(name, n));
                let nearest = nearest.unwrap_or_default().to_owned();
                Err(Error::UnknownModel { name: name.into(), nearest, known: known.join(", ") })
            }
        }
    }

    /// An autoencoder with any encoder; its own decoder is the MAE paper's: 512 channels, 16 heads,
    /// 8 blocks.
    ///
    /// # Errors
    /// When the size is no multiple of the patch, or an option is out of range.
    pub fn with_encoder(name: &str, encoder: TransformerShape, options: &MaeOptions) -> Result<Self> {
        let TransformerShape { width, depth, .. } = encoder;
        let decoder = options.decoder.unwrap_or(PAPER_DECODER);
        check(name, [encoder, decoder], options)?;
        let mut b = ParamBuilder::default();
        let cls_token = b.undecayed("cls_token", &[1, 1, width], INIT);
        let patches = ConvShape::patches(options.in_channels, width, PATCH);
        let patch_embed = b.within("patch_embed", |b| b.within("proj", |b| Conv2d::plain(b, patches)));
        let blocks = stack(&mut b, "blocks", encoder, 1);
        b.layer(depth + 1);
        let norm = b.within("norm", |b| LayerNorm::new(b, width, EPS));
        let outputs = options.target.width(PATCH, options.in_channels);
        let zeros = Some(Init::Zeros);
        let decoder_embed = b.within("decoder_embed", |b| Linear::new(b, width, decoder.width, INIT, zeros));
        let mask_token = b.undecayed("mask_token", &[1, 1, decoder.width], INIT);
        let decoder_blocks = stack(&mut b, "decoder_blocks", decoder, depth + 1);
        let decoder_norm = b.within("decoder_norm", |b| LayerNorm::new(b, decoder.width, EPS));
        let decoder_pred = b.within("decoder_pred", |b| Linear::new(b, decoder.width, outputs, INIT, zeros));
        let mut specs = b.finish();
        specs.iter_mut().for_each(draw_as_authors);
        let own = |spec: &ParamSpec| spec.name.starts_with("decoder_") || spec.name == "mask_token";
        let encoder_params = specs.iter().position(own).unwrap_or(specs.len());
        let info = ModelInfo {
            name: name.into(),
            family: Family::Vit,
            layers: specs.iter().map(|spec| spec.layer + 1).max().unwrap_or(0),
            specs,
            input_size: options.input_size,
            num_classes: 0,
            in_channels: options.in_channels,
            drop_rate: 0.0,
            classifiers: &[],
            feature_info: Vec::new(),
        };
        Ok(Self {
            info,
            options: *options,
            widths: [width, decoder.width],
            encoder_params,
            cls_token,
            patch_embed,
            blocks,
            norm,
            decoder_embed,
            mask_token,
            decoder_blocks,
            decoder_norm,
            decoder_pred,
        })
    }

    /// Options that it was made for, at its input size.
    pub fn options(&self) -> &MaeOptions {
        &self.options
    }

    /// Part of the patches that are removed.
    pub fn mask_ratio(&self) -> f64 {
        self.options.mask_ratio
    }

    /// Patches of an image at the present input size.
    pub fn patches(&self) -> usize {
        self.options.input_size.map(|edge| edge / PATCH).iter().product()
    }

    /// Returns this autoencoder for another input size; no parameter changes with it.
    ///
    /// # Errors
    /// When the size is no multiple of the patch, or so small that nothing is seen of an image.
    pub fn at_size(&self, size: [usize; 2]) -> Result<Self> {
        let options = MaeOptions { input_size: size, ..self.options };
        check_size(self.name(), &options)?;
        Ok(Self { info: self.info.at_size(size, &[]), options, ..self.clone() })
    }

    /// The encoder's tokens for channels-last images `[N, H, W, C]`: the class token and the seen
    /// patches, normalized, `[N, 1 + K, width]`.
    ///
    /// # Errors
    /// When images or masking do not fit the input size.
    pub fn encode(&self, cx: &mut Context, images: &Variable, masking: &Masking) -> Result<Variable> {
        self.check_batch(images, masking)?;
        let patches = self.patch_embed.forward(cx, images)?;
        let patches = flatten(cx, &patches)?;
        let class = cx.param(self.cls_token);
        let position = self.positions(self.widths[0], &class)?;
        let tokens = join_tokens(cx, &patches, &[class], &position)?;
        let mut x = gather_tokens(cx, &tokens, &masking.places(1))?;
        for block in &self.blocks {
            x = cx.block(block, &x, Block::forward)?;
        }
        self.norm.forward(cx, &x)
    }

    /// The prediction for every patch, `[N, L, features of the target]`, from the encoder's tokens.
    ///
    /// # Errors
    /// When tokens and masking do not fit.
    pub fn decode(&self, cx: &mut Context, tokens: &Variable, masking: &Masking) -> Result<Variable> {
        let seen = self.decoder_embed.forward(cx, tokens)?;
        let (filler, length) = (cx.param(self.mask_token), 1 + masking.patches());
        let all = restore_tokens(cx, &seen, &filler, &masking.places(1), length)?;
        let position = self.positions(self.widths[1], &filler)?;
        let mut x = join_tokens(cx, &all, &[], &position)?;
        for block in &self.decoder_blocks {
            x = cx.block(block, &x, Block::forward)?;
        }
        // Norm and prediction work token by token: the class token needs neither.
        let patches = select_tokens(cx, &x, 1, masking.patches())?;
        let normed = self.decoder_norm.forward(cx, &patches)?;
        self.decoder_pred.forward(cx, &normed)
    }

    /// The training loss: squared error of the removed patches, a scalar.
    ///
    /// # Errors
    /// Those of [`Self::encode`].
    pub fn loss(&self, cx: &mut Context, images: &Variable, masking: &Masking) -> Result<Variable> {
        in_thread_pool(&cx.device(), || {
            let tokens = self.encode(cx, images, masking)?;
            let predicted = self.decode(cx, &tokens, masking)?;
            let target = self.options.target.of(images.tensor(), PATCH)?;
            let removed = masking.removed();
            let error = ops::masked_squared_error(predicted.tensor(), &target, &removed)?;
            Ok(cx.record(&[&predicted, &Variable::constant(target)], error))
        })
    }

    /// Counts the cost of a pass of one image at its input size, without running it.
    ///
    /// # Errors
    /// When the layers do not fit each other.
    pub fn cost(&self) -> Result<Cost> {
        let params = ParamStore::placeholders(self.specs())?;
        let mut cx = Context::new(&params, Mode::Count);
        let [h, w] = self.options.input_size;
        let image = Variable::constant(CostCounter::placeholder(&[1, h, w, self.options.in_channels])?);
        let masking = Masking::draw(&[0], self.patches(), self.options.mask_ratio)?;
        let tokens = self.encode(&mut cx, &image, &masking)?;
        self.decode(&mut cx, &tokens, &masking)?;
        Ok(Cost::of(&cx.into_counter(), self.specs()))
    }

    /// The encoder's weights under timm's names, positions at the present input size among them:
    /// what [`load_into`](crate::weights::load_into) brings to the DeiT of the same size, which
    /// keeps its own head (`adapt_head`).
    ///
    /// # Errors
    /// When the store is not this model's.
    pub fn encoder_weights(&self, params: &ParamStore) -> Result<Tensors> {
        let mut tensors = Tensors::default();
        for (spec, (name, tensor)) in self.specs()[..self.encoder_params].iter().zip(params.iter()) {
            if name != spec.name || tensor.dims() != spec.shape {
                let what =
                    format!("expected `{}` {:?}, found `{name}` {:?}", spec.name, spec.shape, tensor.dims());
                return Err(Error::Weights { model: self.name().into(), what });
            }
            tensors.insert(name.to_owned(), tensor.clone());
            if name == "cls_token" {
                let positions = self.positions(self.widths[0], &Variable::constant(tensor.clone()))?;
                tensors.insert("pos_embed".into(), positions.tensor().clone());
            }
        }
        Ok(tensors)
    }

    /// Positions of the class token (zeros) and the patches, `[1, 1 + L, width]`, beside `like` and
    /// of its type: a parameter, since neither positions nor what is added to them are rounded as
    /// activations are.
    fn positions(&self, width: usize, like: &Variable) -> Result<Variable> {
        let grid = |size: [usize; 2]| size.map(|edge| edge / PATCH);
        let MaeOptions { input_size, base_size, .. } = self.options;
        let table = sincos_positions(grid(input_size), grid(base_size), width)?;
        let table = table.pad_with_zeros(0, 1, 0)?.unsqueeze(0)?;
        // Converted on the CPU: a conversion from double precision is no work for a GPU.
        let table = table.to_dtype(like.tensor().dtype())?.to_device(like.tensor().device())?;
        Ok(Variable::constant(table))
    }

    fn check_batch(&self, images: &Variable, masking: &Masking) -> Result<()> {
        let ([h, w], c) = (self.options.input_size, self.options.in_channels);
        let fits = matches!(images.dims(), &[n, ph, pw, pc]
            if (n, ph, pw, pc) == (masking.images(), h, w, c) && masking.patches() == self.patches());
        if fits {
            return Ok(());
        }
        let (n, patches) = (masking.images(), masking.patches());
        let expected =
            format!("images [{n}, {h}, {w}, {c}], as the masking of {n} times {patches} patches says");
        Err(Error::shape("mae", expected, images.dims()))
    }
}

/// The encoder's parameters come first; the decoder's are called as in the MAE authors' code. It
/// has no classes.
impl Model for Mae {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn resampling(&self, size: [usize; 2]) -> Result<Vec<Resample>> {
        check_size(self.name(), &MaeOptions { input_size: size, ..self.options })?;
        Ok(Vec::new())
    }
}

/// Initializes all matrices by Xavier's rule, as in the MAE authors' code. A fixed deviation of
/// 0.02 suits wide networks; with 128 or 192 channels the signal of the seen patches in the decoder
/// is then so weak that training predicts the mean of all targets for many epochs.
fn draw_as_authors(spec: &mut ParamSpec) {
    if spec.name.ends_with("weight") && spec.shape.len() > 1 {
        spec.init = Init::xavier_uniform(&spec.shape);
    }
}

/// Blocks `name.0`, `name.1`, ..., the first in layer `layer` of layer-wise decay; the decoder's
/// are all in the last.
fn stack(b: &mut ParamBuilder, name: &str, shape: TransformerShape, layer: usize) -> Vec<Block> {
    let TransformerShape { width, heads, depth } = shape;
    let block = |i: usize| {
        b.layer(if name == "blocks" { layer + i } else { layer });
        b.within(name, |b| b.within(i, |b| Block::new(b, width, heads, BlockIndex { index: i, depth })))
    };
    (0..depth).map(block).collect()
}

"""`paper`: the paper's system at 512² (section "Implementation details"; the VAE's inner widths are our own choice).

The widths are largest where the picture is small, since arithmetic at 512² costs most: a
residual block of width w has 18·w² parameters, 36·w² with temporal extent, and a step up from v to w channels 36·v·w in
space and 18·w² in time. So the encoder has 504 M parameters (E2's block of 4096 channels alone 302 M) and the decoder
406 M (D_ref 101 M of them); decoding a block of 16 frames at 512² with one reference takes 5.3 TFLOP.
"""

from portrait.generator import GeneratorConfig, SamplingConfig
from portrait.presets.preset import Preset, VideoConfig
from portrait.presets.training import (
    GeneratorTrainingConfig,
    OptimizerConfig,
    VAETrainingConfig,
    VAETrainingStage,
)
from portrait.speech import SpeechConfig
from portrait.vae import FusionConfig, Level, VAEConfig

PAPER = Preset(
    name="paper",
    video=VideoConfig(size=512),
    vae=VAEConfig(
        patch_size=1,
        encoder1=(
            Level(width=32, kernel_time=1, space=2),
            Level(width=128, kernel_time=1, space=2, time=2),
            Level(width=256, kernel_time=3, space=2, time=2),
            Level(width=1024, kernel_time=1, space=2),
        ),
        feature_channels=1024,
        encoder2=(
            Level(width=2048, blocks=1, kernel_time=1, space=2),
            Level(width=4096, blocks=1, kernel_time=1, space=2),
        ),
        decoder1=(
            Level(width=1024, blocks=1, kernel_time=3, space=2),
            Level(width=2048, blocks=1, kernel_time=1, space=2),
        ),
        fusion=FusionConfig(num_layers=6, heads=16, head_dim=64),
        decoder2=(
            Level(width=768, kernel_time=1, space=2),
            Level(width=192, kernel_time=3, space=2, time=2),
            Level(width=96, kernel_time=1, space=2, time=2),
            Level(width=24, kernel_time=1, space=2),
        ),
    ),
    speech=SpeechConfig(encoder="wav2vec2", weights="facebook/wav2vec2-base-960h"),
    generator=GeneratorConfig(
        latent_size=8,
        num_layers=24,
        heads=12,
        head_dim=128,
        speech_dim=768,
        speech_embedding_dim=512,
    ),
    sampling=SamplingConfig(),
    vae_training=VAETrainingConfig(
        stages=(
            VAETrainingStage(size=256, num_frames=5, steps=200_000, batch_size=8, learning_rate=1e-4),
            VAETrainingStage(size=256, num_frames=17, steps=100_000, batch_size=4, learning_rate=1e-4),
            VAETrainingStage(size=256, num_frames=73, steps=50_000, batch_size=1, learning_rate=5e-5),
            VAETrainingStage(size=512, num_frames=17, steps=50_000, batch_size=1, learning_rate=5e-5),
        ),
        optimizer=OptimizerConfig(warmup_steps=1_000, ema_decay=0.9999),
    ),
    generator_training=GeneratorTrainingConfig(
        steps=300_000,
        batch_size=8,
        learning_rate=1e-4,
        optimizer=OptimizerConfig(warmup_steps=1_000, ema_decay=0.9999),
    ),
)

"""`tiny`: the whole system at 128², small enough to train and stream on two CPU cores.

It differs from `paper` in numbers only: the same 64× in space and 4× in time to 64 channels (768×), with narrow levels
and a stem that folds 4×4 pixels, since convolutions at full resolution would take most of the arithmetic.
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

TINY = Preset(
    name="tiny",
    video=VideoConfig(size=128),
    vae=VAEConfig(
        patch_size=4,
        encoder1=(
            Level(width=32, kernel_time=1, space=2),
            Level(width=64, kernel_time=1, time=2),
            Level(width=64, kernel_time=3, time=2),
            Level(width=64, kernel_time=1, space=2),
        ),
        feature_channels=256,
        encoder2=(
            Level(width=128, blocks=1, kernel_time=3, space=2),
            Level(width=128, blocks=1, kernel_time=1, space=2),
        ),
        decoder1=(
            Level(width=64, blocks=1, kernel_time=1, space=2),
            Level(width=128, blocks=1, kernel_time=3, space=2),
        ),
        fusion=FusionConfig(num_layers=3, heads=8, head_dim=32, mlp_ratio=1.5),
        decoder2=(
            Level(width=64, kernel_time=1, space=2),
            Level(width=64, kernel_time=3, time=2),
            Level(width=64, kernel_time=1, time=2),
            Level(width=32, kernel_time=1, space=2),
        ),
    ),
    speech=SpeechConfig(encoder="log_mel", mel_bins=40, subframes=4, look_ahead_ms=80),
    generator=GeneratorConfig(
        latent_size=2,
        num_layers=5,
        heads=5,
        head_dim=32,
        mlp_ratio=3.0,
        speech_dim=160,
        speech_embedding_dim=64,
    ),
    sampling=SamplingConfig(),
    vae_training=VAETrainingConfig(
        stages=(
            VAETrainingStage(size=128, num_frames=5, steps=4_000, batch_size=6, learning_rate=1e-3),
            VAETrainingStage(size=128, num_frames=17, steps=800, batch_size=2, learning_rate=4e-4),
        ),
        # Instead of LPIPS, whose backbone's weights do not ship: with L1 alone, what moves stays where it was.
        l2_weight=5.0,
        motion_weight=30.0,
        colour_jitter=0.3,
        optimizer=OptimizerConfig(ema_decay=0.998),
    ),
    generator_training=GeneratorTrainingConfig(steps=4_000, batch_size=16, learning_rate=1e-3),
)

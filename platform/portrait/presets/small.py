"""`small`: 256², for a single consumer GPU; the paper's structure with a quarter of its widths."""

from portrait.generator import GeneratorConfig, SamplingConfig
from portrait.presets.preset import Preset, VideoConfig
from portrait.presets.training import GeneratorTrainingConfig, VAETrainingConfig, VAETrainingStage
from portrait.speech import SpeechConfig
from portrait.vae import FusionConfig, Level, VAEConfig

SMALL = Preset(
    name="small",
    video=VideoConfig(size=256),
    vae=VAEConfig(
        patch_size=1,
        encoder1=(
            Level(width=32, kernel_time=1, space=2),
            Level(width=64, kernel_time=1, space=2, time=2),
            Level(width=128, kernel_time=3, space=2, time=2),
            Level(width=256, kernel_time=1, space=2),
        ),
        feature_channels=512,
        encoder2=(
            Level(width=512, blocks=1, kernel_time=3, space=2),
            Level(width=512, blocks=1, kernel_time=1, space=2),
        ),
        decoder1=(
            Level(width=512, blocks=1, kernel_time=1, space=2),
            Level(width=512, blocks=1, kernel_time=3, space=2),
        ),
        fusion=FusionConfig(num_layers=4, heads=8, head_dim=64),
        decoder2=(
            Level(width=256, kernel_time=1, space=2),
            Level(width=128, kernel_time=3, space=2, time=2),
            Level(width=64, kernel_time=1, space=2, time=2),
            Level(width=32, kernel_time=1, space=2),
        ),
    ),
    speech=SpeechConfig(),
    generator=GeneratorConfig(
        latent_size=4,
        num_layers=12,
        heads=8,
        head_dim=64,
        speech_dim=160,
        speech_embedding_dim=128,
    ),
    sampling=SamplingConfig(),
    vae_training=VAETrainingConfig(
        stages=(
            VAETrainingStage(size=128, num_frames=5, steps=100_000, batch_size=16, learning_rate=3e-4),
            VAETrainingStage(size=128, num_frames=17, steps=60_000, batch_size=8, learning_rate=2e-4),
            VAETrainingStage(size=256, num_frames=17, steps=40_000, batch_size=4, learning_rate=1e-4),
        ),
    ),
    generator_training=GeneratorTrainingConfig(steps=200_000, batch_size=32, learning_rate=3e-4),
)

"""Synthetic talking heads with known mouth opening and head pose: for the demo, for tests, to check metrics."""

from portrait.synthetic.clip import SyntheticClip, render_clip, render_for_audio
from portrait.synthetic.dataset import write_clip, write_dataset
from portrait.synthetic.identity import Identity
from portrait.synthetic.speech import Speech, Voice, speech, synthesize

__all__ = [
    "Identity",
    "Speech",
    "SyntheticClip",
    "Voice",
    "render_clip",
    "render_for_audio",
    "speech",
    "synthesize",
    "write_clip",
    "write_dataset",
]

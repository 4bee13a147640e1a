"""Talking heads with known mouth opening and head pose, painted or made of a photograph: for the demo and tests, to
check metrics, and to train on.
"""

from portrait.synthetic.clip import SyntheticClip, render_clip, render_for_audio, render_photo
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
    "render_photo",
    "speech",
    "synthesize",
    "write_clip",
    "write_dataset",
]

"""Lance tables (clips, latents), the readers that feed training from them, model files and the starter weights.

Import from the modules: `portrait.storage.clips`, `.clip_windows`, `.latents`, `.checkpoints`, ….
"""

import os

# Lance logs a warning to stderr for every table that is created; errors still come through.
os.environ.setdefault("LANCE_LOG", "error")

"""Metrics of pictures, motion and lip sync, each checked against a closed form, other code or rendered truth.

Import from the modules: `portrait.metrics.reconstruction`, `.perceptual`, `.correlation`, `.lip_aperture`, ….
"""

"""Video, image files and sound in and out, on PyAV and Pillow: decoding, resampling, encoding, fragmented MP4."""

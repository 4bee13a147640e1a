"""Pictures and sound in and out, on PyAV: reading, resampling, storing, fragmented MP4."""

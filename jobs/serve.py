"""Serves talking portraits on this machine, or on the Ray cluster that `RAY_ADDRESS` names, until Ctrl-C."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from jobs.command_line import run


@dataclass(frozen=True, kw_only=True)
class ServeJob:
    """Serves talking portraits: a page in the browser, HTTP, and a WebSocket, until Ctrl-C.

    The first run needs nothing but `--preset tiny`, which ships with starter weights.
    """

    preset: str = "tiny"
    """`tiny`, `small` or `paper`."""
    vae: Path | None = None
    """The VAE's .safetensors file; by default the preset's starter weights."""
    generator: Path | None = None
    """The generator's .safetensors file; by default the preset's starter weights."""
    output: Path | None = None
    """Folder with the vae.safetensors and generator.safetensors to serve, in which the portraits are stored as well; by
    default the portraits are stored in runs/PRESET."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 means all interfaces."""
    port: int = 8000
    """Port to listen on."""
    max_sessions: int = 4
    """Most streams at a time."""
    threads: int = 1
    """CPU threads of each model."""
    gpus: float = 0.0
    """GPUs for the generator, and as many for the decoder; 0 serves from the CPU."""


def serve_arguments(job: ServeJob) -> dict:
    """The application's arguments (`serve_apps.arguments.StreamArgs`) that the flags describe."""
    model = {"threads": job.threads, "num_gpus": job.gpus}
    folder = job.output
    return {
        "preset": job.preset,
        "vae": _path(job.vae or (folder and folder / "vae.safetensors")),
        "generator": _path(job.generator or (folder and folder / "generator.safetensors")),
        "portraits": str((folder or Path("runs") / job.preset) / "portraits.lance"),
        "limits": {"max_sessions": job.max_sessions},
        "encoder_replicas": {"threads": job.threads},
        "generator_replicas": model,
        "decoder_replicas": model,
    }


def main(job: ServeJob) -> None:
    """Starts the application, prints its URL and waits."""
    from serve_apps.arguments import StreamArgs

    # Checked before Ray is imported, so that a wrong flag is reported at once.
    args = StreamArgs.model_validate(serve_arguments(job)).resolved()

    from ray import serve

    from portrait.cluster import connect
    from serve_apps.portrait_stream import start

    connect()
    print(f"starting preset {job.preset} …", flush=True)
    url = start(args, host=job.host, port=job.port)
    print(f"serving on {url} — open it in a browser; press Ctrl-C to stop", flush=True)
    try:
        while True:
            time.sleep(3600)
    finally:
        serve.shutdown()


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)


if __name__ == "__main__":
    run(main, ServeJob)

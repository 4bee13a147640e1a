"""`python -m jobs.serve`: flags to arguments, one line for what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from jobs.serve import ServeJob, serve_arguments
from serve_apps.arguments import StreamArgs


def test_flags_become_valid_arguments():
    args = StreamArgs.model_validate(
        serve_arguments(ServeJob(output=Path("runs/mine"), threads=2, gpus=1, max_sessions=3))
    )
    assert args.vae == "runs/mine/vae.safetensors"
    assert args.generator == "runs/mine/generator.safetensors"
    assert args.portraits == "runs/mine/portraits.lance"
    assert (
        args.generator_replicas.threads,
        args.decoder_replicas.num_gpus,
        args.encoder_replicas.num_gpus,
    ) == (2, 1, 0)
    assert args.limits.max_sessions == 3


def test_a_named_file_goes_before_the_folder():
    args = serve_arguments(ServeJob(output=Path("runs/mine"), vae=Path("other.safetensors")))
    assert args["vae"] == "other.safetensors"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--preset", "huge"], ("huge", "tiny")),
        (["--vae", "missing.safetensors"], ("missing.safetensors",)),
        (["--prot", "1"], ("prot",)),
    ],
)
def test_what_is_wrong_is_one_line_and_code_2(repository, flags, words):
    done = subprocess.run(
        [sys.executable, "-m", "jobs.serve", *flags],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if "Warning" not in line and line.strip()]
    assert len(lines) == 1, done.stderr
    assert all(word in lines[0] for word in words)

"""Convert a reference checkpoint (.pkl, .pt) to .safetensors and say what became of every key.

The result carries its config, class and lead names, units and sampling rate; nothing in the source
is executed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ecgcore import checkpoint
from ecgcore.cli.common import refuse_existing
from ecgcore.errors import CheckpointError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="CHECKPOINT")
    parser.add_argument("--out", metavar="FILE", help="(default: CHECKPOINT's name, .safetensors)")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")
    parser.add_argument("--config", metavar="JSON", help="what the checkpoint cannot tell")


def run(arguments: argparse.Namespace) -> int:
    source = Path(arguments.source)
    out = Path(arguments.out) if arguments.out else source.with_suffix(".safetensors")
    if out.suffix != ".safetensors":
        raise CheckpointError(f"{out}: the result is a .safetensors file")
    refuse_existing(out, force=arguments.force)
    model = checkpoint.load(source, config=arguments.config)
    checkpoint.save(model, out)
    print(getattr(model, "report", f"{source} already is a checkpoint of ecgcore; copied"))
    print(out)
    return 0
